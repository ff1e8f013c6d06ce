#!/bin/bash
# POSIX behaviour of data/: on a plain directory (the test itself), in main, in a
# branch, and in a branch five levels deep, where all that is found lies in layers below.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

# The helper runs as the owner of data/, whom permissions concern.
cp "$top_builddir/tests/mount/fileops" "$TMP/fileops" || die "fileops is not built"
as_server=()
if [ "$(id -u)" = 0 ]; then
	need_tool setpriv
	as_server=(setpriv --reuid postgres --regid "$(id -g postgres)" --clear-groups)
fi
fileops() {
	"${as_server[@]}" "$TMP/fileops" "$@"
}

# new_dir PARENT: PARENT/work, of the server's user
new_dir() {
	mkdir "$1/work"
	[ "$(id -u)" != 0 ] || chown postgres: "$1/work"
}

mkdir "$TMP/plain"
new_dir "$TMP/plain"
ok "plain: prepare" fileops prepare "$TMP/plain/work"
ok "plain: run" fileops run "$TMP/plain/work"

mount_store
new_dir "$MNT/main/data"
ok "main: prepare" fileops prepare "$MNT/main/data/work"

mkdir "$MNT/b1"
for level in 2 3 4 5; do
	# each level owns some of what the cases use, and a bit of others
	printf '\001' | dd of="$MNT/b$((level - 1))/data/work/low/f$((level + 20))" \
		bs=1 count=1 conv=notrunc 2>/dev/null
	chmod 0600 "$MNT/b$((level - 1))/data/work/low/f$level"
	mkdir "$MNT/b$level@b$((level - 1))"
done
like "five levels" "$(cat "$MNT/b5/status")" $'\ndepth [5-9]'

ok "branch: run" fileops run "$MNT/b1/data/work"
ok "five levels deep: run" fileops run "$MNT/b5/data/work"
ok "main, files of its own: run" fileops run "$MNT/main/data/work"

mkdir "$MNT/again"
new_dir "$MNT/again/data/base"
ok "files of a branch's own: prepare" fileops prepare "$MNT/again/data/base/work"
ok "files of a branch's own: run" fileops run "$MNT/again/data/base/work"

# Numbers: one an object in the whole tree, the same after a remount.
inodes() {
	local b

	for b in main b1 b3 b5 again; do
		"$TMP/fileops" inodes "$MNT/$b/data" | sed "s|\./|$b/|; s|linked|$b &|"
	done
}
inodes | sort -u >"$TMP/before"
is "inode numbers are unique" "$(cut -d' ' -f1 "$TMP/before" | uniq -d)" ""
ok "there are many" test "$(wc -l <"$TMP/before")" -gt 5000
unmount_store
mount_only
inodes | sort -u >"$TMP/after"
ok "inode numbers survive a remount" cmp "$TMP/before" "$TMP/after"

# What the runs left is there after the remount, in layers that were read from disk.
f=$MNT/b5/data/work/low/f8
is "a renamed file, rewritten while open" "$(head -c 2 "$f")" "AB"
is "a file under its new name" "$(stat -c %s "$MNT/b5/data/work/n1")" 40000
is "a link's count" "$(stat -c %h "$MNT/b5/data/work/h3")" 1
nok "an unlinked file" test -e "$MNT/b5/data/work/low/h1"
ok "the untouched level has its directory" test -d "$MNT/b3/data/work/low/d1/sub"
is "isolation" "$(stat -c %s "$MNT/b3/data/work/low/f7")" 40000
unmount_store
done_testing
