#!/bin/bash
# The daemon is killed under load and mount is called at once: it takes off what is left
# of the old mount, ends the old servers, mounts, and the branches recover.  Nothing that
# was acknowledged is lost, nothing old is left, and it is quick.
#
# TORTURE_CYCLES: how often (default 3).  How long it took is printed, not judged: the
# machine may be busy.
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root # for bind mounts, and to see what others have open
PGBENCH=$(command -v pgbench || compgen -G "$PGBIN/pgbench") || skip 'there is no pgbench'
. "$(dirname "$0")/crashlib.sh"
seed

slow_postgres
new_store
crash_conf '[server]' "bin_dir = $TMP/bin"
mount_only

# --- those who are in the mount, or wait for it, when the daemon dies

is_gone() {
	! kill -0 "$1" 2>/dev/null
}

ok 'mkdir slow' mkdir "$MNT/slow"
(cd "$MNT/slow/data" && exec sleep 1000) &
inside=$!
watch_pid $inside
exec 8<"$MNT/main/data/base/1/1259"
mkdir "$TMP/bound"
ok 'a bind mount' mount --bind "$MNT" "$TMP/bound"
cleaner eval 'mountpoint -q "$TMP/bound" && umount -l "$TMP/bound"'
touch "$TMP/hold"
sql slow 'select 1' >"$TMP/waiting.log" 2>&1 &
waiting=$!
watch_pid $waiting
settles 'a client waits for a start that takes long' reads "$MNT/slow/state" starting

kill -KILL "$(daemon_pid)"
ok 'mount, at once' mount_env
settles 'who waited is told' is_gone $waiting
like 'that its connection is gone' "$(cat "$TMP/waiting.log")" \
	'server closed the connection|reset by peer'
is 'no server is left of the start' "$(servers_here)" ''
nok 'nor what was to become one' pgrep -f "^/bin/sh $TMP/bin/postgres"
like 'an open file of before gives an error' "$(cat <&8 2>&1)" \
	'not connected|aborted|Input/output'
exec 8<&-
like 'a working directory of before, too' "$(ls "/proc/$inside/cwd/" 2>&1)" 'not connected'
like 'and a bind mount' "$(ls "$TMP/bound" 2>&1)" 'not connected'
daemon=$(daemon_pid)
ok 'umount of the dead bind mount' "$PGBRANCHFS" umount "$TMP/bound"
nok 'takes it off' mountpoint -q "$TMP/bound"
is 'and leaves the daemon alone' "$(daemon_pid)" "$daemon"
rm "$TMP/hold"
is 'the next client wakes it' "$(sql slow 'select 1')" 1
ok 'bound again' mount --bind "$MNT/slow" "$TMP/bound"
is 'it serves there' "$(psql -XqAt -h "$TMP/bound" -U postgres -d postgres -c 'select 2')" 2
umount "$TMP/bound"
kill $inside
# a backend that looks at nothing does not see that its server died
PGAPPNAME=busy sql slow 'do $$ begin loop perform 1; end loop; end $$' >/dev/null 2>&1 &
watch_pid $!
busy=
is_busy() {
	busy=$(sql slow "select pid from pg_stat_activity
		where application_name = 'busy' and state = 'active'")
	[ -n "$busy" ]
}
settles 'a backend is busy' is_busy
daemon=$(daemon_pid) server=$(sed -n 's/^pid //p' "$MNT/slow/status")
kill -STOP "$daemon" # or it would tell the server, or see its end
kill -KILL "$server" "$daemon"
is 'it outlives its server' "$(readlink "/proc/$busy/exe")" "$PGBIN/postgres"
ok 'mount' mount_env
settles 'but not the mount' is_gone "$busy"
is 'nobody of them does' "$(servers_here)" ''

ok 'rmdir slow' rmdir "$MNT/slow"

# --- the load: pgbench on main, a bank on child; both note what was acknowledged

"$PGBENCH" -h "$MNT/main" -U postgres -i -q postgres >"$TMP/pgbench.log" 2>&1 ||
	die "pgbench -i"
bank_init main child 300
ok 'mkdir child' mkdir "$MNT/child"

# pgbench_load: until it is ended.  It notes an acknowledged transaction as a line, and
# ends itself when its connections are lost.
pgbench_load() {
	local n=0 pid=

	trap 'kill $pid; wait $pid; exit' TERM
	while :; do
		n=$((n + 1))
		"$PGBENCH" -h "$MNT/main" -U postgres -n -c 4 -T 3600 -l \
			--log-prefix="$NOTES/pgbench.$n" postgres >"$TMP/pgbench.log" 2>&1 &
		pid=$!
		wait $pid
		sleep 0.05 # it could not connect
	done
}

transactions() {
	sql main 'select count(*) from pgbench_history'
}

has_transactions() {
	[ "$(transactions 2>/dev/null || echo 0)" -ge "$1" ]
}

check_pgbench() {
	local acked

	acked=$(cat "$NOTES"/pgbench.* | wc -l)
	count commits_checked "$acked"
	is 'pgbench: acknowledged, and not there' "$(sql main "
		select greatest($acked - count(*), 0) from pgbench_history")" 0
	is 'pgbench: its sums are right' "$(sql main '
		select (select sum(delta) from pgbench_history) = all (values
			((select sum(abalance) from pgbench_accounts)),
			((select sum(tbalance) from pgbench_tellers)),
			((select sum(bbalance) from pgbench_branches)))')" t
}

go_on() { # N
	local before

	before=$(transactions)
	wait_until "$DEADLINE" has_transactions $((before + $1)) || fail 'pgbench does not go on'
	wait_until "$DEADLINE" at_least child $(($(acks_of child) + $1)) ||
		fail 'the bank does not go on'
}

# --- what was there before the kill

# "pid birth" of all servers, their memory segments, and files in /dev/shm.
note_old() {
	local pid

	for pid in $(servers_here); do
		echo "$pid $(pid_birth "$pid")"
	done >"$TMP/old.pids"
	awk 'NF > 2 { print $4 }' "$STORE"/run/*.pid >"$TMP/old.segments"
	while read -r pid _; do
		grep -o '/dev/shm/PostgreSQL[^ ]*' "/proc/$pid/maps" 2>/dev/null
	done <"$TMP/old.pids" | sort -u >"$TMP/old.shm"
}

# look_at_old: what became of them, in one step; the clock is running.
look_at_old() {
	sed 's,\([0-9]*\) .*,/proc/\1/stat,' "$TMP/old.pids" | xargs -r cat >"$TMP/old.stat" 2>/dev/null
}

# Those that lived then; one that is dead may still wait for its parent.
old_servers() {
	sed 's/^\([0-9]*\) (.*) /\1 /' "$TMP/old.stat" | awk '
		NR == FNR { born[$1] = $2; next }
		$2 != "Z" && born[$1] == $21 { print $1 }' "$TMP/old.pids" -
}

old_memory() {
	awk 'NR == FNR { old[$1]; next } $2 in old { print $2 }' "$TMP/old.segments" \
		/proc/sysvipc/shm
	xargs -r ls <"$TMP/old.shm" 2>/dev/null
}

no_old_memory() {
	[ -z "$(old_memory)" ]
}

guards() {
	pgrep -c -f -- "--guard [0-9]+ [0-9]+ $MNT"
}

look_around() {
	is 'one mount' "$(grep -c " $MNT " /proc/self/mountinfo)" 1
	is 'one daemon' "$(daemons_here | wc -l)" 1
	is 'one guard' "$(guards)" 1
	settles 'no memory of old servers' no_old_memory
	check_store
	check_churn
	check_pgbench
	check_bank child child
}

kill_it() {
	note_old
	daemon=$(daemon_pid)
	begin=$(now_ms)
	kill -KILL "$daemon"
	count killed_daemon
}

mount_again() {
	must_mount
	mounted=$(now_ms)
	look_at_old
}

# ask BRANCH: the first query; notes when it was answered.
ask() {
	is "$1 answers" "$(sql "$1" 'select 5')" 5
	now_ms >"$TMP/answered.$1"
}

# one_of BRANCH STATE...
is_one_of() {
	[[ " ${*:2} " == *" $(cat "$MNT/$1/state" 2>/dev/null) "* ]]
}

churn_for_a_while() {
	churn_until_gone >/dev/null 2>&1 &
	churner=$!
	watch_pid $churner
}

pgbench_load &
load_pids+=($!)
watch_pid $!
bank_start child child 2 36000
churner=
times=()
n=$(cycles 3)
for ((cycle = 0; cycle < n; cycle++)); do
	was=$test_failed
	go_on $((20 + RANDOM % 100))
	[ $((cycle % 3)) != 2 ] || churn_for_a_while
	kill_it
	if [ $((cycle % 3)) = 1 ]; then # again, while a server starts
		mount_again
		is 'no old server lived' "$(old_servers)" ''
		wait_until "$DEADLINE" is_one_of main starting running
		kill_it
	fi
	mount_again
	ask main &
	pids=($!)
	ask child &
	pids+=($!)
	wait "${pids[@]}"
	end=$(sort -n "$TMP"/answered.* | tail -n 1)
	times+=($((end - begin)))
	[ -z "$churner" ] || wait "$churner"
	churner=
	say "# mounted after $((mounted - begin)) ms, answered after $((end - begin)) ms"
	is 'no old server lived' "$(old_servers)" ''
	look_around
	count cycles
	[ "$test_failed" = "$was" ] || say "# that was cycle $cycle"
done
load_end

is "no promise was broken in $n cycles" "$test_failed" 0
mapfile -t times < <(printf '%s\n' "${times[@]}" | sort -n)
late=0
for ms in "${times[@]}"; do
	[ "$ms" -le 5000 ] || late=$((late + 1))
done
say "# back, from the kill to an answer of both branches: median ${times[n / 2]} ms," \
	"worst ${times[n - 1]} ms, over 5 s: $late of $n; load $(cut -d' ' -f1 /proc/loadavg)"
count back_over_5s "$late"
print_figures
done_testing
