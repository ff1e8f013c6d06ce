#!/bin/bash
# A system call on the store fails: the request that met it fails with that errno and
# changes nothing, the next one works, and what the mount shows is what the disk has.
# A failed fsync is not forgotten.  A build without fault points tries the full disk only.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

iotry=$top_builddir/tests/mount/iotry
[ -x "$iotry" ] || die "iotry is not built"
PGBRANCHFS_FAULT_FILE=$TMP/fault
export PGBRANCHFS_FAULT_FILE

# fault LINE...: those calls fail from now on.
fault() {
	rm -f "$TMP/fault.hit"
	printf '%s\n' "$@" >"$TMP/fault.new"
	mv "$TMP/fault.new" "$TMP/fault"
}

fault_off() {
	rm -f "$TMP/fault"
}

was_hit() {
	[ -s "$TMP/fault.hit" ]
}

# All that a directory shows.
tree() {
	(cd "$1" && find . -printf '%P %y %m %n %l\n' | sort &&
		find . -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

# do_op DIR OP NAME [ARG...]: names are below DIR.
do_op() {
	local dir=$1 op=$2 name=$3

	shift 3
	case $op in
	link | rename) set -- "$dir/$1" ;;
	esac
	"$iotry" "$op" "$dir/$name" "$@"
}

# sync_all DIR: every file and directory of it.
sync_all() {
	find "$1" -type f -exec "$iotry" fsync {} \; | sort -u
	find "$1" -type d -exec "$iotry" fsync-dir {} \; | sort -u
}

# prepared DIR: what the cells find there.
prepared() {
	local name

	mkdir "$1" "$1/dir" "$1/sub"
	for name in a b sub/x; do
		head -c 40000 /dev/zero | tr '\0' o >"$1/$name"
	done
	ln -s a "$1/symlink"
	chmod 0640 "$1/sub/x"
}

mount_store
prepared "$MNT/main/data/work"
is "the files are on disk" "$(sync_all "$MNT/main/data/work" | sort -u)" ok

cells=0
declare -A kept

# cell FAULT WANT PRE OP...: in a branch of its own PRE (an operation; with a "+" at its
# end it is not made durable) is done, then OP under FAULT answers WANT and changes nothing, then works.
# A second branch leaves it at the failure.
cell() {
	local fault=$1 want=$2 pre=$3 no dir what before got
	local -a op

	shift 3
	what="$fault: $*"
	for no in "c$cells" "d$cells"; do
		mkdir "$MNT/$no" || die "mkdir $no"
		dir=$MNT/$no/data/work
		read -r -a op <<<"${pre%+}"
		[ -z "$pre" ] || [ "$(do_op "$dir" "${op[@]}")" = ok ] || fail "$what: before: $pre"
		[[ -z $pre || $pre == *+ ]] || sync_all "$dir" >/dev/null
		before=$(tree "$dir")
		fault "$fault"
		got=$(do_op "$dir" "$@")
		is "$what" "$got" "$want"
		ok "$what: was met" was_hit
		fault_off
		case $1 in
		write* | read | fsync) ;;
		*) is "$what: changes nothing" "$(tree "$dir")" "$before" ;;
		esac
		case $no in
		c*)
			is "$what: works afterwards" "$(do_op "$dir" "$@")" ok
			is "$what: and is durable" "$(sync_all "$dir" | sort -u)" ok
			kept[$no]=$(tree "$dir")
			;;
		*) case $1 in
			write* | fsync) ;; # the kernel's pages are newer than the disk
			*) kept[$no]=$before ;;
			esac ;;
		esac
	done
	cells=$((cells + 1))
}

# done_all_the_same FAULT PRE OP...: the failure is one that OP can do without.
done_all_the_same() {
	local fault=$1 no=e$cells dir

	shift
	mkdir "$MNT/$no" || die "mkdir $no"
	dir=$MNT/$no/data/work
	# shellcheck disable=SC2086 # words
	[ -z "$1" ] || do_op "$dir" $1 >/dev/null
	shift
	# shellcheck disable=SC2086 # one fault a line
	fault $'\n' "$fault"
	is "$fault: $* is done all the same" "$(do_op "$dir" "$@")" ok
	# what lost its name is removed when the kernel has let go of it
	settles "$fault: is met" was_hit
	fault_off
	is "$fault: and is durable" "$(sync_all "$dir" | sort -u)" ok
	kept[$no]=$(tree "$dir")
	cells=$((cells + 1))
}

# sticks FAULT WANT OP...: OP fails, and so does fsync from then on, of this file
# or directory, until the next mount; others work.
stuck=()
sticks() {
	local fault=$1 want=$2 no=s$cells dir again

	shift 2
	mkdir "$MNT/$no" || die "mkdir $no"
	dir=$MNT/$no/data/work
	case $1 in
	fsync-dir)
		do_op "$dir" create new >/dev/null
		again=(fsync-dir "$2")
		;;
	*) again=(fsync "$2") ;;
	esac
	fault "$fault"
	is "$fault: $*" "$(do_op "$dir" "$@")" "$want"
	ok "$fault: was met" was_hit
	fault_off
	is "$fault: fsync fails again" "$(do_op "$dir" "${again[@]}")" "$want"
	is "$fault: and again" "$(do_op "$dir" "${again[@]}")" "$want"
	is "$fault: reading works" "$(do_op "$dir" read b 0 40000)" ok
	is "$fault: another branch works" "$(do_op "$MNT/main/data/work" write-fsync b 0 1)" ok
	stuck+=("$dir ${again[*]}")
	cells=$((cells + 1))
}

bytes_cells() {
	local code

	for code in EIO ENOSPC; do
		cell "cowfile.pwrite $code" $code '' write-fsync a 0 8192
		cell "cowfile.pwrite $code" $code 'write-fsync a 0 40000' write-fsync a 0 8192
		cell "cowfile.pwrite $code" $code '' write-fsync a 40960 100000
		cell "cowfile.copy-up $code" $code '' write-fsync a 0 4096
		cell "layer.create $code /delta/" $code '' write-fsync a 0 8192
		cell "layer.create-size $code /delta/" $code '' write-fsync a 0 8192
		cell "fd.mkdir $code layers/" $code '' write-fsync a 0 8192
		cell "fd.mkdir $code /delta" $code '' write-fsync a 0 8192
		cell "fd.mkdir $code /map" $code '' write-fsync a 0 8192
		cell "fd.replace.open $code /map/" $code '' write-fsync a 0 8192
		cell "fd.replace.write $code /map/" $code '' write-fsync a 0 8192
		cell "fd.replace.fsync $code /map/" $code '' write-fsync a 0 8192
		cell "fd.replace.rename $code /map/" $code '' write-fsync a 0 8192
		# a map that must be on disk before the file may grow again
		cell "fd.replace.write $code /map/" $code 'truncate a 10+' write-fsync a 8192 8192
		cell "cowfile.ftruncate $code" $code '' truncate a 10
		cell "cowfile.ftruncate $code" $code '' truncate a 100000
		cell "cowfile.fallocate $code" $code '' fallocate a 0 100000
		cell "layer.create $code /delta/" $code '' truncate a 10
	done
}

name_cells() {
	local code

	for code in EIO ENOSPC; do
		cell "layer.create $code /full/" $code '' create new
		cell "fd.mkdir $code /full" $code '' create new
		cell "fd.mkdir $code /names" $code '' create new
		cell "layer.symlink $code /names/" $code '' create new
		cell "fd.mkdir $code /names/" $code '' mkdir new
		cell "layer.symlink $code /names/" $code '' mkdir new
		cell "layer.make-other $code" $code '' mkfifo new
		cell "layer.make-other $code" $code '' symlink new target
		cell "layer.symlink $code /names/" $code '' symlink new target
		cell "layer.symlink $code /attr/" $code '' link a new
		cell "layer.symlink $code /names/" $code '' link a new
		cell "layer.symlink $code /attr/" $code '' chmod a 0640
		cell "layer.symlink $code /names/" $code '' rename a new
		cell "layer.whiteout $code" $code '' rename a new
		cell "layer.whiteout $code" $code '' rename a b
		cell "layer.whiteout $code" $code '' rename sub new
		cell "layer.move $code" $code 'create new' rename new newer
		cell "layer.move $code" $code 'create new' rename new b
		cell "layer.symlink $code /names/" $code '' unlink a
		cell "layer.symlink $code /names/" $code '' rmdir dir
		cell "layer.unlink $code" $code 'create new' unlink new
		cell "layer.unlink $code" $code 'mkdir new' rmdir new
		# without RENAME_WHITEOUT: the second of the two steps
		cell "layer.whiteout EINVAL"$'\n'"layer.symlink-rename $code /a" $code '' rename a new
		cell "layer.whiteout EINVAL"$'\n'"layer.symlink-rename $code /a" $code '' rename a b
	done
	cell "overlay.stat EIO /full/" EIO '' create new
	cell "overlay.stat EIO /full/" EIO '' symlink new target
	done_all_the_same "layer.symlink-rename ENOSPC /a" '' rename a new
	done_all_the_same "layer.whiteout EINVAL" '' rename a b
	done_all_the_same "layer.remove EIO" 'create new' unlink new
}

sync_cells() {
	sticks "bfile.fdatasync EIO /delta/" EIO write-fsync a 0 8192
	sticks "bfile.fdatasync ENOSPC /delta/" ENOSPC write-fsync a 0 8192
	sticks "fd.sync-dir EIO /delta" EIO write-fsync a 0 8192
	sticks "fd.sync-dir EIO /map" EIO write-fsync a 0 8192
	sticks "fd.sync-dir EIO /full" EIO fsync-dir .
	sticks "fd.sync-dir EIO /names/" EIO fsync-dir .
}

names_on_disk() {
	(cd "$STORE/branches" && printf '%s\n' *.ini | sed 's/\.ini$//' | sort)
}

names_shown() {
	(cd "$MNT" && printf '%s\n' */ | sed 's,/$,,' | sort)
}

# branch_cell FAULT WANT COMMAND...: COMMAND fails so, and works afterwards.
branch_cell() {
	local fault=$1 want=$2 before got

	shift 2
	before=$(names_shown)
	fault "$fault"
	got=$("$iotry" "$@")
	is "$fault: $1 of a branch" "$got" "$want"
	ok "$fault: was met" was_hit
	fault_off
	is "$fault: the same branches" "$(names_shown)" "$before"
	is "$fault: the same on disk" "$(names_on_disk)" "$before"
	is "$fault: $1 works afterwards" "$("$iotry" "$@")" ok
	is "$fault: mount and disk agree" "$(names_on_disk)" "$(names_shown)"
	cells=$((cells + 1))
}

branch_cells() {
	local code n=0

	for code in EIO ENOSPC; do
		for step in open write fsync rename; do
			n=$((n + 1))
			branch_cell "fd.replace.$step $code branches/" $code mkdir "$MNT/m$code$n"
			# main's top has something: its layer.ini comes first
			"$iotry" write-fsync "$MNT/main/data/work/b" 0 "$n" >/dev/null
			branch_cell "fd.replace.$step $code layer.ini" $code mkdir "$MNT/l$code$n"
		done
		branch_cell "registry.rename $code" $code rename "$MNT/m$code$n" "$MNT/r$code$n"
		branch_cell "registry.unlink $code" $code rmdir "$MNT/r$code$n"
	done
}

# checkpoint_cell FAULT WANT COMMAND...: as branch_cell, of a checkpoint of w.
checkpoint_cell() {
	local fault=$1 want=$2 before got

	shift 2
	before=$(ls "$MNT/w/checkpoints")
	fault "$fault"
	got=$("$iotry" "$@")
	is "$fault: $1 of a checkpoint" "$got" "$want"
	ok "$fault: was met" was_hit
	fault_off
	is "$fault: the same checkpoints" "$(ls "$MNT/w/checkpoints")" "$before"
	is "$fault: $1 works afterwards" "$("$iotry" "$@")" ok
	cells=$((cells + 1))
}

# rollback_cell FAULT: it fails, w is as it was, and it works afterwards.
rollback_cell() {
	echo 2 >"$MNT/w/data/v"
	mkdir "$MNT/w/checkpoints/now"
	fault "$1"
	nok "$1: rollback" eval "echo c 2>/dev/null >'$MNT/w/rollback'"
	ok "$1: was met" was_hit
	fault_off
	is "$1: the same state" "$(cat "$MNT/w/data/v")" 2
	ok "$1: works afterwards" eval "echo c >'$MNT/w/rollback'"
	is "$1: with the old state" "$(cat "$MNT/w/data/v")" 1
	rmdir "$MNT"/w/checkpoints/now "$MNT"/w/checkpoints/before-*
	cells=$((cells + 1))
}

checkpoint_cells() {
	local code step no C=$MNT/w/checkpoints

	mkdir "$MNT/w"
	echo 1 >"$MNT/w/data/v"
	mkdir "$C/c"
	no=$(sed -n 's/^no //p' "$MNT/w/status")
	for code in EIO ENOSPC; do
		for step in open write fsync rename; do
			echo "$step" >"$MNT/w/data/other"
			checkpoint_cell "fd.replace.$step $code branches/$no@" $code mkdir "$C/k"
			checkpoint_cell "fd.replace.$step $code branches/$no@" $code \
				rename "$C/k" "$C/l"
			checkpoint_cell "registry.unlink $code branches/$no@" $code rmdir "$C/l"
			rollback_cell "fd.replace.$step $code branches/w.ini"
			rollback_cell "fd.replace.$step $code branches/$no@"
		done
	done
	unmount_store
	mount_only
	is "after a remount: the checkpoints" "$(ls "$C")" c
	is "after a remount: the state" "$(cat "$MNT/w/data/v")" 1
	rmdir "$C/c" "$MNT/w"
}

# The directory of records: what failed is taken back, and nothing is promised any more.
records_stick() {
	local before op

	before=$(names_shown)
	for op in "mkdir $MNT/never" "rename $MNT/c0 $MNT/never" "rmdir $MNT/d0"; do
		fault "fd.sync-dir EIO branches"
		# shellcheck disable=SC2086 # words
		is "fsync of branches/: $op" "$("$iotry" $op)" EIO
		fault_off
		is "the same branches" "$(names_shown)" "$before"
		is "the same on disk" "$(names_on_disk)" "$before"
		# shellcheck disable=SC2086 # words
		is "not as if it had worked: $op" "$("$iotry" $op)" EIO
		unmount_store
		mount_only
	done
	is "another branch works" "$(do_op "$MNT/main/data/work" write-fsync b 0 1)" ok
}

# What is read once after a mount.  Each needs a mount of its own.
load_cells() {
	local line before

	before=$(tree "$MNT/c0/data/work")
	for line in "load.open EIO /names" "load.readdir EIO /names" "load.readdir EIO /full" \
		"load.readdir EIO /map" "load.readdir EIO /attr" "load.open ENOMEM /full" \
		"fd.read-file EIO /map/" "bfile.open EIO /full/" "bfile.open EIO /delta/" \
		"cowfile.pread EIO full" "cowfile.pread EIO delta" "load.readlink EIO"; do
		unmount_store
		mount_only
		fault "$line"
		nok "$line: reading fails" eval "tree '$MNT/c0/data/work' 2>/dev/null >'$TMP/tree'"
		ok "$line: was met" was_hit
		fault_off
		ok "the daemon lives" is_mounted "$MNT"
		case $line in
		load.readlink*) ;; # those names are refused until the next mount
		*) is "$line: reads afterwards" "$(tree "$MNT/c0/data/work" 2>&1)" "$before" ;;
		esac
		cells=$((cells + 1))
	done
	for line in "registry.readdir EIO branches" "registry.readdir EIO layers"; do
		unmount_store
		before=$(find "$STORE/branches" "$STORE/layers" -maxdepth 1 | sort)
		fault "$line"
		nok "$line: no mount" timeout 60 "$PGBRANCHFS" mount "$STORE" "$MNT" 2>/dev/null
		fault_off
		mount_only
		is "$line: nothing is lost" \
			"$(find "$STORE/branches" "$STORE/layers" -maxdepth 1 | sort)" "$before"
		cells=$((cells + 1))
	done
}

counts() {
	[ "$(sql "$1" 'select count(*) from s' 2>/dev/null)" = "$2" ]
}

# A server PANICs on a failed fsync.  What was only put off is over with the next
# start; what is lost stays an error until the next mount, and then comes from the WAL.
server_cells() {
	mkdir "$MNT/srv"
	sql srv 'create table s (n int primary key); insert into s select generate_series(1, 100)'
	fault "fd.replace.write ENOSPC /map/"
	nok "a checkpoint that finds no space" sql srv checkpoint 2>/dev/null
	ok "was met" was_hit
	fault_off
	settles "the server recovers when there is space" counts srv 100
	ok "and writes" sql srv 'insert into s values (101); checkpoint'
	fault "bfile.fdatasync EIO /delta/"
	nok "a checkpoint whose fsync fails" sql srv 'update s set n = -n; checkpoint' 2>/dev/null
	ok "was met" was_hit
	fault_off
	nok "the fsync is not taken for done" sql srv 'insert into s values (102); checkpoint' \
		2>"$TMP/said"
	say "# $(head -n 2 "$TMP/said")"
	settles "others run" eval "[ \"\$(sql main 'select 1')\" = 1 ]"
	unmount_store
	mount_only
	like "after a remount" "$(sql srv 'select count(*) from s where abs(n) <= 101' 2>&1)" '^101$'
	ok "and it writes" sql srv 'insert into s values (1000); checkpoint'
	echo stopped >"$MNT/srv/state"
	echo stopped >"$MNT/main/state"
}

with_faults() {
	local no entry dir op

	server_cells
	bytes_cells
	name_cells
	branch_cells
	checkpoint_cells
	sync_cells
	records_stick
	ok "the daemon lives" is_mounted "$MNT"
	unmount_store
	mount_only
	for no in "${!kept[@]}"; do
		is "branch $no after a remount" "$(tree "$MNT/$no/data/work" 2>&1)" "${kept[$no]}"
	done
	for entry in "${stuck[@]}"; do
		read -r dir op <<<"$entry"
		# shellcheck disable=SC2086 # words
		is "after a remount: $op in $dir" "$(do_op "$dir" $op)" ok
	done
	load_cells
	say "# $cells cells"
}

# A store that is full, with nothing injected: what was acknowledged is there, the rest
# is as it was.
full_store() {
	local dir before shown

	STORE=$TMP/small/store
	MNT=$TMP/mnt2
	mkdir "$TMP/small"
	mount -t tmpfs -o size=128m none "$TMP/small" || {
		say "# no tmpfs can be mounted here: the full store is not tried"
		return
	}
	cleaner umount -l "$TMP/small"
	new_store
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	mount_only
	dir=$MNT/full/data/work
	prepared "$MNT/main/data/work"
	mkdir "$MNT/full" "$MNT/other"
	"$iotry" create "$dir/own" >/dev/null
	before=$(tree "$dir")
	dd if=/dev/zero of="$TMP/small/filler" bs=64k 2>/dev/null
	dd if=/dev/zero of="$TMP/small/filler2" bs=1k 2>/dev/null
	is "a write" "$(do_op "$dir" write-fsync a 0 8192)" ENOSPC
	is "a longer file" "$(do_op "$dir" fallocate own 0 100000)" ENOSPC
	is "the file is as long as it was" "$(stat -c %s "$dir/own")" 0
	is "mkdir of a branch" "$("$iotry" mkdir "$MNT/more")" ENOSPC
	like "the sentence" "$(cat "$MNT/.error")" "No space left on device"
	is "reading" "$(do_op "$MNT/other/data/work" read b 0 40000)" ok
	is "rmdir of a branch" "$("$iotry" rmdir "$MNT/other")" ok
	rm "$TMP/small/filler" "$TMP/small/filler2"
	is "a write when there is space" "$(do_op "$dir" write-fsync b 0 8192)" ok
	is "and an fsync of the file that had none" "$(do_op "$dir" write-fsync a 0 8192)" ok
	is "mkdir when there is space" "$("$iotry" mkdir "$MNT/more")" ok
	shown=$(tree "$dir")
	nok "it was written" test "$shown" = "$before"
	unmount_store
	mount_only
	is "after a remount" "$(tree "$dir")" "$shown"
	unmount_store
}

if grep -q 'define ENABLE_FAULT_POINTS 1' "$top_builddir/config.h"; then
	with_faults
else
	say "# this build has no fault points: nothing is injected"
fi
if [ "$(id -u)" = 0 ]; then
	full_store
else
	say "# not root: no file system to fill"
fi
done_testing
