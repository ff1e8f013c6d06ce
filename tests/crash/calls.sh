#!/bin/bash
# The daemon is killed at every Nth system call of some kinds, by strace.
#
# TORTURE_CYCLES: how many system calls (default 16), spread over the kinds.
# shellcheck disable=SC2016 # for eval
. "$(dirname "$0")/pointlib.sh"
need_tool strace

# system calls that change the store, and those that make it durable
CALLS=(fsync fdatasync 'renameat,renameat2' unlinkat 'symlinkat,mkdirat' pwrite64
	'ftruncate,fallocate' openat)

# Without --seccomp-bpf, with which strace 6.1 sends no signal.
at_call() { # CALLS N
	mkdir -p "$MNT"
	strace -f -o /dev/null -e trace="$1" \
		-e inject="$1:signal=KILL:when=$2" \
		"$PGBRANCHFS" mount -f "$STORE" "$MNT" >"$TMP/mount.out" 2>&1 &
	watch_pid $!
	disown # its end is no news
	wait_until "$DEADLINE" eval 'is_mounted "$MNT" || [ -z "$(daemons_here)" ]' &&
		is_mounted "$MNT" && workload
	after_workload "system call $1 number $2"
}

# system calls: the first ones each, then further and further on
n=$(cycles 16)
for ((i = 0; i < n; i++)); do
	kind=$((i % ${#CALLS[@]}))
	round=$((i / ${#CALLS[@]}))
	at_call "${CALLS[kind]}" $((1 + round * 3 + RANDOM % (3 + round * 2)))
done
# in long runs some come later than the workload goes
ok 'the daemon was killed there' test "${figures[killed_there]:-0}" -ge $((n / 4))

end_of_points
