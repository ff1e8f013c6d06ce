#!/bin/bash
# A clean restart of the daemon: umount and mount bring all back as it was, those who are
# connected get a proper end, and the next client wakes a branch that ran.
# shellcheck disable=SC2016,SC2317 # for eval; functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

slow_postgres
new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[branch]
idle_timeout = 0
[server]
bin_dir = $TMP/bin
[settings]
shared_buffers = 16MB
CONF
mount_only

state_is() {
	reads "$MNT/$1/state" "$2"
}

# rows BRANCH: a word about what is in its table.
rows() {
	sql "$1" "select count(*) || ' ' || sum(id) from t"
}

# --- branches of every kind

sql main 'create table t as select generate_series(1, 1000) as id' || die 'psql'
ok 'mkdir asleep' mkdir "$MNT/asleep"
ok 'mkdir ran' mkdir "$MNT/ran"
sql ran 'delete from t where id > 500'
ok 'mkdir of a branch' mkdir "$MNT/child@ran"
sql child 'insert into t values (4711)'
ok 'mkdir to be renamed' mkdir "$MNT/before"
sql before 'insert into t values (4712)'
ok 'mv of a running branch' mv "$MNT/before" "$MNT/renamed"
ok 'mkdir of a parent' mkdir "$MNT/gone"
ok 'and of its child' mkdir "$MNT/orphan@gone"
ok 'the parent goes' rmdir "$MNT/gone"
ok 'mkdir hand' mkdir "$MNT/hand"
sql hand 'insert into t values (4713)'
ok 'chmod' chmod 751 "$MNT/ran"
ran=(main ran child renamed orphan)
if [ "$(id -u)" = 0 ]; then
	ok 'chgrp' chgrp "$(id -g nobody)" "$MNT/ran"
	ok 'mkdir theirs' mkdir "$MNT/theirs"
	ok 'chown' chown "$(id -u nobody)" "$MNT/theirs"
	sql theirs 'insert into t values (4714)'
	ran+=(theirs)
fi
all=("${ran[@]}" hand asleep)

# files of every kind, not all of them a server's
extra=$MNT/child/data/extra
mkdir "$extra"
echo bytes >"$extra/file"
ln "$extra/file" "$extra/link"
ln -s file "$extra/soft"
mkfifo "$extra/fifo"
chmod 640 "$extra/file"
touch -d '2026-11-22 10:00:00' "$extra/file"

# What must not change while nobody is there.
picture() {
	local b

	stat -c '%n %F %i %h %a %u %g' "$MNT" "$MNT"/*/ "$MNT"/*/data
	for b in "${all[@]}"; do
		grep -E '^(name|no|parent|parent_gone|owner|created|depth|protected|prepared|stopped_by_hand) ' \
			"$MNT/$b/status"
		cat "$MNT/$b/url" "$MNT/$b/parent" "$MNT/$b/owner"
		stat -c '%n %i %u %g' "$MNT/$b/data/global/pg_control" \
			"$MNT/$b/data/PG_VERSION" "$MNT/$b/data/base/1/1259" \
			"$MNT/$b/data/pg_wal"
	done
	sed -E 's/ (running|stopped) / /' "$MNT/.tree"
	(cd "$extra" && stat -c '%n %F %i %h %s %a %u %g %Y %N' -- *)
	stat -c '%n %Y' "$MNT/hand"
}

declare -A rows_of=()
for b in "${ran[@]}" hand; do
	rows_of[$b]=$(rows "$b")
done
rows_of[asleep]='1000 500500'
ok 'hand is stopped by hand' eval "echo stopped >'$MNT/hand/state'"
picture >"$TMP/before"

# --- those who are there get a proper end

coproc SESSION { exec psql -X -q -A -t -h "$MNT/ran" -U postgres -d postgres 2>&1; }
# copies: bash closes its own when psql has ended
exec {session_out}<&"${SESSION[0]}" {session_in}>&"${SESSION[1]}"
echo "select 'here';" >&"$session_in"
read -r -t "$DEADLINE" answer <&"$session_out"
is 'a session is open' "$answer" here

sql main 'select pg_sleep(600)' >"$TMP/query.log" 2>&1 &
query=$!
watch_pid $query
query_runs() {
	[ "$(sql main "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'")" = 1 ]
}
settles 'a query runs' query_runs

touch "$TMP/hold"
sql asleep 'select 1' >"$TMP/waiting.log" 2>&1 &
waiting=$!
watch_pid $waiting
settles 'a client waits for a start that takes long' state_is asleep starting

unmount_store
rm "$TMP/hold"
wait $query $waiting
echo 'select 1;' >&"$session_in"
read -r -t "$DEADLINE" answer <&"$session_out" || answer='no answer'
like 'the session was ended by its server' "$answer" \
	'FATAL: .*terminating connection due to administrator command'
like 'the query, too' "$(cat "$TMP/query.log")" \
	'FATAL: .*terminating connection due to administrator command'
like 'the one that waited is told why' "$(cat "$TMP/waiting.log")" \
	'FATAL: .*the file system is being unmounted'
is 'no server is left' "$(servers_here)" ''

# --- all of it is back

mount_only
is 'nobody was started by that' "$(cat "$MNT"/*/state | sort -u)" stopped
picture >"$TMP/after"
ok 'branches, owners, modes, states, node numbers and files are what they were' \
	diff "$TMP/before" "$TMP/after"
for b in "${ran[@]}"; do
	cp "$MNT/$b/log" "$TMP/log.$b"
done
like 'hand is stopped by hand still' "$(sql hand 'select 1' 2>&1)" 'stopped by hand'
for b in "${ran[@]}"; do
	is "$b: the next client wakes it, and finds all" "$(rows "$b")" "${rows_of[$b]}"
	tail -c "+$(($(stat -c %s "$TMP/log.$b") + 1))" "$MNT/$b/log" >"$TMP/log.new"
	like "$b: it had nothing to recover" "$(cat "$TMP/log.new")" 'was shut down at'
	nok "$b: nothing at all" grep -E 'interrupted|not properly|redo' "$TMP/log.new"
	ok "$b: its log goes on" cmp -n "$(stat -c %s "$TMP/log.$b")" "$TMP/log.$b" "$MNT/$b/log"
done
is 'asleep: whose start was cut short' "$(rows asleep)" "${rows_of[asleep]}"
ok 'hand: started by hand' eval "echo running >'$MNT/hand/state'"
is 'hand: all is there' "$(rows hand)" "${rows_of[hand]}"
is 'each was started once' "$(sed -n 's/^wakes //p' "$MNT"/*/status | sort -u)" 1
is 'bytes of others' "$(cat "$extra/file" "$extra/soft")" "$(printf 'bytes\nbytes')"

# --- and it goes on: branches can be made, and the next restart finds these

ok 'mkdir after it' mkdir "$MNT/later@child"
is 'has what its parent has' "$(rows later)" "${rows_of[child]}"
unmount_store
mount_only
is 'it is there after the next one' "$(rows later)" "${rows_of[child]}"
done_testing
