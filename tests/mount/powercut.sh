#!/bin/bash
# A file is replaced by a rename and another one is fsynced: whatever a power cut leaves,
# the name means the old bytes or the new ones.  The disk is a file, and a copy of it
# is the disk after the cut: what the file system has not written is not in it.
# shellcheck disable=SC2119 # mount_store is called without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool losetup mkfs.ext4
[ -c /dev/loop-control ] || skip "there are no loop devices here"

disk=$TMP/disk
STORE=$disk/store
work=$MNT/main/data/work
try() {
	"$top_builddir/tests/mount/iotry" "$@"
}

# fill NAME BYTE: a file of it, not durable.
fill() {
	head -c 20000 /dev/zero | tr '\0' "$2" >"$work/$1"
}

free_disk() {
	umount "$disk" 2>/dev/null || umount -l "$disk" 2>/dev/null
}
cleaner free_disk

replace_and_cut() {
	local got

	mkdir "$work" "$work/one" "$work/two"
	fill one/file o
	is "the old bytes are durable" "$(try fsync "$work/one/file")" ok
	is "and their name" "$(try fsync-dir "$work/one")" ok
	is "and the directories" "$(try fsync-dir "$work")" ok
	fill one/new n
	is "so are the new ones" "$(try fsync "$work/one/new")" ok
	sync -f "$disk"
	is "the rename" "$(try rename "$work/one/new" "$work/one/file")" ok
	fill two/other x
	is "another file is fsynced" "$(try fsync "$work/two/other")" ok
	cp --reflink=never "$TMP/image" "$TMP/cut"
	unmount_store
	free_disk
	# it bears the same number as the first
	! command -v btrfs >/dev/null || btrfs device scan --forget >/dev/null 2>&1
	mount -o loop "$TMP/cut" "$disk" || die "the disk after the cut cannot be mounted"
	mount_only
	got=$(tr -s no <"$work/one/file" 2>&1)
	like "the old bytes or the new ones" "$got" '^[no]$'
	say "# after the cut: $got"
	ok "what was fsynced" test -s "$work/two/other"
	unmount_store
	free_disk
}

# on_disk TYPE MIB
on_disk() {
	say "# --- $1"
	rm -f "$TMP/image" "$TMP/cut"
	truncate -s "$2M" "$TMP/image"
	"mkfs.$1" -q "$TMP/image" || die "mkfs.$1 failed"
	mkdir -p "$disk"
	mount -o loop "$TMP/image" "$disk" || skip "no loop device can be mounted here"
	mount_store
	replace_and_cut
}

on_disk ext4 150
for type in btrfs xfs; do
	if command -v mkfs.$type >/dev/null && grep -qw $type /proc/filesystems; then
		on_disk $type 400
	else
		say "# there is no $type here"
	fi
done
done_testing
