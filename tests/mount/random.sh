#!/bin/bash
# Random operations in a branch against a plain directory, over branches of branches,
# remounts, and rests after which it is loaded anew.  PGBRANCHFS_OPS operations from PGBRANCHFS_SEED (printed).
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

randops=$top_builddir/tests/mount/randops
[ -x "$randops" ] || die "randops is not built"
total=${PGBRANCHFS_OPS:-10000}
seed=${PGBRANCHFS_SEED:-$((RANDOM * 32768 + RANDOM))}
say "PGBRANCHFS_SEED=$seed PGBRANCHFS_OPS=$total"

# what is not used for a second leaves memory, also between two operations
new_store
printf '[branch]\nidle_timeout = 1s\n' >"$STORE/pgbranchfs.conf"
mount_only
not_loaded() {
	! grep -qx 'loaded 1' "$MNT"/*/status
}
mkdir "$TMP/plain" "$MNT/start" "$MNT/start/data/random"
branch=start
first=0
while [ "$first" -lt "$total" ]; do
	count=$((total - first < 1500 ? total - first : 1500))
	if ! "$randops" run "$seed" "$first" "$count" "$MNT" "$branch" "$TMP/plain" \
		>"$TMP/out"; then
		cat "$TMP/out"
		die "operations $first to $((first + count)) in branch $branch"
	fi
	cat "$TMP/out"
	pass "operations $first to $((first + count))"
	branch=$(tail -n 1 "$TMP/out")
	first=$((first + count))
	if ((first / 1500 % 2)); then
		after='a rest'
		settles "nothing is loaded" not_loaded
	else
		after='a remount'
		unmount_store
		mount_only
	fi
	ok "the same after $after" \
		"$randops" compare "$MNT/$branch/data/random" "$TMP/plain"
done
unmount_store
done_testing
