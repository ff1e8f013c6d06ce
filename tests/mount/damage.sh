#!/bin/bash
# Every kind of record and map x every kind of damage.  The daemon comes up, or says
# which file is wrong; the log names the file; what does not depend on it reads as
# before; what does gives an error, never other bytes; and when the file is put back,
# all is there again.
#
# What random damage hits is drawn with the seed that is printed: SEED=... to repeat.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
RANDOM=$SEED
say "seed $SEED"
cells=0

# --- a store of some layers

blocks() { # FILE BLOCK TEXT: 8 KiB of it
	yes "$3" | head -c 8192 | dd of="$1" bs=8192 seek="$2" conv=notrunc status=none
}

change() { # BRANCH: one of each kind, on top of what is there
	local work=$MNT/$1/data/work block

	for block in 1 3 5; do
		blocks "$work/seg" $((block + $2)) "$1 wrote this"
	done
	blocks "$work/sub/inner" "$2" "$1 inside"
	echo "only in $1" >"$work/new-$1"
	echo "only in $1" >"$work/sub/new-$1"
	chmod 0440 "$work/mode-$2"
	ln "$work/seg" "$work/link-$1"
	mv "$work/moved-$2" "$work/sub/moved-by-$1"
	rm "$work/gone-$2"
}

new_store
printf '[branch]\nreserve = 0\ntrash = 1d\n' >"$STORE/pgbranchfs.conf"
mount_only
mkdir "$MNT/empty" # it stands on what init made, and on nothing else
mkdir -p "$MNT/main/data/work/sub"
for name in seg sub/inner; do
	for block in 0 1 2 3 4 5 6 7; do
		blocks "$MNT/main/data/work/$name" $block "main, block $block"
	done
done
ln -s seg "$MNT/main/data/work/sym"
mkfifo "$MNT/main/data/work/pipe"
for i in 0 1 2; do
	for name in mode moved gone; do
		echo "$name $i" >"$MNT/main/data/work/$name-$i"
	done
done
mkdir "$MNT/a"
change a 0
mkdir "$MNT/b@a" "$MNT/sibling@a"
change b 1
mkdir "$MNT/c@b"
change c 2
# one that is in the trash, and stands on a; nothing may keep the others from their files
mkdir "$MNT/d@a"
change d 2
rmdir "$MNT/d"
unmount_store

# --- what is there

# snapshot FILE: a line for each thing that can be read, whatever else is damaged
snapshot() {
	(
		cd "$MNT" || exit
		find ./*/data/work ./*/data/PG_VERSION ./*/data/global/pg_control ! -type d \
			-printf 'stat %y %m %n %s %l %p\n'
		find ./*/data/work ./*/data/PG_VERSION ./*/data/global/pg_control -type f -print0 |
			xargs -0 timeout 60 md5sum
		find .trash/ -mindepth 1 -type d -printf 'trash %f /%f/data/\n'
	) 2>/dev/null | sed 's,^\([0-9a-f]\{32\}\)  ,sum \1 ,' | sort >"$1"
}

# serve: mounts in the foreground; 1: it refused
serve() {
	mkdir -p "$MNT"
	"$PGBRANCHFS" mount -f "$STORE" "$MNT" >"$TMP/daemon.log" 2>&1 </dev/null &
	daemon=$!
	watch_pid "$daemon"
	wait_until "$DEADLINE" up_or_ended || die "mount neither serves nor ends"
	is_mounted "$MNT"
}

up_or_ended() {
	is_mounted "$MNT" || ! kill -0 "$daemon" 2>/dev/null
}

# end: 0 if the daemon ended as it should
end() {
	timeout 60 "$PGBRANCHFS" umount "$MNT" >>"$TMP/umount.log" 2>&1 || return 1
	wait "$daemon"
}

test_mounts+=("$MNT")
serve || die "cannot mount"
snapshot "$TMP/before"
ok "there is something to lose" [ "$(wc -l <"$TMP/before")" -gt 150 ]
end || die "cannot unmount"

# --- which branches stand on a layer, from the records

declare -A chain # branch -> ids from its top down
key() { sed -n "s/^$2 = //p" "$STORE/$1"; }
for ini in "$STORE"/branches/*.ini; do
	name=$(basename "$ini" .ini)
	id=$(key "branches/$name.ini" base)
	chain[$name]=$(printf '%08x' "$(key "branches/$name.ini" top)")
	while [ "$id" != 0 ]; do
		chain[$name]+=" $(printf '%08x' "$id")"
		id=$(key "layers/$(printf '%08x' "$id")/layer.ini" parent)
	done
done

# on_layer ID: the branches, as a regular expression
on_layer() {
	local name out=nobody

	for name in "${!chain[@]}"; do
		[[ " ${chain[$name]} " != *" $1 "* ]] || out+="|$name"
	done
	printf '(%s)' "$out"
}

find "$STORE"/layers/*/names -type l -printf '%l %f\n' | sort -u >"$TMP/names"

# names_of FID: under which names a file is known in any layer
names_of() {
	printf '(%s)' "$(sed -n "s/^[a-z]$1\\.[^ ]* //p" "$TMP/names" | tr '\n' '|')nothing"
}

# may_fail PATH: a regular expression of what depends on it
may_fail() {
	local IFS=/ part id
	# shellcheck disable=SC2086 # the parts of the path
	set -- $1
	part=${3:-} id=${2:-}
	case $1/$part in
	branches/*) printf '/%s/data/' "$(basename "$2" .ini)" ;;
	layers/layer.ini) printf '/%s/data/' "$(on_layer "$id")" ;;
	layers/map | layers/attr)
		printf '/%s/data/.*/%s$' "$(on_layer "$id")" "$(names_of "$4")"
		;;
	layers/names)
		printf '/%s/data/(.*/)?%s(/|$)' "$(on_layer "$id")" "${5//./\\.}"
		;;
	esac
}

# --- damages: damage KIND PATH [OTHER], with the original in $TMP/kept

flip_byte() { # FILE OFFSET
	local byte

	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059 # an escape
	printf "\\x$(printf %02x $((byte ^ 1 << RANDOM % 8)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

damage_file() {
	local kind=$1 path=$2 size

	size=$(stat -c %s "$path")
	case $kind in
	empty) : >"$path" ;;
	half) truncate -s $((size / 2)) "$path" ;;
	first-bit) flip_byte "$path" 0 ;;
	some-bit) flip_byte "$path" $((RANDOM % size)) ;;
	last-bit) flip_byte "$path" $((size - 1)) ;;
	longer) echo x >>"$path" ;;
	zeroed) head -c "$size" /dev/zero >"$path" ;;
	garbage) yes "$RANDOM not a record " | head -c "$size" >"$path" ;;
	esac
}

# The same for the text of a symlink.
damage_text() {
	local kind=$1 path=$2 text at

	text=$(readlink "$path")
	at=$((RANDOM % ${#text}))
	case $kind in
	empty) text=x ;;
	half) text=${text:0:$((${#text} / 2))} ;;
	first-bit) text=e${text:1} ;;
	last-bit) text=${text%?}$([[ $text == *0 ]] && echo 1 || echo 0) ;;
	some-bit) text=${text:0:at}$([[ ${text:at:1} == 7 ]] && echo 6 || echo 7)${text:at+1} ;;
	longer) text+="0" ;;
	zeroed) text=${text//?/0} ;;
	garbage) text=$(head -c 30 /dev/urandom | md5sum | cut -c -${#text}) ;;
	esac
	ln -sfn "$text" "$path"
}

damage() {
	local kind=$1 path=$STORE/$2

	case $kind in
	fifo) rm "$path" && mkfifo "$path" ;;
	directory) rm "$path" && mkdir "$path" ;;
	missing) rm "$path" ;;
	*) if [ -L "$path" ]; then damage_text "$kind" "$path"; else damage_file "$kind" "$path"; fi ;;
	esac
}

keep() {
	rm -rf "$TMP/kept"
	tar -C "$STORE" -cf "$TMP/kept" "$@"
}

put_back() {
	local path

	for path in "$@"; do
		rm -rf "${STORE:?}/$path"
	done
	tar -C "$STORE" -xpf "$TMP/kept"
}

# --- one round: all paths are damaged at once, and must be seen one by one

# compare ROW PATH...: nothing but what depends on the paths may be missing
compare() {
	local row=$1 path allowed=/nothing/

	shift
	for path in "$@"; do
		allowed+="|$(may_fail "$path")"
	done
	snapshot "$TMP/now"
	comm -13 "$TMP/before" "$TMP/now" >"$TMP/wrong"
	comm -23 "$TMP/before" "$TMP/now" | grep -vE "$allowed" >"$TMP/lost"
	if [ -s "$TMP/wrong" ] || [ -s "$TMP/lost" ]; then
		fail "$row"
		sed 's/^/   wrong: /' "$TMP/wrong" | head -n 10
		sed 's/^/   lost:  /' "$TMP/lost" | head -n 10
		return 1
	fi
}

# The log names each file; a map only where nothing else keeps readers from it.
named_in_log() {
	local row=$1 path

	shift
	for path in "$@"; do
		[[ $path != */map/* || $# = 1 ]] || continue
		grep -qF "$path" "$TMP/daemon.log" || fail "$row: the log does not name $path"
	done
}

round() { # KIND PATH...
	local kind=$1 row path

	shift
	row="$kind: $*"
	cells=$((cells + $#))
	for path in "$@"; do
		[ "$kind" = swapped ] || damage "$kind" "$path"
	done
	if ! serve; then
		fail "$row: the mount was refused: $(cat "$TMP/daemon.log")"
		return
	fi
	compare "$row" "$@"
	named_in_log "$row" "$@"
	# makes the daemon look for layers that nobody needs
	if mkdir "$MNT/tmp@main" 2>/dev/null; then
		echo x >"$MNT/tmp/data/x"
		rmdir "$MNT/tmp" || fail "$row: rmdir"
		rmdir "$MNT"/.trash/tmp@* || fail "$row: rmdir in the trash"
	fi
	end || fail "$row: the daemon did not end well"
}

# all KIND PATH...: a round, then everything is put back
all() {
	keep "${@:2}"
	round "$@"
	put_back "${@:2}"
}

readable_again() {
	serve || die "cannot mount again: $(cat "$TMP/daemon.log")"
	snapshot "$TMP/now"
	ok "$1: all is there again" cmp "$TMP/before" "$TMP/now"
	if grep -E ' (error|warning): ' "$TMP/daemon.log"; then
		fail "$1: the log complains about what was put back"
	fi
	end || fail "$1: unmount"
}

cd "$STORE" || exit
records=(branches/{a,b,c,empty,sibling}.ini)
trashed=$(echo branches/d@*.ini)
mapfile -t layers < <(for l in layers/*/layer.ini; do
	[ "$l" = layers/00000001/layer.ini ] || echo "$l"
done)
# nobody reads what only the one in the trash has
unread=layers/$(printf '%08x' "$(key "$trashed" top)")/
mapfile -t maps < <(for map in layers/*/map/*; do # but not of what was removed
	[[ $map == $unread* || $(names_of "$(basename "$map")") == *gone-* ]] || echo "$map"
done)
mapfile -t attrs < <(printf '%s\n' layers/*/attr/* | grep -v "^$unread")
mapfile -t names < <(find layers/*/names -type l ! -path "$unread*" \( -name 'new-*' -o -name 'moved-*' \
	-o -name seg -o -name inner -o -name sub -o -name sym -o -name 'link-*' \) | sort)
cd /
say "${#records[@]} records, ${#layers[@]} layers, ${#maps[@]} maps," \
	"${#attrs[@]} attributes, ${#names[@]} names"
for count in ${#layers[@]} ${#maps[@]} ${#attrs[@]} ${#names[@]}; do
	ok "there are some of each kind" [ "$count" -gt 2 ]
done

kinds=(empty half first-bit some-bit last-bit longer zeroed garbage fifo directory)
turn=0
for kind in "${kinds[@]}"; do
	all "$kind" branches/a.ini branches/c.ini
	all "$kind" branches/b.ini branches/empty.ini branches/sibling.ini "$trashed"
	for path in "${layers[@]}"; do
		all "$kind" "$path"
	done
	all "$kind" "${maps[@]}"
	all "$kind" "${maps[turn % ${#maps[@]}]}"
	all "$kind" "${attrs[@]}"
	all "$kind" "${names[@]}"
	# one of each, another one each time: all the rest must be as before
	all "$kind" "${records[turn % ${#records[@]}]}" "${maps[turn % ${#maps[@]}]}" \
		"${attrs[turn % ${#attrs[@]}]}" "${names[turn * 7 % ${#names[@]}]}"
	turn=$((turn + 1))
	readable_again "$kind"
done
for path in "${layers[@]}"; do
	all missing "$path"
done
readable_again missing

# --- swapped with another of its kind
swap() { # PATH PATH
	keep "$1" "$2"
	mv "$STORE/$1" "$STORE/swap" && mv "$STORE/$2" "$STORE/$1" && mv "$STORE/swap" "$STORE/$2"
	round swapped "$1" "$2"
	put_back "$1" "$2"
}

swap "${records[0]}" "${records[1]}"
swap "${records[1]}" "${records[4]}"
swap "${records[2]}" "$trashed"
swap "${layers[0]}" "${layers[1]}"
swap "${maps[0]}" "${maps[1]}"
same=$(basename "${maps[0]}") # the same file's maps of two layers
mapfile -t twins < <(printf '%s\n' "${maps[@]}" | grep "/$same\$")
swap "${twins[0]}" "${twins[1]}"
first=${attrs[0]}
for other in "${attrs[@]}"; do # of two files: they are bound to those
	[ "$(basename "$other")" = "$(basename "$first")" ] || break
done
swap "$first" "$other"
readable_again swapped

# --- when nothing can be served, the sentence names the file
for kind in "${kinds[@]}"; do
	for path in format layers/00000001/layer.ini; do
		cells=$((cells + 1))
		keep "$path"
		damage "$kind" "$path"
		if serve; then
			fail "$kind: $path: it was mounted"
			end
		else
			wait "$daemon"
			like "$kind: $path: refused" "$(cat "$TMP/daemon.log")" "$path"
		fi
		put_back "$path"
	done
	# main's record alone: the others are served
	all "$kind" branches/main.ini
done
readable_again "refused mounts"
say "$cells cells"
done_testing
