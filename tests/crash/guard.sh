#!/bin/bash
# The daemon is killed while a thread of it waits for an answer of its own mount.  Such
# a process cannot end by itself, and all who ask the mount would wait with it: its
# guard ends the connection, and if that was killed as well, the next mount does.
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_root # others cannot abort a connection where fusectl is not mounted
need_fuse
need_postgres # for init
need_tool strace
. "$(dirname "$0")/crashlib.sh"

guard_of() { # DAEMON
	local dir

	for dir in /proc/[0-9]*; do
		grep -qaz -- "^--guard" "$dir/cmdline" 2>/dev/null &&
			grep -qaz -- "^$1$" "$dir/cmdline" 2>/dev/null &&
			echo "${dir#/proc/}"
	done
}

has_guard() {
	[ -n "$(guard_of "$daemon")" ]
}

# The listener's socket is made by the daemon in its own mount: the worker that makes
# it is killed, with all others, and who asked for it waits.
mount_to_be_killed() {
	mkdir -p "$MNT"
	strace -f --seccomp-bpf -o /dev/null -e trace=mknodat \
		-e inject=mknodat:signal=KILL:when=1 \
		"$PGBRANCHFS" mount -f "$STORE" "$MNT" >"$TMP/mount.log" 2>&1 &
	watch_pid $!
	disown # its end is no news
	settles 'mount' is_mounted "$MNT"
	settles 'it answers' test -e "$MNT/README"
	daemon=$(daemon_pid)
	settles 'it has a guard' has_guard
}

ask_for_the_socket() {
	stat "$MNT/main/.s.PGSQL.5432" >"$TMP/asked" 2>&1 &
	asker=$!
	watch_pid "$asker"
}

is_dying() {
	grep -qE '^(State:.*zombie|S[ih][gd]Pnd:.*[13579bdf]..$)' "/proc/$daemon/status"
}

is_gone() {
	! kill -0 "$1" 2>/dev/null
}

new_store
crash_conf
test_mounts+=("$MNT")

mount_to_be_killed
ask_for_the_socket
settles 'with a guard the daemon ends' is_gone "$daemon"
settles 'who asked has an answer' is_gone "$asker"
ok 'the next mount' mount_env
ok 'and it works' test -e "$MNT/main/.s.PGSQL.5432"
ok 'its end' "$PGBRANCHFS" umount "$MNT"
nok 'no guard is left' has_guard

mount_to_be_killed
kill -KILL "$(guard_of "$daemon")"
ask_for_the_socket
settles 'the daemon is killed' is_dying
nok 'without a guard it hangs' is_gone "$daemon"
ok 'the next mount ends it' mount_env
ok 'it is gone' is_gone "$daemon"
ok 'and the mount works' test -e "$MNT/main/.s.PGSQL.5432"
ok 'its end' "$PGBRANCHFS" umount "$MNT"
done_testing
