#!/bin/bash
# What goes wrong when a copy of a data directory is started, and does not here.
# Rows are those of the table of hazards; a check that begins with its row fails
# when the rule for it is gone.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool pgbench

MIB=$((1 << 20))
# main will be read only for sessions that do not say otherwise
export PGOPTIONS='-c default_transaction_read_only=off'
server_user=$(id -un)
if [ "$(id -u)" = 0 ]; then
	need_tool setpriv
	server_user=postgres
fi

# as_server COMMAND...: as the user that servers run under.
as_server() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid="$server_user" --regid="$server_user" --clear-groups "$@"
	else
		"$@"
	fi
}

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

# below GOT BOUND: a number that is there, and small enough.
below() {
	[ -n "$1" ] && [ "$1" -lt "$2" ]
}

stop() {
	echo stopped >"$MNT/$1/state" || fail "cannot stop $1"
}

start() {
	echo running >"$MNT/$1/state" || fail "cannot start $1"
}

restart() {
	stop "$1"
	start "$1"
}

settings_of() {
	local branch=$1 name

	shift
	for name; do
		printf '%s=%s\n' "$name" "$(sql "$branch" "show $name")"
	done
}

# --- Sources: one that init takes in, and a server outside of the store

source=$TMP/source
outside=$TMP/outside
sockets=$TMP/sockets
archive=$TMP/archive
for dir in "$source" "$TMP/publisher" "$TMP/standby" "$sockets" "$archive"; do
	as_server true || die "cannot become $server_user"
	install -d -m 700 -o "$server_user" "$dir" || die "cannot make $dir"
done
as_server "$PGBIN/initdb" -D "$source" -U postgres -A trust -E UTF8 --locale=C -N \
	>"$TMP/initdb.log" 2>&1 || die "initdb failed"
cp -a "$source/." "$TMP/publisher"

# ctl NAME ACTION [ARG...]: a server of the outside world.
ctl() {
	local name=$1 action=$2

	shift 2
	as_server "$PGBIN/pg_ctl" -D "$TMP/$name" -w -s "$action" "$@" >/dev/null
}

# The publisher, by SQL.
publisher() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$sockets" -U postgres -d postgres -c "$1"
}

cat >>"$TMP/publisher/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$sockets'
wal_level = logical
shared_buffers = 16MB
fsync = off
CONF
ctl publisher start -l "$TMP/publisher/server.log" || die "the publisher did not start"
cleaner ctl publisher stop -m immediate

# --- Sources that init refuses, with a sentence and without a trace

# refuses NAME REASON: init --from $source
refuses() {
	local said

	if said=$("$PGBRANCHFS" init "$TMP/refused" --from "$source" 2>&1 >/dev/null); then
		fail "$1 (it was taken in)"
		rm -rf "$TMP/refused"
		return
	fi
	like "$1" "$said" "$2"
	nok "$1, nothing is left" test -e "$TMP/refused"
}

ln -s "$outside" "$source/pg_tblspc/16400"
refuses 'row 20: a source with a tablespace' "has tablespaces .*pg_tblspc/16400 -> $outside"
rm "$source/pg_tblspc/16400"

mv "$source/pg_wal" "$TMP/wal"
ln -s "$TMP/wal" "$source/pg_wal"
refuses 'row 21: a source with its WAL elsewhere' "symbolic links .*pg_wal -> $TMP/wal"
rm "$source/pg_wal"
mv "$TMP/wal" "$source/pg_wal"

source=$TMP/publisher
refuses 'row 2: a running source' 'is in use by process [0-9]+'
nok 'row 2: it may not be moved either' \
	"$PGBRANCHFS" init "$TMP/refused" --from "$source" --move 2>/dev/null
cp -a "$source" "$TMP/copy"
source=$TMP/copy
rm "$source/postmaster.pid"
refuses 'row 2: a source that was not stopped' 'was not stopped cleanly'
rm -rf "$TMP/copy"
source=$TMP/source

# --- A cluster whose configuration leads out of it

mkdir "$outside"
echo "outside.marker = 'followed'" >"$outside/more.conf"
echo 'local all all reject' >"$outside/pg_hba.conf"
: >"$outside/pg_ident.conf"
cat >>"$source/postgresql.conf" <<CONF
inside.marker = 'kept'
include '$outside/more.conf'
include_if_exists '$outside/more.conf'
include_dir '$outside'
hba_file = '$outside/pg_hba.conf'
ident_file = '$outside/pg_ident.conf'
data_directory = '$outside'
external_pid_file = '$TMP/archive/pid'
CONF
# what a server leaves that was killed long ago
sleep 0 &
wait $!
printf '%s\n%s\n' $! "$source" >"$source/postmaster.pid"

new_store --from "$source"
cat >"$STORE/pgbranchfs.conf" <<CONF
[branch]
idle_timeout = never
[settings]
shared_buffers = 32MB
wal_level = logical
max_replication_slots = 5
CONF
mount_only
is 'row 1: a stale lock file of the source does no harm' "$(sql main 'select 1')" 1
is 'row 7: outside includes are not followed' "$(sql main \
	"select current_setting('inside.marker', true), current_setting('outside.marker', true)")" \
	'kept|'
is 'row 7: outside hba and ident files are not used' \
	"$(settings_of main hba_file ident_file | sed "s|=$MNT/.run/[0-9]*/|=|")" \
	$'hba_file=pg_hba.conf\nident_file=pg_ident.conf'
is 'row 7: nothing is written outside' "$(ls -A "$archive")" ''

# --- What main has, and a branch must not

pgbench -h "$MNT/main" -U postgres -i -q -s 10 postgres >"$TMP/pgbench.log" 2>&1 ||
	die "pgbench -i failed"
publisher "create table r (id int primary key); create publication p for table r;
	insert into r values (1)"
sql main "create table r (id int primary key)"
sql main "create subscription s connection 'host=$sockets user=postgres dbname=postgres'
	publication p" 2>/dev/null
sql main "create database closed"
sql main "create subscription closed connection 'host=$sockets user=postgres dbname=postgres'
	publication p with (connect = false, slot_name = 'closed')" -d closed 2>/dev/null
sql main "alter database closed allow_connections off"
sql main "select pg_create_physical_replication_slot('physical', true)" >/dev/null
sql main "select pg_create_logical_replication_slot('logical', 'pgoutput')" >/dev/null
mkdir "$TMP/space" && chown "$server_user" "$TMP/space"
nok 'row 20: no tablespace is made later' \
	sql main "create tablespace space location '$TMP/space'" 2>/dev/null
is 'row 20: and no link to one' "$(ls -A "$MNT/main/data/pg_tblspc")" ''
sql main checkpoint
has_rows() {
	[ "$(sql "$1" 'select count(*) from r')" = "$2" ]
}
settles 'main subscribes' has_rows main 1
synced() {
	[ "$(sql main "select bool_and(srsubstate = 'r') from pg_subscription_rel")" = t ]
}
settles 'main is in step' synced

while read -r setting; do
	sql main "alter system set $setting" || fail "alter system set $setting"
done <<CONF
archive_mode = on
archive_command = 'touch $archive/%f'
restore_command = 'touch $archive/restored'
archive_cleanup_command = 'touch $archive/cleaned'
primary_conninfo = 'host=$sockets user=postgres'
primary_slot_name = 'of_a_branch'
synchronous_standby_names = '*'
recovery_target_name = 'never'
listen_addresses = '127.0.0.1'
port = 54399
unix_socket_directories = '$sockets'
logging_collector = on
log_directory = '$archive'
wal_recycle = on
wal_init_zero = on
min_wal_size = '320MB'
default_transaction_read_only = on
recovery_init_sync_method = fsync
wal_retrieve_retry_interval = 100
CONF

main_pid=$(status main pid)
ok 'mkdir b' mkdir "$MNT/b"

# --- The lock file

for file in postmaster.pid postmaster.opts; do
	nok "row 1: $file of the parent is not in the branch" test -e "$MNT/b/data/$file"
	ok "row 1: it still is in the parent" test -s "$MNT/main/data/$file"
done
is 'row 1: the branch runs beside its parent' "$(sql b 'select 1')" 1
is 'row 1: with a process of its own' \
	"$(head -n 1 "$MNT/b/data/postmaster.pid")" "$(status b pid)"
is 'row 1: the parent was left alone' "$(status main pid)" "$main_pid"
nok 'row 1: data/ has another inode number than that of the parent' \
	test "$(stat -c %i "$MNT/b/data")" = "$(stat -c %i "$MNT/main/data")"

# --- Opening and reading copy nothing; the WAL of a branch is small

ok "row 12: a started branch holds little ($(status b bytes) bytes)" \
	below "$(status b bytes)" $((2 * MIB))
is 'row 12: WAL is not kept or filled in advance' \
	"$(settings_of b wal_recycle wal_init_zero min_wal_size)" \
	$'wal_recycle=off\nwal_init_zero=off\nmin_wal_size=32MB'
like 'row 10: the branch was recovered' "$(cat "$MNT/b/log")" 'redo starts at'
if [ "$(sql b 'show server_version_num')" -ge 140000 ]; then
	is 'row 10: without an fsync of each file' \
		"$(settings_of b recovery_init_sync_method)" recovery_init_sync_method=syncfs
fi
ok 'row 10: and recovery opened files without a copy' \
	below "$(status b bytes)" $((2 * MIB))

table=$(sql b "select pg_total_relation_size('pgbench_accounts')")
ok "row 13: the table is large ($table bytes)" test "$table" -gt $((140 * MIB))
before=$(status b bytes)
is 'a full scan' "$(sql b 'select count(*), sum(abalance) from pgbench_accounts')" '1000000|0'
after=$(status b bytes)
ok "row 13: to read all costs nothing ($((after - before)) bytes)" \
	below $((after - before)) $((MIB / 2))
sql b 'update pgbench_accounts set abalance = 1 where aid between 400001 and 410000'
sql b checkpoint
after=$(status b bytes)
ok "row 13: to change a hundredth costs about that ($((after - before)) bytes)" \
	below $((after - before)) $((12 * MIB))

# --- Slots

is 'row 3: the slots of main are not in the branch' \
	"$(sql b 'select count(*) from pg_replication_slots')" 0
is 'row 3: and leave nothing in it' "$(ls -A "$MNT/b/data/pg_replslot")" ''
is 'row 3: main keeps them' \
	"$(sql main "select count(*) from pg_replication_slots where slot_name in ('physical', 'logical')")" 2

# --- Archive, and other settings that ALTER SYSTEM made

restart main # from now on it has them too
restart b
is 'row 5: nothing of the branch goes to the archive' \
	"$(settings_of b archive_mode archive_command)" $'archive_mode=off\narchive_command=(disabled)'
sql b "create table w (); select pg_switch_wal()" >/dev/null
sql b checkpoint
is 'row 5: no segment waits for the archive' \
	"$(ls -A "$MNT/b/data/pg_wal/archive_status")" ''
is 'row 5: none has reached it' "$(ls -A "$archive")" ''
is 'row 6: the settings are those of ALTER SYSTEM' \
	"$(sql b "select count(*) from pg_file_settings where sourcefile like '%/postgresql.auto.conf'")" 19
is 'row 6: and are beaten' \
	"$(settings_of b restore_command archive_cleanup_command primary_conninfo \
		primary_slot_name synchronous_standby_names recovery_target_name \
		listen_addresses port logging_collector | tr '\n' ' ')" \
	'restore_command= archive_cleanup_command= primary_conninfo= primary_slot_name= synchronous_standby_names= recovery_target_name= listen_addresses= port=5432 logging_collector=off '
is 'row 6: no socket elsewhere' "$(cd "$sockets" && echo .s.*)" '.s.PGSQL.5432 .s.PGSQL.5432.lock'
nok 'row 22: nobody can stream from a branch' \
	psql -X "host=$MNT/b user=postgres replication=true" -c 'IDENTIFY_SYSTEM' \
	>"$TMP/stream.out" 2>&1
like 'row 22: because it is rejected' "$(cat "$TMP/stream.out")" 'rejects replication'

# --- Subscriptions

subs="select string_agg(concat_ws(' ', subname, subenabled, coalesce(subslotname, '-')), ', '
	order by subname) from pg_subscription"
is 'row 4: the subscriptions are there, but off and without a slot' \
	"$(sql b "$subs")" 'closed f -, s f -'
is 'row 4: those of main stay' "$(sql main "$subs")" 'closed f closed, s t s'
slot_is() {
	[ "$(publisher "select active from pg_replication_slots where slot_name = 's'")" = "$1" ]
}
settles 'row 4: main has its slot' slot_is t
stop main
settles 'row 4: its slot is free' slot_is f
publisher 'insert into r values (2)'
taken() {
	slot_is t || has_rows b 2
}
nok 'row 4: the branch does not take it' wait_until 2 taken >/dev/null
# as if the first copy of a table was not complete when the branch was made
sync_slot=$(sql b "select format('pg_%s_sync_%s_%s', srsubid, srrelid, system_identifier)
	from pg_subscription_rel, pg_control_system()")
publisher "select pg_create_logical_replication_slot('$sync_slot', 'pgoutput')" >/dev/null
sql b "set allow_system_table_mods = on; update pg_subscription_rel set srsubstate = 'f'"
ok 'row 4: DROP SUBSCRIPTION in the branch' sql b 'drop subscription s'
is 'row 4: leaves the slots of the publisher' \
	"$(publisher 'select string_agg(slot_name, chr(32) order by slot_name) from pg_replication_slots')" \
	"$sync_slot s"
start main
settles 'row 4: main goes on where it was' has_rows main 2

# --- Junk; main is stopped so that no server clears it up

stop main
for dir in pg_dynshmem pg_notify pg_serial pg_snapshots pg_stat_tmp pg_subtrans base/pgsql_tmp; do
	mkdir -p "$MNT/main/data/$dir"
	echo junk >"$MNT/main/data/$dir/junk" || fail "cannot write junk into $dir"
done
ok 'mkdir clean' mkdir "$MNT/clean"
for dir in pg_dynshmem pg_notify pg_serial pg_snapshots pg_stat_tmp pg_subtrans base/pgsql_tmp; do
	is "row 28: $dir starts empty" "$(ls -A "$MNT/clean/data/$dir")" ''
	rm "$MNT/main/data/$dir/junk" || fail "the junk in $dir is gone from main"
done
is 'row 28: and the branch starts' "$(sql clean 'select 1')" 1
nok 'row 11: a branch of a stopped parent recovers nothing' \
	grep -qE 'redo starts|not properly shut down' "$MNT/clean/log"

# --- A server that was killed, and the number of its process that another one has

kill -KILL "$(status clean pid)"
answers() {
	[ "$(sql clean 'select 1' 2>/dev/null)" = 1 ]
}
settles 'row 1: a killed server is started again' answers
stop clean
printf '%s\n%s/data\n' "$(status b pid)" "$MNT/clean" >"$MNT/clean/data/postmaster.pid"
start clean
is 'row 1: a stale lock file with the number of a live server' "$(sql clean 'select 1')" 1

# --- Owner and mode

is 'row 23: data/ is of the server' "$(stat -c '%a %U' "$MNT/b/data")" "700 $server_user"
is 'row 23: and the server is of that user' \
	"$(stat -c %U "/proc/$(status b pid)")" "$server_user"
if [ "$(id -u)" = 0 ] && id daemon >/dev/null 2>&1; then
	ok 'mkdir given' mkdir "$MNT/given"
	ok 'row 23: a branch is given away' chown daemon "$MNT/given"
	is 'row 23: its files are of the new owner' \
		"$(stat -c '%a %U' "$MNT/given/data" "$MNT/given/data/base/1" \
			"$MNT/given/data/PG_VERSION" | sort -u | tr '\n' ' ')" \
		'600 daemon 700 daemon '
	is 'row 23: nothing was copied for that' "$(status given bytes)" 0
	is 'row 23: its server runs' "$(sql given 'select 1')" 1
	is 'row 23: under the new owner' "$(stat -c %U "/proc/$(status given pid)")" daemon
fi

# --- The store belongs to one daemon, and no server but ours can start in it

mkdir "$TMP/second"
test_mounts+=("$TMP/second")
nok 'row 32: a second mount of the store' \
	timeout 60 "$PGBRANCHFS" mount "$STORE" "$TMP/second" 2>"$TMP/second.err"
like 'row 32: is refused with a sentence' "$(cat "$TMP/second.err")" 'store|serv|mounted'
nok 'row 32: init does not touch it' "$PGBRANCHFS" init "$STORE" 2>/dev/null
is 'row 32: the first goes on' "$(sql b 'select 1')" 1
is 'row 32: no layer is a data directory' \
	"$(find -L "$STORE" ! -type l '(' -name PG_VERSION -o -name pg_control ')')" ''
unmount_store

# --- A standby; the path of its mount leaves 50 bytes for a name

as_server "$PGBIN/pg_basebackup" -h "$sockets" -U postgres -D "$TMP/standby" -R -c fast \
	2>"$TMP/basebackup.log" || die "pg_basebackup failed"
printf '%s\n' "port = 5433" "restore_command = 'false'" "recovery_target_timeline = 'latest'" \
	>>"$TMP/standby/postgresql.auto.conf"
ctl standby start -l "$TMP/standby/server.log" || die "the standby did not start"
ctl standby stop || die "the standby did not stop"
ok 'it is a standby' test -e "$TMP/standby/standby.signal"
echo 'hot_standby = off' >>"$TMP/standby/postgresql.auto.conf"

STORE=$TMP/store2
MNT=$TMP/$(printf 'm%.0s' {1..200} | head -c $((107 - 50 - 2 - 13 - ${#TMP} - 1)))
new_store --from "$TMP/standby"
mount_only
ok 'mkdir of a standby' mkdir "$MNT/b"
for branch in b main; do
	is "row 8: $branch is no standby" "$(sql $branch 'select pg_is_in_recovery()')" f
	ok "row 8: $branch can be written" sql $branch 'create table written ()'
	is "row 8: $branch follows nobody" \
		"$(settings_of $branch primary_conninfo restore_command | tr '\n' ' ')" \
		'primary_conninfo= restore_command= '
	nok "row 8: $branch has no signal file" \
		test -e "$MNT/$branch/data/standby.signal"
done
is 'row 8: a standby is on a timeline of its own' \
	"$(sql main 'select timeline_id > 1 from pg_control_checkpoint()')" t
is 'row 8: nobody streams from the primary' \
	"$(publisher 'select count(*) from pg_stat_replication')" 0

name=$(printf 'n%.0s' {1..50})
ok 'row 24: a socket path of 107 bytes' mkdir "$MNT/$name"
is 'row 24: can be connected to' "$(sql "$name" 'select 1')" 1
ok 'it has 107' test "$(printf %s "$MNT/$name/.s.PGSQL.5432" | wc -c)" = 107
like 'row 24: one byte more is refused' "$(LC_ALL=C mkdir "$MNT/${name}n" 2>&1)" 'File name too long'
like 'row 24: with a sentence' "$(head -n 1 "$MNT/.error")" 'socket|bytes|long'
nok 'row 24: and makes nothing' test -e "$MNT/${name}n"
nok 'row 24: mv to such a name' mv -T "$MNT/b" "$MNT/${name}n" 2>/dev/null
done_testing
