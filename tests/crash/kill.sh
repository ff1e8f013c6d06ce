#!/bin/bash
# SIGKILL at random moments, under load: the daemon, a postmaster, a backend, all.
# After the next mount every acknowledged commit is there on every branch, what was
# acknowledged of branches too, no layer is left over, no old server lives.
#
# TORTURE_CYCLES: how often (default 8).
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
. "$(dirname "$0")/crashlib.sh"
seed

new_store
crash_conf
mount_only
bank_init main main 300
ok 'a child' mkdir "$MNT/child"
mkdir "$NOTES/bank.child"
banks=(main child)
cycle=0

# one_server KIND: the pid of a postmaster, or of one of its client backends.
one_server() {
	local pids pid

	mapfile -t pids < <(servers_here | while read -r pid; do
		if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q ' -c '; then
			[ "$1" = postmaster ] && echo "$pid"
		elif tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'postgres postgres'; then
			[ "$1" = backend ] && echo "$pid"
		fi
	done)
	[ ${#pids[@]} = 0 ] || echo "${pids[RANDOM % ${#pids[@]}]}"
}

# What goes on after it by itself must serve again: a daemon that lives restarts what
# it has lost.
kill_and_go_on() { # KIND
	local pid before

	pid=$(one_server "$1")
	[ -n "$pid" ] || return 0
	kill -KILL "$pid" 2>/dev/null
	count "killed_$1"
	before=$(acks_of main)
	wait_until "$DEADLINE" at_least main $((before + 10)) ||
		fail "main does not go on after the end of a $1"
}

churn_for_a_while() {
	churn_until_gone >/dev/null 2>&1 &
	churner=$!
	watch_pid "$churner"
}

look_at_all() {
	local b

	check_churn
	for b in "${banks[@]}"; do
		check_bank "$b" "$b"
	done
	check_ledger main "$cycle"
	check_snaps
	check_store
}

n=$(cycles 8)
for ((cycle = 0; cycle < n; cycle++)); do
	was=$test_failed
	kind=$((cycle % 4))
	for b in "${banks[@]}"; do
		bank_start "$b" "$b" 4 600
	done
	ledger_start main "$cycle" $((SEED + cycle)) 100000
	wait_until "$DEADLINE" at_least main $(($(acks_of main) + 20 + RANDOM % 200)) ||
		fail 'the load does not run'
	snap s0 main "$cycle"
	churn_for_a_while
	wait_until "$DEADLINE" at_least child $(($(acks_of child) + RANDOM % 300)) >/dev/null
	snap s1 main "$cycle"
	count_merged
	case $kind in
	0) kill_and_go_on postmaster ;;
	1) kill_and_go_on backend ;;
	2) # the daemon alone: its servers are told by the kernel, or fenced
		daemon=$(daemon_pid)
		kill -KILL "$daemon"
		wait_until "$DEADLINE" eval "! kill -0 $daemon 2>/dev/null"
		count killed_daemon
		;;
	3) count killed_all ;;
	esac
	if [ "$kind" = 2 ]; then
		take_off
	else
		kill_all
	fi
	kill "$churner" 2>/dev/null
	wait "$churner" 2>/dev/null
	load_end
	must_mount
	ok "cycle $cycle: no old server lives" test "$(servers_here | wc -l)" = 0
	look_at_all
	rm -rf "$MNT/main/data/ledger.$cycle" "$NOTES"/ledger.*
	count cycles
	[ "$test_failed" = "$was" ] || say "# that was cycle $cycle, kind $kind"
done

is "no promise was broken in $n cycles" "$test_failed" 0
print_figures
done_testing
