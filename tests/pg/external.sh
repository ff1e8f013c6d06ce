#!/bin/bash
# Somebody else's server on the data directory of a branch: it is left alone, it shuts
# ours out, and ours shuts it out, whether they can see one another or not.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool setpriv unshare

install -d -m 700 -o postgres "$TMP/sock"
new_store
# nobody may take an external branch for an idle one
printf '[branch]\nidle_timeout = 1s\nstart_timeout = 20s\n' >"$STORE/pgbranchfs.conf"
mount_only

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

server_args() { # BRANCH
	echo "-D $MNT/$1/data -c listen_addresses= -c unix_socket_directories=$TMP/sock
		-c shared_buffers=16MB"
}
as_server=(setpriv --reuid postgres --regid postgres --clear-groups --)

# theirs BRANCH [COMMAND...]: starts a server of the outside world, through a command
theirs() {
	local branch=$1

	shift
	# shellcheck disable=SC2046 # words
	"$@" "${as_server[@]}" "$PGBIN/postgres" $(server_args "$branch") \
		>>"$TMP/theirs.log" 2>&1 &
	their_pid=$!
	watch_pid $their_pid
	wait_until "$DEADLINE" their_sql 'select 1' >/dev/null || die 'theirs does not start'
}

their_sql() {
	"${as_server[@]}" psql -XqAt -v ON_ERROR_STOP=1 -h "$TMP/sock" -d postgres \
		-c "$1" 2>/dev/null
}

# The postmaster itself, where a command of a namespace is around it.
their_postmaster() {
	pgrep -o -f "^$PGBIN/postgres -D $MNT/$1/data -c listen"
}

is_external() {
	[ "$(cat "$MNT/$1/state")" = external ]
}

is_asleep() {
	[ "$(cat "$MNT/$1/state")" = stopped ]
}

# busy NAME COMMAND...: fails with EBUSY, and .error says who is there
busy() {
	local name=$1 said

	shift
	if said=$(LC_ALL=C "$@" 2>&1); then
		fail "$name"
		return
	fi
	like "$name" "$said" 'Device or resource busy'
	like "$name, .error says why" "$(cat "$MNT/.error")" \
		"another server.* on its data directory"
}

write_state() { # BRANCH WORD
	bash -c 'echo "$1" >"$0"' "$MNT/$1/state" "$2"
}

# --- It is left alone

ok 'mkdir ext' mkdir "$MNT/ext"
theirs ext
their_sql "create table t (n int); insert into t values (1)"
settles 'a branch with a server of somebody else is external' is_external ext
is 'status says so' "$(status ext state) $(status ext pid)" 'external -'
is 'and who it is' "$(status ext reason)" \
	"another server runs on its data directory (process $their_pid)"
like 'list, too' "$("$PGBRANCHFS" list "$MNT")" 'ext +external'
like 'clients of the branch are told' "$(sql ext 'select 1' 2>&1)" \
	'FATAL: +branch "ext" is not served here: another server runs on its data directory'
like 'with SQLSTATE 57P03' "$("$top_builddir/tests/pg/crowd" query \
	"$MNT/ext/.s.PGSQL.5432" 1 2>&1 >/dev/null)" '^FATAL 57P03'
busy 'it is not started' write_state ext running
busy 'it is not stopped' write_state ext stopped
is 'the branch is as it was' "$(status ext stopped_by_hand)" 0
busy 'it is not discarded' rmdir "$MNT/ext"
busy 'nor piece by piece' rm -rf "$MNT/ext"
busy 'nor given away' chown daemon "$MNT/ext"
outdated() {
	[ "$(date +%s)" -gt $(($(date -d "$(cat "$MNT/ext/expires")" +%s) + 2)) ]
}
ok 'its time is over soon' bash -c "echo 1s >'$MNT/ext/expires'"
settles 'two seconds behind it' outdated
ok 'it is spared as long as the server lives' test -d "$MNT/ext/data"
ok 'it gets more time' bash -c "echo never >'$MNT/ext/expires'"
is 'its server does not notice' "$(their_sql 'select count(*) from t')" 1
ok 'it is branched' mkdir "$MNT/child@ext"
is 'and the branch has what was committed' "$(sql child 'select count(*) from t')" 1
ok 'it is renamed' mv -T "$MNT/ext" "$MNT/other"
is 'which changes nothing' "$(cat "$MNT/other/state")" external
mv -T "$MNT/other" "$MNT/ext"
their_sql 'insert into t values (2)'
said=$(LC_ALL=C rm -f "$MNT/ext/data/postmaster.pid" 2>&1)
like 'its lock file is not removed' "$said" 'Device or resource busy'
like 'because it lives' "$(head -n 1 "$MNT/.error")" \
	"^postmaster.pid is the lock file of process $their_pid, which runs a server"
nok 'nor replaced' cp --remove-destination /dev/null "$MNT/ext/data/postmaster.pid" 2>/dev/null
nok 'nor moved away' mv "$MNT/ext/data/postmaster.pid" "$MNT/ext/data/x" 2>/dev/null
is 'it was never ours' "$(status ext wakes)" 0

# --- and ends

kill -INT $their_pid
wait $their_pid
settles 'when it has ended, the branch sleeps' is_asleep ext
is 'and wakes, with what it left' "$(sql ext 'select count(*) from t')" 2

# --- It was killed: who it left behind still writes

settles 'ours is idle' is_asleep ext
theirs ext
settles 'external again' is_external ext
their_sql "insert into t values (3)"
their_sql "select pg_sleep(600)" >/dev/null &
watch_pid $!
sleeper() {
	backend=$(their_sql "select pid from pg_stat_activity where wait_event = 'PgSleep'")
	[ -n "$backend" ]
}
settles 'it has a backend' sleeper
kill -STOP "$backend"
cleaner eval "kill -CONT $backend 2>/dev/null"
kill -KILL $their_pid
wait $their_pid 2>/dev/null
settles 'the postmaster is gone' eval "! kill -0 $their_pid 2>/dev/null"
busy 'a backend of it keeps ours out' write_state ext running
kill -KILL "$backend"
settles 'until it has ended' is_asleep ext
is 'nothing that was committed is lost' "$(sql ext 'select count(*) from t')" 3

# --- Ours is there first

write_state ext running
our_pid=$(status ext pid)
second() { # [COMMAND...]
	# shellcheck disable=SC2046 # words
	timeout 60 "$@" "${as_server[@]}" "$PGBIN/postgres" $(server_args ext) \
		>"$TMP/second.log" 2>&1
}
nok 'a second server on the branch does not start' second
like 'as always' "$(cat "$TMP/second.log")" 'lock file "postmaster.pid" already exists'
# it sees neither our process nor our memory
nok 'nor does one in a container' second unshare -pfi --kill-child --mount-proc
like 'although it takes ours for dead' "$(cat "$TMP/second.log")" \
	'could not remove old lock file "postmaster.pid"'
is 'ours goes on' "$(sql ext 'select count(*) from t') $(status ext pid)" "3 $our_pid"
write_state ext stopped
write_state ext running
write_state ext stopped

# --- In a container, where it has another number

theirs ext unshare -pfi --kill-child --mount-proc
settles 'one in a container is seen' is_external ext
inside=$(head -n 1 "$MNT/ext/data/postmaster.pid")
outside=$(their_postmaster ext)
nok "its numbers are two ($inside, $outside)" test "$inside" = "$outside"
is 'we know it by ours' "$(status ext reason)" \
	"another server runs on its data directory (process $outside)"
busy 'ours does not start beside it' write_state ext running
kill -INT "$outside"
wait $their_pid
settles 'and it ends' is_asleep ext

# --- Not all that is called postmaster.pid is a lock

write_state ext running
write_state ext stopped
printf '4711\n%s\n' "$MNT/ext/data" >"$MNT/ext/data/postmaster.pid"
is 'a copy that somebody made is none' "$(cat "$MNT/ext/state")" stopped
ok 'it may be removed' rm "$MNT/ext/data/postmaster.pid"
printf '4711\n%s\n' "$MNT/ext/data" >"$MNT/ext/data/postmaster.pid"
ok 'and does not keep ours from starting' write_state ext running
write_state ext stopped

# --- One of an earlier mount lives on

theirs ext
settles 'external once more' is_external ext
kill_daemon
mount_only
busy 'the next mount finds it' write_state ext running
is 'and waits for its end' "$(cat "$MNT/ext/state")" external
kill -KILL $their_pid
wait $their_pid 2>/dev/null
settles 'it ends' is_asleep ext
# what the killed one leaves behind ends a moment later, and keeps us out until then
settles 'its lock file is no obstacle then' write_state ext running
is 'nothing is lost' "$(sql ext 'select count(*) from t')" 3
unmount_store

# --- The daemon is in a container itself, and the other server cannot be seen

mkdir "$TMP/ns"
mount --bind "$TMP/ns" "$TMP/ns"
cleaner umount "$TMP/ns"
mount --make-shared "$TMP/ns"
MNT=$TMP/ns/mnt
mkdir "$MNT"
# the leak sanitizer hangs in a first process, which nobody may trace
# shellcheck disable=SC2016 # for the shell in there
ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 unshare -pmf --propagation unchanged bash -c '
	mount --make-private /proc && mount -t proc proc /proc &&
		exec "$0" mount -f "$1" "$2"' "$PGBRANCHFS" "$STORE" "$MNT" \
	2>"$TMP/contained.log" &
contained=$!
watch_pid $contained
settles 'a daemon in a container' is_mounted "$MNT"
# its number in there is that of a stranger here
nok 'cannot be ended from outside' "$PGBRANCHFS" umount "$MNT" 2>"$TMP/umount.err"
like 'where it cannot be seen' "$(cat "$TMP/umount.err")" 'cannot be seen from here'
ok 'and goes on' is_mounted "$MNT"
end_contained() {
	kill -TERM "$(daemon_pid)" 2>/dev/null
	wait_until "$DEADLINE" eval "! mountpoint -q '$MNT'"
}
cleaner end_contained
is 'serves' "$(sql ext 'select count(*) from t')" 3
settles 'and idles' is_asleep ext
theirs ext
settles 'the branch is external' is_external ext
like 'without a process' "$(status ext reason)" \
	'cannot be seen from here.* until postmaster.pid is removed'
busy 'ours does not start' write_state ext running
kill -INT $their_pid
wait $their_pid
settles 'it removes its lock file in the end' is_asleep ext
is 'ours wakes' "$(sql ext 'select count(*) from t')" 3
settles 'and idles again' is_asleep ext
theirs ext
settles 'external again' is_external ext
kill -KILL $their_pid
wait $their_pid 2>/dev/null
busy 'who cannot see that it was killed has to respect it' write_state ext running
ok 'until somebody removes its lock file' rm "$MNT/ext/data/postmaster.pid"
settles 'then the branch sleeps' is_asleep ext
is 'and wakes' "$(sql ext 'select count(*) from t')" 3
end_contained
done_testing
