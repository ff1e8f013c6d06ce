#!/bin/bash
# Clients of every kind meet a server in every state: who wakes it, who is held, who is
# told what.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool setpriv

crowd=$top_builddir/tests/pg/crowd

conf() { # IDLE_TIMEOUT
	printf '[branch]\nidle_timeout = %s\nstart_timeout = 20s\n' "$1" \
		>"$STORE/pgbranchfs.conf"
}

new_store
conf never
mount_only

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

# come MODE BRANCH N [OPTION...]: what came of N clients, without the times
come() {
	local mode=$1 branch=$2 n=$3

	shift 3
	"$crowd" "$@" "$mode" "$MNT/$branch/.s.PGSQL.5432" "$n" 2>>"$TMP/told" |
		cut -d ' ' -f 1-8
}

all_served() { # N
	echo "served $1 refused 0 closed 0 lost 0"
}

# As a server that its administrator stops: its branch sleeps then.
to_sleep() {
	kill -INT "$(status "$1" pid)"
	wait_until "$DEADLINE" reads "$MNT/$1/state" stopped || fail "$1 does not stop"
}

ok 'mkdir b' mkdir "$MNT/b"
is 'it can be started' "$(come query b 1)" "$(all_served 1)"

# --- who wakes a server, and who does not

to_sleep b
before=$(status b wakes)
is 'requests to cancel are answered by the end' "$(come cancel b 5)" \
	'served 0 refused 0 closed 5 lost 0'
is 'and wake nobody' "$(status b state) $(status b wakes)" "stopped $before"

leaving_wakes_nobody() {
	local before

	before=$(status b wakes)
	come silent b 5 >/dev/null
	come cancel b 1 >/dev/null # behind them in the queue
	[ "$(status b state) $(status b wakes)" = "stopped $before" ] && return
	to_sleep b # they were too slow: they were there for a while
	return 1
}
ok 'clients that leave at once wake nobody' wait_until "$DEADLINE" leaving_wakes_nobody

before=$(status b wakes)
"$crowd" -t 30 silent "$MNT/b/.s.PGSQL.5432" 3 >/dev/null &
silent=$!
watch_pid $silent
settles 'clients that connect and say nothing wake it' reads "$MNT/b/state" running
is 'others are served beside them' "$(come query b 3)" "$(all_served 3)"
is 'it was one start' "$(status b wakes)" $((before + 1))
kill $silent
wait $silent 2>/dev/null
to_sleep b
is 'who asks late to cancel has woken it' "$(come late b 1 -t 1)" \
	'served 0 refused 0 closed 1 lost 0'

to_sleep b
before=$(status b wakes)
is 'who asks for encryption first is told no, and served' \
	"$(come encrypt b 10)" "$(all_served 10)"
is 'that too was one start' "$(status b wakes)" $((before + 1))
is 'a running server says the same' "$(come encrypt b 3)" "$(all_served 3)"

# --- who leaves while the server starts

to_sleep b
"$crowd" query "$MNT/b/.s.PGSQL.5432" 20 >/dev/null &
leaving=$!
starts() {
	[[ $(cat "$MNT/b/state") =~ starting|running ]]
}
settles 'many come' starts
kill -KILL $leaving
wait $leaving 2>/dev/null || true
is 'and leave; the next ones are served' "$(come query b 5)" "$(all_served 5)"

# --- a query of a relayed client is cancelled

to_sleep b
psql -XqAt -h "$MNT/b" -U postgres -d postgres -c "select pg_sleep(600)" \
	>"$TMP/cancelled" 2>&1 &
relayed=$!
watch_pid $relayed
sleeps() {
	[ "$(sql b "select count(*) from pg_stat_activity where wait_event = 'PgSleep'")" = 1 ]
}
settles 'a client that woke a server waits in a query' sleeps
kill -INT $relayed
wait $relayed
like 'its request to cancel reaches the server' "$(cat "$TMP/cancelled")" \
	'canceling statement due to user request'

# --- a stop is under way when clients come

to_sleep b
conf 1s
kill -HUP "$(daemon_pid)"
is 'woken to become idle' "$(come query b 1)" "$(all_served 1)"
checkpointer=$(pgrep -P "$(status b pid)" -f checkpointer)
kill -STOP "$checkpointer"
cleaner eval "kill -CONT $checkpointer 2>/dev/null"
settles 'it is being stopped, which takes long' reads "$MNT/b/state" stopping
before=$(status b wakes)
come query b 5 >"$TMP/held" &
held=$!
watch_pid $held
is 'a request to cancel has an end all the same' "$(come cancel b 1)" \
	'served 0 refused 0 closed 1 lost 0'
is 'others wait meanwhile' "$(cat "$TMP/held")" ''
kill -CONT "$checkpointer"
wait $held
is 'and are served' "$(cat "$TMP/held")" "$(all_served 5)"
is 'by the next start' "$(status b wakes)" $((before + 1))
conf never
kill -HUP "$(daemon_pid)"

# --- the server is killed: who comes before its backends have ended is served

is_dead() { # PID: nobody has taken its status yet
	[[ $(cat "/proc/$1/stat") == *') Z '* ]]
}
cleaner eval "kill -CONT $(daemon_pid) 2>/dev/null"
for i in 1 2 3; do
	ok "mkdir crash$i" mkdir "$MNT/crash$i"
	sql "crash$i" 'create table t (n int)'
	for j in 1 2; do # a third within the minute would meet the restart limit
		sql "crash$i" "insert into t values ($j)"
		before=$(status "crash$i" wakes)
		pid=$(status "crash$i" pid)
		# so that its death and the clients are news at the same time
		kill -STOP "$(daemon_pid)"
		kill -KILL "$pid"
		wait_until "$DEADLINE" is_dead "$pid" || fail "$pid lives"
		come query "crash$i" 20 >"$TMP/came" &
		coming=$!
		kill -CONT "$(daemon_pid)"
		wait $coming
		is 'whoever comes at the moment of its death is served' \
			"$(cat "$TMP/came")" "$(all_served 20)"
		is 'by one start' "$(status "crash$i" wakes)" $((before + 1))
		is 'and nothing is lost' "$(sql "crash$i" 'select count(*) from t')" "$j"
	done
	rmdir "$MNT/crash$i"
done

# --- stopped by hand

echo stopped >"$MNT/b/state"
: >"$TMP/told"
is 'clients of a branch that was stopped by hand are refused' "$(come encrypt b 3)" \
	'served 0 refused 3 closed 0 lost 0'
like 'with the reason' "$(cat "$TMP/told")" \
	'^FATAL 57P03 branch "b" is stopped by hand .*running'
is 'but those that want to cancel' "$(come cancel b 1)" \
	'served 0 refused 0 closed 1 lost 0'

# --- a start that fails: a proper message, then it holds off, then it is mended

ok 'mkdir broken' mkdir "$MNT/broken"
chmod 755 "$MNT/broken"
echo 'no_such_setting = 1' >>"$MNT/broken/data/postgresql.conf"
chmod 755 "$TMP"
as_nobody() {
	setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}
: >"$TMP/told"
is 'clients of a server that cannot start are refused' \
	"$(as_nobody "$crowd" -u nobody query "$MNT/broken/.s.PGSQL.5432" 2 2>>"$TMP/told" |
		cut -d ' ' -f 1-8)" 'served 0 refused 2 closed 0 lost 0'
like 'with SQLSTATE 57P03 and the reason' "$(cat "$TMP/told")" \
	'^FATAL 57P03 branch "broken" could not be started: .*no_such_setting'
like '.error of their uid has it' "$(as_nobody cat "$MNT/.error")" \
	'^branch "broken" could not be started: .*no_such_setting'
like 'and where to look' "$(as_nobody cat "$MNT/.error")" "hint: $MNT/broken/log says more"
nok '.error of others has not' grep -q broken "$MNT/.error"
like 'status says why' "$(cat "$MNT/broken/status")" 'no_such_setting'
like 'the log too' "$(cat "$MNT/broken/log")" 'no_such_setting'
for i in 2 3; do
	come query broken 1 >/dev/null
done
is 'it was tried three times' "$(status broken wakes)" 3
: >"$TMP/told"
is 'then clients are refused' "$(come query broken 5)" 'served 0 refused 5 closed 0 lost 0'
is 'without a start' "$(status broken wakes)" 3
like 'and told when it is tried again' "$(cat "$TMP/told")" \
	'^FATAL 57P03 .*no_such_setting.*tried again in [0-9]+ s'
sed -i '/no_such_setting/d' "$MNT/broken/data/postgresql.conf"
ok 'mended and started by hand' eval "echo running >'$MNT/broken/state'"
is 'it serves' "$(come query broken 2)" "$(all_served 2)"
done_testing
