#!/bin/bash
# Waking: many at once, silent and leaving clients, other uids, failing starts, bind mounts.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool perl setpriv

new_store
printf '[branch]\nidle_timeout = 0\nstart_timeout = 20s\n' >"$STORE/pgbranchfs.conf"
mount_only

# many N BRANCH: N clients at once; prints how many were served
many() {
	local i

	rm -f "$TMP"/answer.*
	for i in $(seq "$1"); do
		sql "$2" 'select 4711' >"$TMP/answer.$i" 2>&1 &
	done
	wait
	cat "$TMP"/answer.* | grep -cx 4711
}

wakes() {
	sed -n 's/^wakes //p' "$MNT/$1/status"
}

for n in 1 10 60; do
	ok "mkdir many$n" mkdir "$MNT/many$n"
	is "$n clients at once are all served" "$(many "$n" "many$n")" "$n"
	is 'by one start' "$(wakes "many$n")" 1
	echo stopped >"$MNT/many$n/state"
	echo running >"$MNT/many$n/state"
	rmdir "$MNT/many$n"
done

# --- clients that say nothing, or leave while they wait

ok 'mkdir quiet' mkdir "$MNT/quiet"
connect() { # SECONDS: connects, sends nothing, leaves
	perl -MSocket -e '
		socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
		connect($s, sockaddr_un($ARGV[0])) or die "connect: $!\n";
		select(undef, undef, undef, $ARGV[1]);' "$MNT/quiet/.s.PGSQL.5432" "$1"
}
for i in 1 2 3 4 5; do
	connect 0 || fail "connect $i"
	connect 3 &
	watch_pid $!
done
is 'silent neighbours disturb nobody' "$(sql quiet 'select 1')" 1
is 'one start' "$(wakes quiet)" 1
like 'the daemon lives' "$(cat "$MNT/quiet/state")" running

# --- a running branch has no proxy in its path

sockets() {
	find "/proc/$(daemon_pid)/fd" -lname 'socket:*' | wc -l
}
before=$(sockets)
sql quiet "select 'here', pg_sleep(3)" >"$TMP/direct.log" &
watch_pid $!
direct_runs() {
	sql quiet 'select 1' >/dev/null &&
		[ "$(sql quiet "select count(*) from pg_stat_activity where query like '%pg_sleep(3)%'
			and pid <> pg_backend_pid()")" = 1 ]
}
settles 'a client of a running branch' direct_runs
is 'adds no connection to the daemon' "$(sockets)" "$before"
wait

# --- two uids: peer authentication sees the client, through the relay too

ok 'mkdir theirs' mkdir "$MNT/theirs"
uid=$(id -u postgres)
ok 'given to another uid' chown "$uid" "$MNT/theirs"
whoami_sql="select split_part(current_user::text, ' ', 1)"
as_owner() {
	setpriv --reuid "$uid" --regid "$(id -g postgres)" --clear-groups \
		psql -XqAt -h "$MNT/theirs" -d postgres "$@"
}
is 'its owner gets in over the relay' "$(as_owner -U postgres -c "$whoami_sql")" postgres
is 'it runs under the owner' \
	"$(stat -c %u "/proc/$(sed -n 's/^pid //p' "$MNT/theirs/status")")" "$uid"
is 'root gets in' "$(sql theirs "$whoami_sql")" postgres
like 'the peer is the client, not the daemon' \
	"$(as_owner -U nobody_here -c 'select 1' 2>&1)" 'Peer authentication failed'
stranger() {
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		psql -XqAt -h "$MNT/theirs" -U postgres -d postgres -c 'select 1' 2>&1
}
nok 'a stranger does not' stranger

# --- a start that fails: a proper message, then it holds off, then it is mended

ok 'mkdir broken' mkdir "$MNT/broken"
echo 'no_such_setting = 1' >>"$MNT/broken/data/postgresql.conf"
like 'clients get the reason' "$(sql broken 'select 1' 2>&1)" 'FATAL: '
like 'with SQLSTATE 57P03' "$(perl -MSocket -e '
	socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
	connect($s, sockaddr_un($ARGV[0])) or die;
	my $p = pack("Nn2", 0, 3, 0) . "user\0postgres\0database\0postgres\0\0";
	substr($p, 0, 4) = pack("N", length $p);
	syswrite $s, $p;
	my $got = "";
	while (sysread $s, my $b, 4096) { $got .= $b }
	$got =~ tr/\0/ /;
	print $got;' "$MNT/broken/.s.PGSQL.5432")" '57P03'
like 'status says why' "$(cat "$MNT/broken/status")" 'no_such_setting'
like 'the log too' "$(cat "$MNT/broken/log")" 'no_such_setting'
sed -i '/no_such_setting/d' "$MNT/broken/data/postgresql.conf"
ok 'mended and started by hand' eval "echo running >'$MNT/broken/state'"
is 'it serves' "$(sql broken 'select 1')" 1

# --- through a bind mount, and after a crash of the server

ok 'mkdir bound' mkdir "$MNT/bound"
mkdir "$TMP/b"
ok 'a bind mount of the branch' mount --bind "$MNT/bound" "$TMP/b"
cleaner eval "mountpoint -q '$TMP/b' && umount '$TMP/b'"
is 'wakes it' "$(psql -XqAt -h "$TMP/b" -U postgres -d postgres -c 'select 5')" 5
umount "$TMP/b"

ok 'mkdir crashing' mkdir "$MNT/crashing"
sql crashing 'create table t (n int)'
for i in 1 2; do # a third within the minute would meet the restart limit
	sql crashing "insert into t values ($i)"
	pid=$(sed -n 's/^pid //p' "$MNT/crashing/status")
	kill -KILL "$pid"
	# until then a client is told that the server was killed
	noticed() { [[ $(cat "$MNT/crashing/state") =~ stopped|failed ]]; }
	settles "the server's death is noticed" noticed
	is 'the next client wakes it, nothing is lost' "$(sql crashing 'select count(*) from t')" "$i"
done
done_testing
