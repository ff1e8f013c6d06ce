#!/bin/bash
# Random reads, writes, mappings, truncations and allocations against an image in memory,
# on a plain directory first, then in a branch that is branched from all the while.
# PGBRANCHFS_OPS operations from PGBRANCHFS_SEED (printed).
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

fsx=$top_builddir/tests/mount/fsx
[ -x "$fsx" ] || die "fsx is not built"
ops=${PGBRANCHFS_OPS:-20000}
seed=${PGBRANCHFS_SEED:-$((RANDOM * 32768 + RANDOM))}
every=$((ops / 20 + 1))

mkdir "$TMP/plain"
ok "plain" "$fsx" -n "$((ops / 5))" -s "$seed" "$TMP/plain"

mount_store
mkdir "$MNT/main/data/fsx" "$MNT/b1"
for level in 2 3 4 5; do
	mkdir "$MNT/b$((level - 1))/data/level$level" "$MNT/b$level@b$((level - 1))"
done
ok "in a branch" "$fsx" -n "$ops" -s "$seed" -e "$every" -b "$MNT" \
	"$MNT/b5/data/fsx"
sum=$(cat "$MNT"/b5/data/fsx/* | cksum)
unmount_store
mount_only
is "the same after a remount" "$(cat "$MNT"/b5/data/fsx/* | cksum)" "$sum"
unmount_store
done_testing
