#!/bin/bash
# What a start of a server does and leaves out, and what is left when none runs.
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
wal_level = logical
CONF
mount_only
daemon=$(daemon_pid)

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

set_state() {
	echo "$2" >"$MNT/$1/state" || fail "cannot write $2 to the state of $1"
}

settings_of() {
	local branch=$1 name

	shift
	for name; do
		sql "$branch" "show $name"
	done | tr '\n' ' '
}

# What the daemon has open in the mount.
in_mount() {
	find "/proc/$daemon/fd" -lname "$MNT*"
}

# --- A server leaves nothing open when it is gone

is 'nothing is open in a fresh mount' "$(in_mount)" ''
set_state main running
ok 'a running server is held on to' test -n "$(in_mount)"
set_state main stopped
is 'a stopped one is not' "$(in_mount)" ''

# --- Durability cannot be switched off, not even by the cluster itself

cat >>"$MNT/main/data/postgresql.conf" <<CONF
fsync = off
full_page_writes = off
data_sync_retry = on
CONF
set_state main running
is 'fsync is on' "$(settings_of main fsync full_page_writes data_sync_retry)" 'on on off '

# --- No complaint, and an external pid file only where one is wanted

nok 'the log of a start has no complaint' \
	grep -E 'could not|WARNING|ERROR|FATAL' "$MNT/main/log"
is 'no external pid file' "$(settings_of main external_pid_file)" ' '
sql main "alter system set external_pid_file = '$TMP/outside.pid'"
set_state main stopped
set_state main running
like 'one that is asked for is in the run directory' \
	"$(settings_of main external_pid_file)" "^$MNT/.run/[0-9]+/external.pid $"
nok 'and not outside' test -e "$TMP/outside.pid"
nok 'without a complaint' grep -q 'could not' "$MNT/main/log"
sql main 'alter system reset external_pid_file'

# --- A branch of a cluster without subscriptions is ready at once

workers=$(settings_of main max_logical_replication_workers)
sql main 'create table t (id int primary key); insert into t values (1)'
connections() {
	grep -c 'connection authorized' "$MNT/$1/log"
}
sql main 'alter system set log_connections = on'
set_state main stopped

ok 'mkdir of a stopped parent' mkdir "$MNT/clean"
set_state clean running
is 'it runs as any other' "$(settings_of clean max_logical_replication_workers)" "$workers"
is 'it is noted as prepared' "$(sed -n 's/^prepared *= *//p' "$STORE/branches/clean.ini")" \
	"$(sed -n 's/^prepared *= *//p' "$STORE/branches/main.ini")"
is 'nobody had to connect for that' "$(connections clean)" 1

set_state main running
sql main 'insert into t values (2)'
ok 'mkdir of a running parent' mkdir "$MNT/crashed"
set_state crashed running
is 'is recovered' "$(sql crashed 'select count(*) from t')" 2
is 'nobody had to connect before' "$(connections crashed)" 1
is 'it is noted, too' "$(sed -n 's/^prepared *= *//p' "$STORE/branches/crashed.ini")" \
	"$(sed -n 's/^prepared *= *//p' "$STORE/branches/main.ini")"

# --- One with subscriptions is not, whether its parent was stopped or not

publication="connection 'host=/nowhere' publication p with (connect = false, slot_name = 's')"
sql main "create subscription s $publication" 2>/dev/null
is 'main has a subscription' "$(sql main 'select count(*) from pg_subscription')" 1
ok 'mkdir of a running subscriber' mkdir "$MNT/sub1"
is 'has it without its slot' \
	"$(sql sub1 'select subenabled, subslotname is null from pg_subscription')" 'f|t'
sql main checkpoint
set_state main stopped
ok 'mkdir of a stopped subscriber' mkdir "$MNT/sub2"
is 'has it without its slot' \
	"$(sql sub2 'select subenabled, subslotname is null from pg_subscription')" 'f|t'
is 'and no workers until then' "$(settings_of sub2 max_logical_replication_workers)" '0 '
set_state main running
is 'main keeps its slot' "$(sql main 'select subslotname from pg_subscription')" s
# the catalog gets another file
sql main 'vacuum full pg_subscription'
set_state main stopped
ok 'mkdir of one with a rewritten catalog' mkdir "$MNT/sub3"
is 'has it without its slot' \
	"$(sql sub3 'select subenabled, subslotname is null from pg_subscription')" 'f|t'

# --- Starts while branches come and go: nothing waits for a lock in a circle

storm() {
	local i

	for i in $(seq 8); do
		mkdir "$MNT/storm$1$i" || return 1
		rmdir "$MNT/storm$1$i" || return 1
	done
}
for b in clean crashed sub1 sub2 sub3; do
	set_state "$b" stopped
done
pids=()
for n in a b; do
	storm $n &
	pids+=($!)
done
for b in clean crashed sub1 sub2 sub3; do
	(for i in 1 2; do
		timeout 60 bash -c "echo running >'$MNT/$b/state'" || exit 1
		timeout 60 bash -c "echo stopped >'$MNT/$b/state'" || exit 1
	done) &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	watch_pid "$pid"
done
for pid in "${pids[@]}"; do
	ok 'mkdir, rmdir, starts and stops at once' wait "$pid"
done

# --- A lock file that a power cut has left without its bytes, as it is not fsynced

set_state main running
kill_daemon
lock=$(find "$STORE/layers" -path '*/names/100/postmaster.pid' -lname 'f*' | head -n 1)
ok 'main has left its lock file' test -n "$lock"
fid=$(readlink "$lock")
fid=${fid#f}
ok 'its bytes are taken away' rm "${lock%/names/*}/full/${fid%%.*}"
mount_only
daemon=$(daemon_pid)
set_state main running
is 'the next start does not mind' "$(sql main 'select count(*) from t')" 2
set_state main stopped

# --- The end: nobody is in the mount any more

daemon_is_gone() {
	[ -z "$(daemon_pid)" ]
}
is 'all servers are stopped' "$(servers_here)" ''
set_state clean running
is 'our own umount says nothing' "$("$PGBRANCHFS" umount "$MNT" 2>&1)" ''
nok 'and has unmounted' is_mounted "$MNT"
settles 'the daemon is gone' daemon_is_gone

if [ "$(id -u)" = 0 ]; then
	mount_only
	daemon=$(daemon_pid)
	for b in clean sub3; do
		set_state "$b" running
		set_state "$b" stopped
	done
	# a socket that somebody looked up is listened on for some minutes
	is 'without clients the daemon has left its mount' "$(in_mount)" ''
	ok 'umount from outside' umount "$MNT"
	settles 'ends the daemon' daemon_is_gone
	mount_only
	is 'nothing is lost' "$(sql clean 'select 1' 2>&1 | grep -c 'stopped by hand')" 1
	set_state clean running
	is 'it serves' "$(sql clean 'select count(*) from t')" 1
fi

# --- what is killed leaves no shared memory, also if nothing starts there again
segment_of() { # BRANCH
	awk -v pid="$(status "$1" pid)" '$5 == pid && $7 > 0 { print $2 }' /proc/sysvipc/shm
}
shm_files_of() { # BRANCH
	local pid

	pid=$(status "$1" pid)
	cat "/proc/$pid/maps" /proc/"$pid"/task/"$pid"/children | tr ' ' '\n' |
		grep -ohE '^(/dev/shm/PostgreSQL[.][0-9]+|[0-9]+)$' |
		while read -r what; do
			[ -e "$what" ] && echo "$what"
			grep -oE '/dev/shm/PostgreSQL[.][0-9]+' "/proc/$what/maps" 2>/dev/null
		done | sort -u
}
shared_memory_is_gone() {
	local file

	awk '{ print $2 }' /proc/sysvipc/shm | grep -qx "$segment" && return 1
	for file in "${files[@]}"; do
		[ ! -e "$file" ] || return 1
	done
}
ok 'mkdir' mkdir "$MNT/k"
is 'its server' "$(sql k 'select 1')" 1
segment=$(segment_of k)
mapfile -t files < <(shm_files_of k)
ok 'has a segment' test -n "$segment"
ok 'and files' test "${#files[@]}" -ge 1
kill -KILL "$(status k pid)"
settles 'which go when it is killed' shared_memory_is_gone
is 'it starts again' "$(sql k 'select 1')" 1
segment=$(segment_of k)
mapfile -t files < <(shm_files_of k)
ok 'with a segment' test -n "$segment"
kill_daemon
servers_here | xargs -r kill -KILL 2>/dev/null
mount_only
settles 'which goes at the next mount' shared_memory_is_gone
is 'nothing is lost' "$(sql k 'select 1')" 1

# --- A note of before a boot says nothing: its numbers may be another server's by now
pid=$(status k pid)
read -r key id < <(awk -v pid="$pid" '$5 == pid { print $1, $2 }' /proc/sysvipc/shm)
note_of() { # BOOT: as of a server of the other store with k's segment
	echo "4194999 1 $((key & 0xffffffff)) $id $1" >"$TMP/other/run/99.pid"
}
ok 'another store' "$PGBRANCHFS" init "$TMP/other"
mkdir -p "$TMP/other/run" "$TMP/mnt2"
test_mounts+=("$TMP/mnt2")
note_of 01234567-89ab-cdef-0123-456789abcdef
ok 'its mount' "$PGBRANCHFS" mount "$TMP/other" "$TMP/mnt2"
is 'leaves the server alone' "$(status k pid)" "$pid"
is 'which goes on' "$(sql k 'select 1')" 1
ok 'umount' "$PGBRANCHFS" umount "$TMP/mnt2"
nok 'the note is gone' test -e "$TMP/other/run/99.pid"
# the test of the test
note_of "$(cat /proc/sys/kernel/random/boot_id)"
ok 'a mount with a note of now' "$PGBRANCHFS" mount "$TMP/other" "$TMP/mnt2"
settles 'ends who has the segment' eval "! kill -0 $pid 2>/dev/null"
ok 'umount' "$PGBRANCHFS" umount "$TMP/mnt2"
done_testing
