#!/bin/bash
# POSIX behaviour of data/: on a plain directory (the suite itself), in main, in a
# branch, and in a branch five levels deep, where all that is found lies in layers below.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool setpriv

# The helpers run as the owner of data/, whom permissions concern.
for helper in fileops posix/suite; do
	cp "$top_builddir/tests/mount/$helper" "$TMP/" || die "$helper is not built"
done
as_server=()
if [ "$(id -u)" = 0 ]; then
	as_server=(setpriv --reuid postgres --regid "$(id -g postgres)" --clear-groups)
fi
suite() {
	"${as_server[@]}" "$TMP/suite" "$@"
}

# new_dir PARENT: PARENT/work, of the server's user
new_dir() {
	mkdir "$1/work"
	[ "$(id -u)" != 0 ] || chown postgres: "$1/work"
}

mkdir "$TMP/plain"
new_dir "$TMP/plain"
# what the file system below takes, branches are to take, and nothing else
if truncate -s 9223372036854775807 "$TMP/plain/long" 2>/dev/null; then
	export SUITE_LONG_FILES=1
fi
rm -f "$TMP/plain/long"
ok "plain: prepare" suite prepare "$TMP/plain/work"
ok "plain: run" suite run "$TMP/plain/work"

mount_store
new_dir "$MNT/main/data"
ok "main: prepare" suite prepare "$MNT/main/data/work"

# touch_level WORK LEVEL: leaves something of this level in the way of each case
touch_level() {
	local low

	for low in "$1"/*/low; do
		# the first byte of the pattern
		printf '\001' | dd of="$low/f$2" bs=1 count=1 conv=notrunc 2>/dev/null
		chmod 0600 "$low/f$(($2 - 1))"
		touch "$low/d/level" && rm "$low/d/level"
	done
}

mkdir "$MNT/b1"
for level in 2 3 4 5; do
	touch_level "$MNT/b$((level - 1))/data/work" "$level"
	mkdir "$MNT/b$level@b$((level - 1))"
done
like "five levels" "$(cat "$MNT/b5/status")" $'\ndepth [5-9]'

for branch in b1 b5; do
	ok "$branch: run" suite run-branch "$MNT/$branch/data/work"
done
ok "main, files of its own: run" suite run-branch "$MNT/main/data/work"

if [ "$(id -u)" = 0 ]; then
	nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	nok "another user reads nothing" "${nobody[@]}" cat "$MNT/b1/data/PG_VERSION"
	nok "nor lists" "${nobody[@]}" ls "$MNT/b1/data"
fi

# Numbers: one an object in the whole tree, the same after a remount.
inodes() {
	local b

	for b in main b1 b3 b5; do
		"$TMP/fileops" inodes "$MNT/$b/data" | sed "s|\./|$b/|; s|linked|$b &|"
	done
}
# Attributes, the kernel's knowledge of them or the store's.
attributes() {
	local b

	for b in main b1 b3 b5; do
		find "$MNT/$b/data" -type l -printf '%p %m %n %s %T@ %l\n' -o \
			-printf '%p %y %m %n %s %T@ %A@\n'
	done | sort
}
inodes | sort -u >"$TMP/before"
is "inode numbers are unique" "$(cut -d' ' -f1 "$TMP/before" | uniq -d)" ""
ok "there are many" test "$(wc -l <"$TMP/before")" -gt 5000
sync -f "$MNT/main/data"
attributes >"$TMP/before.attributes"
unmount_store
mount_only
inodes | sort -u >"$TMP/after"
ok "inode numbers survive a remount" cmp "$TMP/before" "$TMP/after"
attributes >"$TMP/after.attributes"
ok "attributes survive it" diff "$TMP/before.attributes" "$TMP/after.attributes"

# What the runs left is there after the remount, in layers that were read from disk.
work=$MNT/b5/data/work
is "a renamed file, rewritten while open" "$(head -c 2 "$work/rename-open/low/f1")" "AB"
is "a file under its new name" "$(stat -c %s "$work/rename-noreplace/n1")" 40000
is "a link's count" "$(stat -c %h "$work/hard-links/h3")" 1
nok "an unlinked file" test -e "$work/hard-links/low/h1"
ok "the untouched level has its directory" test -d "$MNT/b2/data/work/rename-dirs/low/d/sub"
is "isolation" "$(stat -c %s "$MNT/b4/data/work/rename-open/low/f0")" 40000
unmount_store
done_testing
