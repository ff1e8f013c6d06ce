#!/bin/bash
# The main job: wake, isolation, branches of branches, rename, stop, idle, remount.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[branch]
idle_timeout = 0
[settings]
shared_buffers = 16MB
CONF
mount_only

state_is() {
	reads "$MNT/$1/state" "$2"
}

is 'main sleeps' "$(cat "$MNT/main/state")" stopped
is 'connecting wakes it' "$(sql main 'select 6 * 7')" 42
is 'main runs' "$(cat "$MNT/main/state")" running
sql main 'create table t (id int primary key, who text)'
sql main "insert into t select g, 'main' from generate_series(1, 1000) g"

# --- isolation, and a chain of five

ok 'mkdir b1' mkdir "$MNT/b1"
sql b1 "update t set who = 'b1' where id <= 10"
sql main "update t set who = 'main again' where id > 990"
is 'main does not see b1' "$(sql main "select count(*) from t where who = 'b1'")" 0
is 'b1 does not see main' "$(sql b1 "select count(*) from t where who = 'main again'")" 0
is 'b1 sees itself' "$(sql b1 "select count(*) from t where who = 'b1'")" 10

parent=b1
for level in 2 3 4 5; do
	ok "mkdir b$level@$parent" mkdir "$MNT/b$level@$parent"
	sql "b$level" "insert into t values (10000 + $level, 'b$level')"
	parent=b$level
done
for level in 1 2 3 4 5; do
	is "b$level has the rows of its line" \
		"$(sql "b$level" 'select count(*) from t where id > 10000')" $((level - 1))
done
is 'parent says so' "$(cat "$MNT/b5/parent")" b4

# --- a running branch is renamed: the session lives on, the server too

coproc SESSION { exec psql -X -q -A -t -h "$MNT/b5" -U postgres -d postgres 2>&1; }
ask() {
	echo "$1" >&"${SESSION[1]}"
	read -r -t 30 answer <&"${SESSION[0]}" || answer='no answer'
}
ask 'select 1;'
is 'a session is open' "$answer" 1
ok 'mv of a running branch' mv "$MNT/b5" "$MNT/five"
ask 'select count(*) from t where id > 10000;'
is 'the session lives on' "$answer" 4
ask "select 'x' from (select pg_switch_wal()) s;"
is 'and writes' "$answer" x
ok 'a checkpoint after the rename' sql five checkpoint
nok 'the old name is gone' test -e "$MNT/b5"
like 'url follows' "$(cat "$MNT/five/url")" '/five$'
is 'url works' "$(psql -XqAt "$(cat "$MNT/five/url")" -c 'select count(*) from t where id > 10000')" 4
ok 'the log is readable' grep -q 'ready to accept connections' "$MNT/five/log"

# --- rmdir of a running branch ends its sessions and frees its space

before=$(du -sk "$STORE/layers" | cut -f1)
ok 'rmdir of a running branch' rmdir "$MNT/five"
ask 'select 2;'
like 'its session ends' "$answer" 'terminat|closed|no answer|abnormally|FATAL'
freed() {
	[ "$(du -sk "$STORE/layers" | cut -f1)" -lt "$before" ]
}
settles 'the space is freed' freed
is 'its parent is well' "$(sql b4 'select count(*) from t where id > 10000')" 3
ok 'rmdir of a parent' rmdir "$MNT/b2"
is 'the child of a discarded parent is well' \
	"$(sql b3 'select count(*) from t where id > 10000')" 2
is 'and says that it is gone' "$(cat "$MNT/b3/parent")" 'b2 (gone)'
no_server_of_five() {
	! grep -aq five /proc/[0-9]*/cmdline 2>/dev/null
}
settles 'its server is gone' no_server_of_five

# --- by hand

ok 'stopped by hand' eval "echo stopped >'$MNT/b3/state'"
is 'it is stopped' "$(cat "$MNT/b3/state")" stopped
like 'a client is told so' "$(sql b3 'select 1' 2>&1)" 'stopped by hand'
like 'with its SQLSTATE' "$(PGOPTIONS='' psql -X -h "$MNT/b3" -U postgres -d postgres \
	-c 'select 1' -v VERBOSITY=verbose 2>&1)" 'stopped by hand'
is 'it stays stopped' "$(cat "$MNT/b3/state")" stopped
ok 'running by hand' eval "echo running >'$MNT/b3/state'"
is 'it runs' "$(cat "$MNT/b3/state")" running
is 'and serves' "$(sql b3 'select 1')" 1
nok 'other words are refused' eval "echo asleep >'$MNT/b3/state' 2>/dev/null"

# --- a running parent under load: what was acknowledged is in the branch

for mode in on off; do
	sql main "create table acked_$mode (n int)"
	(
		i=0
		while [ ! -e "$TMP/stop_$mode" ]; do
			i=$((i + 1))
			echo "insert into acked_$mode values ($i);"
			echo "\\! echo $i > $TMP/acked_$mode"
		done
	) | PGOPTIONS="-c synchronous_commit=$mode" psql -X -q -h "$MNT/main" -U postgres \
		-d postgres >"$TMP/load.log" 2>&1 &
	watch_pid $!
	settles "the load with synchronous_commit=$mode runs" test -s "$TMP/acked_$mode"
	for n in 1 2 3 4 5; do
		acked=$(cat "$TMP/acked_$mode")
		mkdir "$MNT/load$n" || fail "mkdir load$n"
		got=$(sql "load$n" "select coalesce(max(n), 0) from acked_$mode")
		ok "branch $n has the $acked acknowledged rows (synchronous_commit=$mode)" \
			test "$got" -ge "${acked:-0}"
		is 'without a gap' "$(sql "load$n" \
			"select count(*) = coalesce(max(n), 0) from acked_$mode")" t
		rmdir "$MNT/load$n"
	done
	touch "$TMP/stop_$mode"
	wait $!
done

# --- a remount brings all back; idle servers stop, busy ones do not

unmount_store
is 'no server is left' "$(servers_here)" ''
printf '[branch]\nidle_timeout = 2s\n' >"$STORE/pgbranchfs.conf"
mount_only
is 'b4 after a remount' "$(sql b4 'select count(*) from t where id > 10000')" 3
settles 'an idle server stops' state_is b4 stopped
like 'cleanly' "$(cat "$MNT/b4/log")" 'database system is shut down'
(
	echo "begin; select 'here';"
	while [ ! -e "$TMP/enough" ]; do sleep 0.1; done
) | psql -X -q -h "$MNT/b4" -U postgres -d postgres >"$TMP/held.log" 2>&1 &
watch_pid $!
settles 'a session wakes it' grep -q here "$TMP/held.log"
since=$(sed -n 's/^since //p' "$MNT/b4/status")
end=$((SECONDS + 6)) # three times the idle timeout
while [ $SECONDS -lt $end ] && state_is b4 running; do sleep 0.2; done
is 'its transaction keeps it awake' "$(cat "$MNT/b4/state")" running
is 'without a restart' "$(sed -n 's/^since //p' "$MNT/b4/status")" "$since"
touch "$TMP/enough"
settles 'when it is gone the server stops' state_is b4 stopped
is 'and wakes again' "$(sql b4 'select 1')" 1
ls -lR "$MNT" >/dev/null 2>&1
is 'looking around wakes nobody' "$(cat "$MNT/b1/state")" stopped
done_testing
