#!/bin/bash
# When a branch may sleep: every sign of activity, what does not count, what the stop leaves.
# PGBRANCHFS_LONG: waits for what happens every five minutes, too.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

# conf IDLE_TIMEOUT [LINE]: writes the configuration.
conf() {
	cat >"$STORE/pgbranchfs.conf" <<-CONF
		[branch]
		idle_timeout = $1
		${2:-}
		[settings]
		shared_buffers = 16MB
		wal_level = logical
	CONF
}

reloads() {
	grep -c 'configuration was read again' "$TMP/daemon.log"
}

# reload ARG...: the same, for the daemon that runs.
reload() {
	local before

	conf "$@"
	before=$(reloads)
	kill -HUP "$daemon"
	settles "reload: idle_timeout = $*" eval "[ \$(reloads) -gt $before ]"
}

status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

sleeps() {
	reads "$MNT/$1/state" stopped
}

now() {
	date +%s
}

# used_after BRANCH TIME: is its last activity later?
used_after() {
	[ "$(date -d "$(status "$1" last_active)" +%s)" -ge "$2" ]
}

# stays NAME BRANCH SINCE WAKES: it was seen to be used at a time when it would have been
# stopped long ago, and never was.
stays() {
	settles "$1 keeps it awake" used_after "$2" $(($3 + WINDOW))
	is "$1: it runs" "$(cat "$MNT/$2/state")" running
	is "$1: without a restart" "$(status "$2" wakes)" "$4"
}

# --- Sessions that last

declare -A session

# begin NAME BRANCH [CONNINFO]: what it answers is in $TMP/NAME.out.
begin() {
	local fd

	exec {fd}> >(
		for fd in "${session[@]}"; do exec {fd}>&-; done
		exec psql -X -q -A -t "host=$MNT/$2 user=postgres dbname=postgres ${3:-}" \
			>"$TMP/$1.out" 2>&1
	)
	watch_pid $!
	session[$1]=$fd
}

tell() {
	echo "$2" >&"${session[$1]}"
}

# asks NAME QUERY ANSWER
asks() {
	tell "$1" "$2"
	settles "session $1: $2" grep -q "$3" "$TMP/$1.out"
}

end() {
	local fd=${session[$1]}

	exec {fd}>&-
	unset "session[$1]"
}

new_store
conf never
mkdir "$MNT"
test_mounts+=("$MNT")
"$PGBRANCHFS" mount -f "$STORE" "$MNT" >"$TMP/daemon.log" 2>&1 &
disown
settles 'mount' is_mounted "$MNT"
settles 'it answers' test -e "$MNT/README"
daemon=$(daemon_pid)

descriptors() {
	readlink "/proc/$daemon"/fd/* | sed 's/:\[.*//' | sort
}

for branch in tx query walsender vacuum pub sub poll connect pool quiet watched hand; do
	ok "mkdir $branch" mkdir "$MNT/$branch"
done
descriptors >"$TMP/open.before"

# --- Busy ones.  Nothing is stopped yet.

begin tx tx
asks tx "begin; select 'open';" open

begin walsender walsender replication=database
asks walsender 'IDENTIFY_SYSTEM;' postgres

# a vacuum that takes a tenth of a second and more for each page
sql vacuum "alter system set autovacuum_naptime = 1"
sql vacuum "select pg_reload_conf()" >/dev/null
sql vacuum "create table slow with (autovacuum_vacuum_cost_delay = 100,
		autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1) as
	select generate_series(1, 50000) n"
sql vacuum 'delete from slow where n % 2 = 0'

sql pub 'create table t (n int); create publication p for table t; insert into t values (1)'
sql sub 'create table t (n int)'
# the server of sub connects under its own uid, which is not that of pub's owner
chgrp "$(stat -c %g "$MNT/sub/data")" "$MNT/pub" && chmod 750 "$MNT/pub"
sql sub "create subscription s connection 'host=$MNT/pub user=postgres dbname=postgres'
	publication p" 2>/dev/null
subscribed() {
	[ "$(sql sub 'select count(*) from t')" = 1 ]
}
settles 'the subscription works' subscribed

begin pool1 pool
asks pool1 "select 'woken';" woken
begin pool2 pool
asks pool2 "select 'direct';" direct

vacuuming() {
	[ "$(sql vacuum "select count(*) from pg_stat_activity
		where backend_type = 'autovacuum worker' and query like '%slow%'")" = 1 ]
}
settles 'an autovacuum worker is at work' vacuuming

begin poll poll
asks poll "select 'polled';" polled
(
	while [ ! -e "$TMP/enough" ]; do
		tell poll 'select 1;'
		sleep 0.2
	done
) &
watch_pid $!
(
	while [ ! -e "$TMP/enough" ]; do
		sql connect '\q'
		sleep 0.2
	done
) >"$TMP/connect.out" 2>&1 &
watch_pid $!
(
	while [ ! -e "$TMP/enough" ]; do
		cat "$MNT/watched/status" "$MNT/watched/state" "$MNT/watched/url"
		ls -lR "$MNT/watched" && "$PGBRANCHFS" list "$MNT"
		sleep 0.2
	done
) >"$TMP/watch.out" 2>&1 &
watch_pid $!
is 'one that is only looked at' "$(sql watched 'select 1')" 1
is 'one that nobody uses' "$(sql quiet 'select 1')" 1
is 'one to be stopped by hand' "$(sql hand 'select 1')" 1
quiet_pid=$(status quiet pid)
sql query "select pg_sleep(10)" >/dev/null &
watch_pid $!
settles 'a long query' grep -q running "$MNT/query/state"

# --- From here on, idle ones are

WINDOW=6 # three times the timeout
start=$(now)
reload 2s
for branch in quiet pool watched; do
	settles "$branch: it is stopped" sleeps $branch
done
for rule in 'idle in transaction:tx' 'a long query:query' 'a walsender:walsender' \
	'a subscription:sub' 'its publisher:pub' 'a vacuum:vacuum' \
	'a session that polls:poll' 'a monitor that connects:connect'; do
	stays "${rule%:*}" "${rule#*:}" "$start" 1
done

# --- What the stop leaves

control=$("$PGBIN/pg_controldata" "$MNT/quiet/data")
like 'the stop was a clean shutdown' "$control" 'cluster state: +shut down'$'\n'
nok 'the process is gone' test -e "/proc/$quiet_pid"
is 'and none is left of it' "$(
	for dir in /proc/[0-9]*; do
		[ "$(readlink "$dir/cwd")" = "$MNT/.run/$(status quiet no)/data" ] && echo "$dir"
	done
)" ''
is 'the next client wakes it' "$(sql quiet 'select 1')" 1
is 'by a second start' "$(status quiet wakes)" 2
nok 'which recovers nothing' grep -qE 'redo starts|not properly shut down' "$MNT/quiet/log"

tell pool1 "select 'again';"
tell pool2 "select 'again';"
for name in pool1 pool2; do
	settles "$name: its connection was ended" \
		grep -qE 'terminating connection|closed the connection' "$TMP/$name.out"
	nok "$name: and nobody answers on it" grep -q again "$TMP/$name.out"
done
is 'a new connection wakes the branch' "$(sql pool 'select 1')" 1

settles 'hand: it is stopped as idle' sleeps hand
is 'an idle stop is undone by a connection' "$(sql hand 'select 1')" 1
ok 'stopped by hand' eval "echo stopped >'$MNT/hand/state'"
like 'a stop by hand is not' "$(sql hand 'select 1' 2>&1)" 'stopped by hand'
ok 'it stays stopped' sleeps hand

# --- The end of all that

touch "$TMP/enough"
end tx
end walsender
end poll
sql sub 'alter subscription s disable'
sql vacuum 'alter table slow set (autovacuum_enabled = off)'
for branch in tx walsender poll connect sub pub vacuum query; do
	settles "$branch: it is stopped, now that it is idle" sleeps $branch
done

# --- A probe that fails says nothing

# how far is its last activity away?
unused_for() {
	echo $(($(now) - $(date -d "$(status "$1" last_active)" +%s)))
}

unused() {
	[ "$(unused_for "$1")" -ge 2 ]
}

ok 'mkdir blind' mkdir "$MNT/blind"
begin blind blind
asks blind "begin; select 'open';" open
begin kept pool
asks kept "select 'kept';" kept
wakes=$(status pool wakes)
start=$(now)
WINDOW=9
reload 4s 'idle_connections = keep'
probing() {
	prober=$(sql blind "select pid from pg_stat_activity
		where application_name = 'pgbranchfs'")
	[ -n "$prober" ]
}
settles 'it is probed' used_after blind $((start + 1))
settles 'by the daemon' probing
end blind
settles 'its client has left' unused blind
run=$MNT/.run/$(status blind no)
mv "$run/.s.PGSQL.5432" "$run/away" || fail "cannot hide the socket"
kill -TERM "$prober" # the server's process for the connection of the daemon
used=$(status blind last_active)
settles 'probes fail' grep -q 'branch blind: cannot see whether' "$TMP/daemon.log"
failed=$(now)
# meanwhile
stays 'idle_connections = keep' pool "$start" "$wakes"

# meanwhile, too: a session that is there, works and goes between two probes
begin brief quiet
asks brief "select 'here';" here
reload 4s 'idle_connections = ignore'
settles 'it is probed' used_after quiet "$(($(now) + 1))"
settles 'it is idle' unused quiet
came=$(now)
tell brief "select 'left'; \\q"
settles 'its last query counts' used_after quiet "$came"

settles 'time passes' eval "[ \$(now) -ge $((failed + WINDOW)) ]"
ok 'a failed probe is no idleness' reads "$MNT/blind/state" running
is 'the log says so once' "$(grep -c 'branch blind: cannot see' "$TMP/daemon.log")" 1
mv "$run/away" "$run/.s.PGSQL.5432" || fail "cannot show the socket"
shown=$(date +%s%3N)
settles 'when probes work again it is stopped' sleeps blind
took=$(($(date +%s%3N) - shown))
ok "but not before the timeout has passed anew ($took ms)" test $took -ge 3500
is 'nor was it used by our own new session' "$(status blind last_active)" "$used"
ok 'idle_connections = ignore holds for a server that runs' sleeps pool
forgotten() {
	descriptors >"$TMP/open.after"
	[ -z "$(comm -13 "$TMP/open.before" "$TMP/open.after")" ]
}
settles "the daemon has nothing open that it did not have before the first wake" forgotten
comm -13 "$TMP/open.before" "$TMP/open.after"

# --- One that is never stopped is looked at as well

if [ -n "${PGBRANCHFS_LONG:-}" ]; then
	reload never
	begin long quiet
	asks long "begin; select 'open';" open
	DEADLINE=400
	settles 'idle_timeout = never: the time of its last use moves' \
		used_after quiet $(($(now) + 250))
fi
done_testing
