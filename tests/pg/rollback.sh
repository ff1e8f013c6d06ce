#!/bin/bash
# Checkpoints of databases that are written, and branches that are rolled back to them or
# reset to their parent: running, asleep, stopped by hand, with clients in the middle.
# shellcheck disable=SC2010,SC2012,SC2016,SC2119,SC2317 # plain names; for eval; called by name
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
. "$(dirname "$0")/../crash/crashlib.sh"

slow_postgres
new_store
crash_conf '[server]' "bin_dir = $TMP/bin"
mount_only

to() { # FILE WORD
	bash -c "echo $2 >'$MNT/$1'"
}

state_is() {
	reads "$MNT/$1/state" "$2"
}

# safety BRANCH KIND: the newest checkpoint that was taken before something
safety() {
	ls -U "$MNT/$1/checkpoints" | grep "^before-$2-20[0-9]\{6\}T[0-9]\{6\}Z" | tail -n 1
}

rows() {
	sql "$1" 'select count(*) from t'
}

# --- under load
bank_init main main 200
mkdir "$MNT/a"
mkdir "$NOTES/bank.a"
cp "$NOTES/bank.main"/ack.* "$NOTES/bank.a" 2>/dev/null
bank_start a a 4 600 'set synchronous_commit = off'
wait_until "$DEADLINE" at_least a 200 || die 'no load'
"$BANK" mark "$NOTES/bank.a" >"$NOTES/mark.c"
ok 'a checkpoint under load' mkdir "$MNT/a/checkpoints/c"
mkdir "$MNT/child@a"
sql child 'create table mine as select 1 as one' || die psql
wait_until "$DEADLINE" at_least a $(($(acks_of a) + 200)) || die 'no load'
"$BANK" mark "$NOTES/bank.a" >"$NOTES/mark.before"
pid=$(sed -n 's/^pid //p' "$MNT/a/status")
ok 'a rollback under load' to a/rollback c
is 'the server is back' "$(cat "$MNT/a/state")" running
nok 'it is another one' [ "$(sed -n 's/^pid //p' "$MNT/a/status")" = "$pid" ]
nok 'the old one is gone' kill -0 "$pid"
before=$(safety a rollback)
ok "what it was is $before" test -d "$MNT/a/checkpoints/$before"
is 'what it stands on' "$(cat "$MNT/a/rollback")" c
# the clients come back and go on
wait_until "$DEADLINE" at_least a $(($(acks_of a) + 50)) || fail 'the clients do not come back'
load_end
like 'their sessions ended' "$(cat "$NOTES/bank.a.out")" ' [1-9][0-9]* failed'
mkdir "$MNT/c@a:c" "$MNT/b@a:$before"
check_bank c a "$NOTES/mark.c" && pass 'every commit of before is in the checkpoint'
check_bank b a "$NOTES/mark.before" && pass 'every commit of before is in what it was'
check_bank a a "$NOTES/mark.c" && pass 'and in the branch itself'
is 'the child is untouched' "$(sql child 'select one from mine')" 1
check_bank child a "$NOTES/mark.c" && pass 'the child has what it had'
ok 'a rollback of the rollback' to a/rollback "$before"
check_bank a a "$NOTES/mark.before" && pass 'brings all back'
rmdir "$MNT/c" "$MNT/b" "$MNT/child"

# --- asleep, stopped by hand
mkdir "$MNT/s"
sql s 'create table t as select generate_series(1, 100) i' || die psql
url=$(cat "$MNT/s/url") no=$(sed -n 's/^no //p' "$MNT/s/status")
to s/expires 2h
expires=$(cat "$MNT/s/expires")
mkdir "$MNT/s/checkpoints/hundred"
sql s 'delete from t where i > 10' || die psql
to s/state stopped
ok 'a rollback of one that is stopped by hand' to s/rollback hundred
is 'it stays stopped' "$(cat "$MNT/s/state")" stopped
nok 'also for a client' eval 'sql s "select 1" 2>/dev/null'
to s/state running
is 'it has its old rows' "$(rows s)" 100
is 'its URL' "$(cat "$MNT/s/url")" "$url"
is 'its number' "$(sed -n 's/^no //p' "$MNT/s/status")" "$no"
is 'and its end' "$(cat "$MNT/s/expires")" "$expires"
printf '[branch]\nidle_timeout = 1s\nreserve = 0\n[server]\nbin_dir = %s\n' "$TMP/bin" \
	>"$STORE/pgbranchfs.conf"
kill -HUP "$(daemon_pid)"
settles 'it falls asleep' state_is s stopped
ok 'a rollback of one that sleeps' to s/rollback "$(safety s rollback)"
is 'it sleeps on' "$(cat "$MNT/s/state")" stopped
is 'and wakes with what it was' "$(rows s)" 10
crash_conf '[server]' "bin_dir = $TMP/bin"
kill -HUP "$(daemon_pid)"

# --- open files, working directories, names that the kernel knows
data=$MNT/s/data
echo was >"$data/was"
mkdir "$data/dir" "$MNT/s/checkpoints/was"
inode=$(stat -c %i "$data")
echo now! >"$data/was"
echo new >"$data/new"
exec 7<>"$data/was"
(
	cd "$data/dir" || exit 1
	echo ready >"$TMP/in"
	wait_until "$DEADLINE" test -e "$TMP/rolled"
	echo late >file 2>/dev/null && exit 1
	exit 0
) &
inside=$!
wait_until "$DEADLINE" test -e "$TMP/in"
ls -R "$data" >/dev/null
ok 'a rollback with open files' to s/rollback was
touch "$TMP/rolled"
is 'the name shows the new state at once' "$(cat "$data/was")" was
nok 'what came later is not there' test -e "$data/new"
nok 'it is another directory' [ "$(stat -c %i "$data")" = "$inode" ]
# what is written goes to the kernel first: to disk it cannot go
nok 'an old handle cannot write' eval 'dd if=/dev/zero bs=1 count=1 conv=fsync >&7 2>/dev/null'
exec 7>&-
ok 'nor an old working directory' wait $inside
is 'nothing of it is in the new state' "$(cat "$data/was"; ls "$data/dir")" was
is 'it works' "$(rows s)" 10
mkdir "$MNT/f@s:$(safety s rollback)"
is 'what was written before is kept' "$(cat "$MNT/f/data/was" "$MNT/f/data/new" | tr '\n' ' ')" \
	'now! new '
rmdir "$MNT/f"

# --- clients that come meanwhile wait
sql s 'select 1' >/dev/null
touch "$TMP/hold"
to s/rollback hundred &
roll=$!
settles 'it starts' state_is s starting
sql s 'select count(*) from t' >"$TMP/client" &
client=$!
refused 'two at a time' 'busy' 'being changed' to s/rollback was
rm "$TMP/hold"
ok 'it ends' wait $roll
ok 'a client that came meanwhile is served' wait $client
is 'with the new state' "$(cat "$TMP/client")" 100

# --- refusals
refused 'no such checkpoint' 'No such file' "has no checkpoint 'nope'" to s/rollback nope
refused 'no name' 'Invalid' 'no name of a checkpoint' to s/rollback "'a b'"
refused 'nothing' 'Invalid' 'takes the name' to s/rollback ''
refused 'no word of reset' 'Invalid' "nothing to reset to" to s/reset main
to s/protected 1
refused 'rollback of a protected one' 'not permitted' 'protected' to s/rollback was
refused 'reset of a protected one' 'not permitted' 'protected' to s/reset parent
to s/protected 0
is 'it runs on' "$(cat "$MNT/s/state")" running
is 'and is as it was' "$(rows s)" 100
mkdir "$MNT/main/checkpoints/m"
refused 'rollback of main' 'not permitted' 'protected' to main/rollback m
rmdir "$MNT/main/checkpoints/m"

# --- a start that fails is said, and the way back is there
mkdir "$MNT/w"
sql w 'select 1' >/dev/null
to w/state stopped
echo nonsense >"$MNT/w/data/PG_VERSION"
mkdir "$MNT/w/checkpoints/broken"
printf '%s\n' "$("$PGBIN/postgres" --version | grep -o '[0-9]*' | head -n 1)" >"$MNT/w/data/PG_VERSION"
to w/state running
refused 'a state that cannot start' 'Input/output' 'did not start' to w/rollback broken
ok 'there is a way back' to w/rollback "$(safety w rollback)"
to w/state running
is 'and it works' "$(sql w 'select 1')" 1
rmdir "$MNT/w"

# --- reset
mkdir "$MNT/p"
sql p 'create table t as select generate_series(1, 5) i' || die psql
mkdir "$MNT/p/checkpoints/five"
mkdir "$MNT/r@p:five"
is 'parent' "$(cat "$MNT/r/parent")" p:five
is 'reset says what can be written' "$(cat "$MNT/r/reset")" parent
sql r 'insert into t values (77)' || die psql
mkdir "$MNT/rchild@r"
sql p 'set synchronous_commit = off; insert into t values (6)' || die psql
ok 'reset' to r/reset parent
is 'it runs again' "$(cat "$MNT/r/state")" running
is 'it is what its parent is' "$(sql r 'select sum(i) from t')" 21
is 'parent is not that checkpoint any more' "$(cat "$MNT/r/parent")" p
is 'its child is untouched' "$(sql rchild 'select sum(i) from t')" 92
sql p 'insert into t values (7)' || die psql
is 'they are apart' "$(sql r 'select sum(i) from t')" 21
ok 'back' to r/rollback "$(safety r reset)"
is 'as it was' "$(sql r 'select sum(i) from t')" 92
rmdir "$MNT/p"
is 'reset says that nothing can be' "$(cat "$MNT/r/reset")" ''
refused 'reset without a parent' 'No such file' "'p', was discarded" to r/reset parent
is 'it is as it was' "$(sql r 'select sum(i) from t')" 92
ok 'five outlived its branch' mkdir "$MNT/q@p:five"
is 'and holds what it held' "$(sql q 'select sum(i) from t')" 15
like 'audit' "$(grep '"rollback"' "$STORE/audit.log" | head -n 1)" \
	'"branch":"a".*"value":"c".*"allowed"'
like 'audit of reset' "$(grep '"reset"' "$STORE/audit.log" | grep allowed)" '"parent":"p"'

# --- many at once, of branches whose permissions change: nobody waits for ever
chmodders=()
chmods() { # BRANCH
	while [ ! -e "$TMP/chmods.end" ]; do
		chmod 701 "$MNT/$1"
		chmod 700 "$MNT/$1"
	done
}
rolls() { # BRANCH
	local i

	for ((i = 0; i < 10; i++)); do
		to "$1/rollback" c && rmdir "$MNT/$1/checkpoints/$(safety "$1" rollback)" || return 1
	done
	echo "$1" >>"$TMP/rolls"
}
all_have_rolled() {
	[ "$(wc -l <"$TMP/rolls")" = 12 ]
}
: >"$TMP/rolls"
for ((i = 0; i < 12; i++)); do
	mkdir "$MNT/m$i" "$MNT/m$i/checkpoints/c"
done
for ((i = 0; i < 12; i++)); do
	chmods "m$i" &
	chmodders+=($!)
	watch_pid $!
	rolls "m$i" &
	watch_pid $!
done
settles 'rollbacks while permissions change' all_have_rolled
touch "$TMP/chmods.end"
all_have_rolled && wait "${chmodders[@]}"

# --- all of it after a crash
rows=$(rows s)
kill_daemon
mount_only
is 'after a kill it is what it was' "$(rows s)" "$rows"
is 'so is another' "$(sql r 'select sum(i) from t')" 92
unmount_store
check_store
done_testing
