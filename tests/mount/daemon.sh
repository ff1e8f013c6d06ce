#!/bin/bash
# The daemon's life: what mount refuses, every way to end it, its death, and that
# it keeps no descriptor or thread that it does not need.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

# refused NAME REGEX COMMAND...: it fails with such a sentence.
refused() {
	local name=$1 regex=$2 out

	shift 2
	if out=$("$@" 2>&1 </dev/null); then
		fail "$name (should have failed)"
	else
		like "$name" "$out" "$regex"
	fi
}

ended() {
	! kill -0 "$1" 2>/dev/null
}

# --- what mount refuses
mount_store
mkdir "$TMP/other" "$TMP/empty"
refused "a second mount at the same place" "mounted at .* already" \
	"$PGBRANCHFS" mount "$STORE" "$MNT"
refused "a second mount of the store elsewhere" "is mounted already .process" \
	"$PGBRANCHFS" mount "$STORE" "$TMP/other"
refused "no store" "no such|cannot open" "$PGBRANCHFS" mount "$TMP/missing" "$TMP/other"
refused "a directory that is no store" "not a (pgbranchfs )?store|no store" \
	"$PGBRANCHFS" mount "$TMP/empty" "$TMP/other"
unmount_store
refused "no mountpoint" "make the directory|No such file" \
	"$PGBRANCHFS" mount "$STORE" "$TMP/missing"
: >"$TMP/file"
refused "a mountpoint that is a file" "not a directory|Not a directory" \
	"$PGBRANCHFS" mount "$STORE" "$TMP/file"
refused "a mountpoint in the store" "lie in each other" \
	"$PGBRANCHFS" mount "$STORE" "$STORE/branches"
refused "umount of what is not mounted" "no pgbranchfs is mounted" \
	"$PGBRANCHFS" umount "$MNT"
is "nothing was left mounted" "$(grep -c " $TMP/" /proc/self/mountinfo)" 0

# --- every way to end it; a server is running each time
settled_end() {
	settles "$1: the daemon ends" ended "$pid"
	nok "$1: nothing is mounted" is_mounted "$MNT"
	is "$1: no server is left" "$(servers_here)" ""
}

# starts: mounted, with a server
starts() {
	mount_only
	pid=$(daemon_pid)
	is "a server runs" "$(sql main "select 1")" 1
}

starts
ok "umount by pgbranchfs" timeout 60 "$PGBRANCHFS" umount "$MNT"
settled_end "pgbranchfs umount"
for sig in TERM INT; do
	starts
	kill -"$sig" "$pid"
	settled_end "SIG$sig"
done
if [ "$(id -u)" = 0 ]; then
	starts
	nok "umount with a server in it is refused" umount "$MNT"
	is "the server runs on" "$(sql main "select 1")" 1
	unmount_store
	mount_only
	pid=$(daemon_pid)
	ok "umount of a mount that nobody is in" umount "$MNT"
	settled_end "umount"

	starts
	ok "umount -l" umount -l "$MNT"
	settled_end "umount -l with a server"
	mount_only
	pid=$(daemon_pid)
	exec 9>"$MNT/main/data/held"
	ok "umount -l with an open file" umount -l "$MNT"
	settled_end "umount -l with an open file"
	exec 9>&-

	# a container that starts meanwhile has a copy of the mount
	mount_only
	pid=$(daemon_pid)
	# only this mount is made private: in a chroot the root cannot be
	# shellcheck disable=SC2016 # for the inner shell
	unshare -m --propagation unchanged \
		sh -c 'mount --make-private "$1" && exec sleep 1000' sh "$MNT" &
	watch_pid $!
	is_copied() {
		[ "$(cat "/proc/$!/comm" 2>/dev/null)" = sleep ] &&
			grep -q " $MNT " "/proc/$!/mountinfo"
	}
	settles "another namespace has it" is_copied
	ok "umount with a copy in another namespace" timeout 30 \
		"$PGBRANCHFS" umount "$MNT"
	settled_end "a copy in another namespace"
	kill $!
fi

# --- SIGKILL
starts
mkdir "$MNT/b"
sql b "create table t as select generate_series(1, 1000) i" || die "psql"
printf 'synced' | dd of="$MNT/b/data/synced" conv=fsync 2>/dev/null
sync "$MNT/b/data"
kill -KILL "$pid"
# at once: the kernel still knows the attributes of the mount's root
settles "the dead daemon is gone" ended "$pid"
mount_only
is "fsynced data is there" "$(cat "$MNT/b/data/synced")" synced
is "committed data is there" "$(sql b "select count(*) from t")" 1000
unmount_store

mount_only
kill -KILL "$(daemon_pid)"
settles "umount of a dead mount" timeout 30 "$PGBRANCHFS" umount "$MNT"
nok "it is off" is_mounted "$MNT"

# --- descriptors and threads.  The rule: what a branch had open is closed when it
# is gone; files of the branches that stay may be in the cache of descriptors.  The
# first cycle opens those, and each cycle opens the same ones.
mount_only
pid=$(daemon_pid)
helper=$top_builddir/tests/mount/fileops
cycle() {
	mkdir "$MNT/c" || return 1
	"$helper" hold "$MNT/c/data" 300 >"$TMP/hold" || {
		cat "$TMP/hold"
		return 1
	}
	rmdir "$MNT/c"
}
fds() {
	find "/proc/$pid/fd" -mindepth 1 | wc -l
}
threads() {
	find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l
}
no_more_fds() {
	[ "$(fds)" -le "$1" ]
}
ok "a first cycle" cycle
before=$(fds) threads_before=$(threads)
failed=0
for ((i = 0; i < ${PGBRANCHFS_CYCLES:-100}; i++)); do
	cycle || failed=$((failed + 1))
done
is "cycles that failed" "$failed" 0
say "# descriptors: $before before, $(fds) after; threads: $(threads)"
settles "no descriptor is left over" no_more_fds "$before"
is "threads" "$(threads)" "$threads_before"
unmount_store

# --- few descriptors
(
	ulimit -n 256
	timeout 120 "$PGBRANCHFS" mount "$STORE" "$MNT"
) || die "mount with 256 descriptors"
pid=$(daemon_pid)
like "the daemon has 256 descriptors" "$(grep 'open files' "/proc/$pid/limits")" " 256 +256 "
mkdir "$MNT/few"
ok "2000 open files" "$helper" many "$MNT/few/data/base" 2000
ok "within the limit" no_more_fds 256
unmount_store
done_testing
