#!/bin/bash
# What the superuser of a branch of its own reaches: another uid's branch, main's data, the
# store, the daemon, other servers - nothing of it.  And its server, made to misbehave.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv ipcs
for user in games man; do
	id "$user" >/dev/null 2>&1 || skip "there is no user $user"
done

as() { # USER COMMAND...
	local user=$1

	shift
	setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
}
q() { # USER BRANCH QUERY
	as "$1" env PGOPTIONS='-c client_min_messages=error' PGCONNECT_TIMEOUT="$DEADLINE" \
		timeout $((DEADLINE * 2)) psql -X -q -A -t \
		-v ON_ERROR_STOP=1 -h "$MNT/$2" -U postgres -d postgres -c "$3" 2>&1
}
# in_server COMMAND: as a program of the attacker's server; its output and exit status.
in_server() {
	q games bad "drop table if exists o; create table o (l text);
		copy o from program \$sh\$ ($1) 2>&1 | tr '\t\\\\' '  '; echo \"exit \${PIPESTATUS:-\$?}\" \$sh\$;
		select l from o"
}
# fails NAME COMMAND: the command, run by the attacker's server, gets nothing
fails() {
	local out

	out=$(in_server "if $2; then echo REACHED; else echo refused; fi")
	if [[ $out == *REACHED* || $out != *refused* ]]; then
		fail "$1"
		say "   $out"
	else
		pass "$1"
	fi
}
new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[settings]
shared_buffers = 16MB
[branch]
start_timeout = 10s
[policy all]
match = user:games, user:man
create = yes
CONF
mount_only
sql main "create table secret as select 'of main' as s" || die "main"
ok "the victim's branch" as man mkdir "$MNT/good"
ok "runs" q man good "create table own as select 'of man' as s"
ok "the attacker's branch" as games mkdir "$MNT/bad"
is "its server runs programs" "$(in_server "id -un" | head -n 1)" games
victim=$(sed -n 's/^pid //p' "$MNT/good/status")
daemon=$(daemon_pid)
good_no=$(sed -n 's/^no //p' "$MNT/good/status")
bad_no=$(sed -n 's/^no //p' "$MNT/bad/status")
server_of() {
	sed -n 's/^pid //p' "$MNT/$1/status"
}

# --- files

fails "another uid's branch by its name" "ls $MNT/good"
fails "its data" "cat $MNT/good/data/PG_VERSION"
fails "by its number" "ls $MNT/.run/$good_no/data/"
fails "main's data" "cat $MNT/main/data/PG_VERSION"
fails "the store" "ls $STORE/layers"
fails "its configuration of branches" "cat $STORE/branches/good.ini"
fails "the audit log" "cat $STORE/audit.log"
fails "upkeep" "echo gc > $MNT/.upkeep"
like "a file by SQL" "$(q games bad "select pg_read_file('$MNT/good/data/PG_VERSION')")" 'ERROR'
like "a large object of one" "$(q games bad "select lo_import('$STORE/audit.log')")" 'ERROR'
like "a table into one" "$(q games bad "copy (select 1) to '$STORE/x'")" 'ERROR'
nok "nothing was planted" test -e "$STORE/x"

# --- processes

for what in environ mem maps fd/0 root/etc cwd/PG_VERSION; do
	fails "/proc/SERVER/$what of another" "head -c 1 /proc/$victim/$what"
	fails "/proc/DAEMON/$what" "head -c 1 /proc/$daemon/$what"
done
fails "a signal to another server" "kill -0 $victim"
fails "and to the daemon" "kill -TERM $daemon"
if command -v gdb >/dev/null; then
	fails "ptrace" "gdb -batch -p $victim 2>&1 | grep -q 'Inferior 1'"
fi
like "a signal by SQL" "$(q games bad "select pg_terminate_backend($victim)")" 'f$|WARNING|not a PostgreSQL'

# --- shared memory

# in use: one that a killed server left may have had this pid, too
shm=$(awk -v pid="$victim" '$5 == pid && $7 > 0 { print $2 }' /proc/sysvipc/shm)
ok "the victim has a segment" test -n "$shm"
fails "its removal" "ipcrm -m $shm"
for seg in /dev/shm/PostgreSQL.*; do
	[ "$(stat -c %U "$seg" 2>/dev/null)" = man ] || continue
	fails "dynamic shared memory" "cat $seg"
	fails "its removal" "rm $seg"
	break
done

# --- sockets

fails "another's socket" "psql -h $MNT/good -U postgres -d postgres -c 'select 1'"
fails "by its number" "psql -h $MNT/.run/$good_no -U postgres -d postgres -c 'select 1'"

# --- a forged lock file: the daemon must not end others for it

key=$(awk -v pid="$victim" '$5 == pid && $7 > 0 { print $1 }' /proc/sysvipc/shm)
mine=$(server_of bad)
in_server "cd $MNT/bad/data && { head -n 6 postmaster.pid; echo ' $key $shm'; echo ready; } >pid.new &&
	cat pid.new >postmaster.pid" >/dev/null
is "it is forged" "$(sed -n 7p "$MNT/bad/data/postmaster.pid" | xargs)" "$key $shm"
in_server "kill -KILL $mine" >/dev/null
ended() {
	[ "$(server_of bad)" != "$mine" ]
}
settles "the attacker's server is gone" ended
is "it starts again" "$(q games bad 'select 1')" 1
is "the victim's still is the same" "$(server_of good)" "$victim"
is "and well" "$(q man good 'select s from own')" "of man"
mine=$(server_of bad)
in_server "cd $MNT/bad/data && { echo $daemon; tail -n +2 postmaster.pid; } >pid.new &&
	cat pid.new >postmaster.pid; kill -QUIT $mine" >/dev/null
settles "with the daemon's pid in it" ended
ok "the daemon lives" kill -0 "$daemon"
is "it starts again" "$(q games bad 'select 1')" 1

# --- the socket replaced: by a symlink to the victim's, by a file, by none

run=$MNT/.run/$bad_no
swap() { # COMMAND in the run directory, as the attacker
	as games sh -c "cd $run && rm -f .s.PGSQL.5432 && $1"
}
stop_bad() {
	echo stopped >"$MNT/bad/state" && echo running >"$MNT/bad/state"
}
ok "a symlink to the victim's socket" swap "ln -s ../$good_no/.s.PGSQL.5432 .s.PGSQL.5432"
like "root is not led there" "$(timeout 60 psql -XAt -h "$MNT/bad" -U postgres -d postgres \
	-c 'select s from own' 2>&1)" 'error'
nok "nor is the attacker" eval "q games bad 'select s from own' | grep -q 'of man'"
ok "nor does a branch of it ask there" eval "mkdir '$MNT/x@bad'; rmdir '$MNT/x' 2>/dev/null; true"
ok "it stops and starts" stop_bad
is "and works again" "$(q games bad 'select 1')" 1
ok "a file in its place" swap "echo x >.s.PGSQL.5432"
ok "stops and starts" stop_bad
is "and works" "$(q games bad 'select 1')" 1
ok "a symlink where the next server's configuration goes" as games sh -c \
	"cd $run && rm -f pg_hba.conf && ln -s $STORE/audit.log pg_hba.conf"
before=$(stat -c %s "$STORE/audit.log")
stop_bad
ok "the log is not written over" test "$(stat -c %s "$STORE/audit.log")" -ge "$before"
ok "as it begins" grep -q '^{"time"' "$STORE/audit.log"
is "and the branch works" "$(q games bad 'select 1')" 1
ok "a fifo where the daemon reads" as games sh -c \
	"cd $MNT/bad/data && mv postgresql.auto.conf auto.old && mkfifo postgresql.auto.conf"
stop_bad 2>/dev/null
ok "does not stop the daemon" timeout 20 ls "$MNT"
is "nor others" "$(q man good 'select s from own')" "of man"
ok "put right" as games sh -c "cd $MNT/bad/data && rm postgresql.auto.conf && mv auto.old postgresql.auto.conf"
stop_bad
is "all is well" "$(q games bad 'select 1')" 1
is "the victim was never restarted" "$(server_of good)" "$victim"
# --- a log that fills the disk

log_is_short() {
	[ "$(du -m "$STORE/run/$(sed -n 's/^no //p' "$MNT/bad/status").log" | cut -f 1)" -le 64 ]
}
ok "it logs 90 MiB" q games bad "do \$\$ begin for i in 1 .. 900 loop
	raise log '%', repeat('x', 100000); end loop; raise log 'the last line'; end \$\$"
settles "the log takes less" log_is_short
like "what came last is there" "$(tail -n 5 "$MNT/bad/log" | cut -c 1-200)" "the last line"
q games bad "do \$\$ begin raise log 'one more'; end \$\$"
one_more() {
	tail -n 3 "$MNT/bad/log" | grep -q "one more"
}
settles "and what comes then" one_more
done_testing
