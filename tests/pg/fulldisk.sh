#!/bin/bash
# A store on a small file system that fills up: whoever needs space gets ENOSPC, nobody
# else notices, and when there is space again all goes on, without a remount.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool losetup mkfs.ext4 fallocate
[ -c /dev/loop-control ] || skip "there are no loop devices here"

# servers recover from a crash again and again, which a busy machine does slowly
DEADLINE=$((DEADLINE * 3))

fs_dir=$TMP/disk
filler=$fs_dir/filler
try() {
	"$top_builddir/tests/mount/iotry" "$@"
}

# new_disk TYPE MIB [MKFS-ARG...]: mounted at $fs_dir.
new_disk() {
	local type=$1 mib=$2

	shift 2
	mkdir -p "$fs_dir"
	truncate -s "${mib}M" "$TMP/image"
	"mkfs.$type" -q "$@" "$TMP/image" || die "mkfs.$type failed"
	mount -o loop "$TMP/image" "$fs_dir" || skip "no loop device can be mounted here"
}

free_disk() {
	umount "$fs_dir" 2>/dev/null || umount -l "$fs_dir" 2>/dev/null
	rm -f "$TMP/image"
}
cleaner free_disk

# All that is left, by whoever is allowed to take the last block.
fill_disk() {
	local size

	for size in 16M 1M 64K 4K; do
		dd if=/dev/zero bs=$size oflag=append conv=notrunc 2>/dev/null >>"$filler.$size"
	done
	sync -f "$fs_dir"
	for size in 64K 4K; do
		dd if=/dev/zero bs=$size oflag=append conv=notrunc 2>/dev/null >>"$filler.$size"
	done
}

empty_disk() {
	rm -f "$filler".*
	sync -f "$fs_dir"
}

# --- clients

# insert BRANCH N: one acknowledged row, noted outside of the store.
insert() {
	sql "$1" "insert into acked select $2, string_agg(md5(random()::text), '')
		from generate_series(1, 1000)" >/dev/null 2>>"$TMP/$1.errors" &&
		echo "$2" >>"$TMP/$1.acked"
}

# load BRANCH: until $TMP/stop is there.
load() {
	local n=$((${last[$1]:-0} * 100000))

	while [ ! -e "$TMP/stop" ]; do
		n=$((n + 1))
		insert "$1" $n || true
	done
}

# A branch that is only read, all the time, by somebody who connects four times a second:
# each time takes a line of the audit log, whose room is not endless.
reader() {
	while [ ! -e "$TMP/stop_reading" ]; do
		[ "$(sql reader 'select count(*) from t' 2>>"$TMP/reader.errors")" = 1000 ] ||
			echo failed >>"$TMP/reader.failed"
		echo >>"$TMP/reader.reads"
		sleep 0.25 # the pace that is meant
	done
}

# All acknowledged rows are there, by a scan and by the index.
has_all() {
	local got

	for setting in enable_seqscan enable_indexscan; do
		got=$(PGOPTIONS="-c $setting=off" sql "$1" 'select n from acked order by n')
		[ -z "$(comm -23 <(sort -u "$TMP/$1.acked") <(sort -u <<<"$got"))" ] || return 1
	done
}

accepts() {
	last[$1]=$((${last[$1]:-0} + 1))
	insert "$1" "$((last[$1] * 100000 + 99999))"
}

is_clean() {
	"$PGBIN/pg_amcheck" -h "$MNT/$1" -U postgres -d postgres --install-missing \
		--heapallindexed >"$TMP/amcheck.log" 2>&1 || {
		cat "$TMP/amcheck.log"
		return 1
	}
}

check_all() {
	local b

	for b in a b main reader; do
		[ ! -e "$TMP/$b.acked" ] || ok "$1: $b has what was acknowledged" has_all "$b"
		ok "$1: pg_amcheck of $b" is_clean "$b"
	done
}

errors_seen() {
	[ -s "$TMP/a.errors" ] && [ -s "$TMP/b.errors" ]
}

acked_some() {
	[ -s "$TMP/a.acked" ] && [ -s "$TMP/b.acked" ]
}

names() {
	(cd "$MNT" && printf '%s ' */)
	(cd "$STORE/branches" && printf '%s ' *.ini)
}

# full_or_done NAME COMMAND...: fails with ENOSPC and changes nothing, or works.
full_or_done() {
	local name=$1 before got

	shift
	before=$(names)
	got=$(try "$@")
	like "$name" "$got" '^(ENOSPC|ok)$'
	[ "$got" = ok ] || is "$name: nothing has changed" "$(names)" "$before"
	say "# $name: $got"
}

# --- the parts

# config RESERVE
config() {
	cat >"$STORE/pgbranchfs.conf" <<-CONF
		[branch]
		reserve = $1
		start_timeout = 180s
		[settings]
		shared_buffers = 4MB
		checkpoint_timeout = 5min
	CONF
}

below_reserve() {
	nok "mkdir below the reserve" mkdir "$MNT/a" 2>/dev/null
	is "is ENOSPC" "$(try mkdir "$MNT/a")" ENOSPC
	like "the sentence" "$(cat "$MNT/.error")" 'free space, less than its reserve of 1024 MiB'
	config 0
	kill -HUP "$(daemon_pid)"
	settles "mkdir when there is no reserve" mkdir "$MNT/a" 2>/dev/null
	[ -d "$MNT/a" ] || die "no branch can be made"
}

# A statement that takes all space there is, but what is needed to clean up.
one_fills_it() {
	local out

	fallocate -l 130M "$filler.first"
	sql a 'create table big (n int, pad text)'
	out=$(sql a "insert into big select g, repeat('x', 1000) from generate_series(1, 1000000) g" \
		-v VERBOSITY=verbose 2>&1)
	like "the statement that fills the disk fails" "$out" \
		'53100|No space left|connection to server was lost|server closed'
	say "# it said: $(head -n 1 <<<"$out")"
	ok "others are read" eval "[ \"\$(sql b 'select count(*) from t')\" = 1000 ]"
	fill_disk
	full_or_done "mkdir on a full disk" mkdir "$MNT/more"
	before=$(df --output=avail "$fs_dir" | tail -n 1)
	is "rmdir of a branch on a full disk" "$(try rmdir "$MNT/gone")" ok
	settles "frees its space" eval "[ \$(df --output=avail '$fs_dir' | tail -n 1) -gt $((before + 4096)) ]"
	empty_disk
	settles "a accepts writes" accepts a
	ok "a drops what it filled" sql a 'drop table big; checkpoint'
}

# Two under load while somebody else takes the space.
under_load() {
	local pids=() b n

	rm -f "$TMP/stop" "$TMP"/[ab].errors
	for b in a b; do
		load $b &
		pids+=($!)
		watch_pid $!
	done
	settles "the load runs" acked_some
	fill_disk
	full_or_done "mkdir" mkdir "$MNT/tried"
	full_or_done "mkdir of a running parent" mkdir "$MNT/tried2@a"
	full_or_done "mv" rename "$MNT/moved" "$MNT/moved2"
	while ! errors_seen && [ -z "${late:-}" ]; do
		fill_disk
		[ "$SECONDS" -lt $((start + 240)) ] || late=1
	done
	ok "both meet the full disk" errors_seen
	say "# they said: $(sed 's/^.*ERROR/ERROR/; s/^.*FATAL/FATAL/' "$TMP"/[ab].errors | sort | uniq -c | sort -rn | head -n 4)"
	touch "$TMP/stop"
	wait "${pids[@]}"
	fill_disk
	full_or_done "mkdir, nobody else at work" mkdir "$MNT/tried3"
	moved=moved
	[ -d "$MNT/moved" ] || moved=moved2
	full_or_done "mv, nobody else at work" rename "$MNT/$moved" "$MNT/moved3"
	# each is refused, and recorded as long as there is space for that
	for n in {1..500}; do
		mkdir "$MNT/x@nowhere" 2>/dev/null
	done
	fill_disk
	is "rmdir, when refusals filled the audit log" "$(try rmdir "$MNT/gone2")" ok
	ok "is recorded" grep -q '"verb":"discard","branch":"gone2".*"allowed"' "$STORE/audit.log"
	fill_disk
	say "# with $(df --output=avail "$fs_dir" | tail -n 1) KiB left: $(cat "$MNT"/[ab]/state | xargs)"
	empty_disk
	ok "running, by hand" eval "echo running >'$MNT/b/state'"
	for b in a b main; do
		settles "$b accepts writes" accepts $b
		ok "$b: a checkpoint" sql $b checkpoint
	done
	is "mkdir" "$(try mkdir "$MNT/after@a")" ok
	is "what it has" "$(sql after 'select count(*) from acked')" \
		"$(sql a 'select count(*) from acked')"
	is "rmdir" "$(try rmdir "$MNT/after")" ok
}

# on_disk TYPE MIB [MKFS-ARG...]
on_disk() {
	declare -gA last=()
	start=$SECONDS

	say "# --- $1"
	rm -f "$TMP"/*.acked "$TMP"/*.errors "$TMP"/reader.* "$TMP"/stop*
	new_disk "$@"
	STORE=$fs_dir/store
	new_store
	config 1G
	mount_only
	below_reserve
	sql main 'create table t (n int primary key, pad text); create table acked (n int primary key, pad text)'
	sql main "insert into t select g, repeat('x', 500) from generate_series(1, 1000) g; checkpoint"
	rmdir "$MNT/a"
	for b in a b reader gone gone2 moved; do
		mkdir "$MNT/$b"
	done
	for b in gone gone2; do
		sql $b "create table own as select g, repeat('x', 1000) from generate_series(1, 15000) g"
		echo stopped >"$MNT/$b/state"
	done
	sql b 'select 1' >/dev/null
	sql reader 'select 1' >/dev/null
	try create "$MNT/b/data/leftover" >/dev/null
	is "a file larger than the disk" "$(try fallocate "$MNT/b/data/leftover" 0 900000000)" ENOSPC
	reader &
	reader_pid=$!
	watch_pid $reader_pid
	one_fills_it
	under_load
	touch "$TMP/stop_reading"
	wait $reader_pid
	ok "it was read $(wc -l <"$TMP/reader.reads") times" test "$(wc -l <"$TMP/reader.reads")" -gt 10
	nok "and never failed" test -e "$TMP/reader.failed"
	[ ! -e "$TMP/reader.failed" ] || head -n 5 "$TMP/reader.errors"
	check_all "$1"
	unmount_store
	mount_only
	check_all "$1, after a remount"
	is "the file that was too large" "$(stat -c %s "$MNT/b/data/leftover")" 0
	unmount_store
	free_disk
	say "# $1: $((SECONDS - start)) seconds"
}

on_disk ext4 300 -m 0
if command -v mkfs.xfs >/dev/null && grep -qw xfs /proc/filesystems; then
	on_disk xfs 360
else
	say "# there is no XFS here"
fi
done_testing
