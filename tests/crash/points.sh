#!/bin/bash
# The daemon is killed at each named fault point and at every Nth system call of some
# kinds, while branches are made, renamed and discarded and files are written.  What
# was promised before must be there after the next mount, and no more than that.
#
# Fault points need a build with --enable-fault-points; system calls need strace.
# TORTURE_CYCLES: how many system calls (default 16), spread over the kinds; with it a
# later pass of each point is tried, too.
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres # for init
need_tool strace
. "$(dirname "$0")/crashlib.sh"
seed

# system calls that change the store, and those that make it durable
CALLS=(fsync fdatasync 'renameat,renameat2' unlinkat 'symlinkat,mkdirat' pwrite64
	'ftruncate,fallocate' openat)

cycle=0

# workload: until it is over or the daemon is gone.
workload() {
	local i

	ledger_start main "$cycle" $((SEED + cycle)) 800
	for ((i = 0; i < 6; i++)); do
		churn_one || return 0
		snap "s$i" main "$cycle" || return 0
		if [ "$i" = 2 ]; then
			# a branch of a branch, and one that is written
			# shellcheck disable=SC2046 # two numbers
			snap s9 s2 "$cycle" \
				$(sed -n 's/^made s2 [^ ]* //p' "$NOTES/snaps") || return 0
			ledger_start s9 "$cycle.9" $((SEED + cycle)) 300
		fi
		churn_one || return 0
	done
	load_wait
}

# After a crash: everything that was promised.
check_all() {
	must_mount
	check_churn
	check_ledger main "$cycle"
	[ ! -e "$NOTES/ledger.$cycle.9" ] || ! grep -q '^made s9' "$NOTES/snaps" ||
		check_ledger s9 "$cycle.9"
	check_snaps
	check_store
	rm -rf "$MNT/main/data/ledger.$cycle" "$NOTES"/ledger.*
	timeout 120 "$PGBRANCHFS" umount "$MNT" || die "umount after a crash"
}

after_workload() { # WHAT
	local was=$test_failed

	if [ -z "$(daemons_here)" ]; then
		count killed_there
	else
		count not_reached
		say "# not reached: $1"
	fi
	kill_all
	load_end
	check_all
	cycle=$((cycle + 1))
	count cycles
	[ "$test_failed" = "$was" ] || say "# that was $1, cycle $((cycle - 1))"
}

at_point() { # NAME N
	mount_env PGBRANCHFS_FAULT="$1:$2" && workload
	after_workload "fault point $1, pass $2"
}

at_call() { # CALLS N
	mkdir -p "$MNT"
	strace -f --seccomp-bpf -o /dev/null -e trace="$1" \
		-e inject="$1:signal=KILL:when=$2" \
		"$PGBRANCHFS" mount -f "$STORE" "$MNT" >"$TMP/mount.out" 2>&1 &
	watch_pid $!
	disown # its end is no news
	wait_until "$DEADLINE" eval 'is_mounted "$MNT" || [ -z "$(daemons_here)" ]' &&
		is_mounted "$MNT" && workload
	after_workload "system call $1 number $2"
}

new_store
crash_conf
# rmdir is a step of two then, and some come back
sed -i 's/^reserve = 0$/&\ntrash = 1h/' "$STORE/pgbranchfs.conf"
test_mounts+=("$MNT")

# named points, if this build has them
points=$(grep -rhoE 'FAULT_POINT\("[a-z.-]+"\)' "$top_srcdir/src" | sed 's/.*("//; s/")//' |
	sort -u)
if grep -q 'define ENABLE_FAULT_POINTS' "$top_builddir/config.h"; then
	for point in $points; do
		at_point "$point" 1
	done
	# an error path, a file system without order, a cut in front of a growing file
	is 'most named points were reached' \
		"$((${figures[not_reached]:-0} * 3 <= $(wc -w <<<"$points")))" 1
	for point in $points; do
		[ -z "${TORTURE_CYCLES:-}" ] || at_point "$point" $((2 + RANDOM % 8))
	done
else
	say '# no fault points in this build'
fi

# system calls: the first ones each, then further and further on
n=$(cycles 16)
for ((i = 0; i < n; i++)); do
	kind=$((i % ${#CALLS[@]}))
	round=$((i / ${#CALLS[@]}))
	at_call "${CALLS[kind]}" $((1 + round * 3 + RANDOM % (3 + round * 2)))
done

is "no promise was broken in $cycle crashes" "$test_failed" 0
print_figures
done_testing
