#!/bin/bash
# What the service manager is told, by a socket that stands in for systemd's: READY when
# the mount can be used, WATCHDOG while loop and workers do their work, RELOADING,
# STOPPING.  No server speaks in the daemon's name.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool perl

said=$TMP/said
watchdog_ms=600

# listen ADDRESS: notes each message as a line, ';' for line ends, and at READY whether
# the mount answers.
listen() {
	perl -MSocket -e '
		my ($address, $mnt) = @ARGV;
		socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die;
		bind($s, sockaddr_un($address =~ s/^@/\0/r)) or die "bind: $!";
		$| = 1;
		print "listening\n";
		while (defined recv($s, my $m, 4096, 0)) {
			$m =~ tr/\n/;/;
			print "$m\n";
			print "works\n" if $m =~ /^READY=1/ && -e "$mnt/main/state";
		}' "$1" "$MNT" >"$said" 2>&1 &
	listener=$!
	watch_pid $listener
	disown
	settles "a manager listens at ${1##*/}" grep -q listening "$said"
}

# start ADDRESS [NAME=VALUE...]: the daemon in the foreground, as systemd runs it.
start() {
	mkdir -p "$MNT"
	test_mounts+=("$MNT")
	env NOTIFY_SOCKET="$1" WATCHDOG_USEC=$((watchdog_ms * 1000)) "${@:2}" \
		"$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>"$TMP/daemon.log" &
	daemon=$!
	watch_pid $daemon
	settles 'READY' grep -q '^READY=1' "$said"
	settles 'comes when the mount works' grep -q '^works' "$said"
}

count() {
	grep -c "^$1" "$said"
}

# more WHAT N: there are more than N of these.
more() {
	[ "$(count "$1")" -gt "$2" ]
}

# quiet NAME: nothing more comes of WATCHDOG=1, for three times as long as is granted.
quiet() {
	local before

	wait_for_ms $((2 * watchdog_ms)) # what was sent before is still under way
	before=$(count WATCHDOG=1)
	wait_for_ms $((3 * watchdog_ms))
	is "$1" "$(count WATCHDOG=1)" "$before"
}

# Time has to pass: there is nothing that could be waited for.
wait_for_ms() {
	perl -e 'select undef, undef, undef, $ARGV[0] / 1000' "$1"
}

environment_of() {
	tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null
}

ended() {
	! kill -0 "$1" 2>/dev/null
}

new_store
printf '[branch]\nidle_timeout = 0\n' >"$STORE/pgbranchfs.conf"

# --- ready, alive, reloading, stopping

listen "$TMP/socket"
start "$TMP/socket"
like 'what it does' "$(grep READY "$said")" "STATUS=$STORE is mounted at $MNT"
settles 'WATCHDOG' more WATCHDOG=1 3

is 'a server runs' "$(sql main 'select 1')" 1
server=$(sed -n 's/^pid //p' "$MNT/main/status")
ok 'whose environment can be read' test -n "$(environment_of "$server")"
for pid in "$server" $(pgrep -f -- "--guard $daemon "); do
	nok "$(cat "/proc/$pid/comm") does not know of it" grep -E '^(NOTIFY|WATCHDOG|JOURNAL)_' \
		<<<"$(environment_of "$pid")"
done

kill -HUP "$daemon"
settles 'RELOADING' more 'RELOADING=1;MONOTONIC_USEC=[0-9]' 0
settles 'and READY again' more READY=1 1
echo 'nonsense' >>"$STORE/pgbranchfs.conf"
kill -HUP "$daemon"
settles 'READY with a bad file, too' more READY=1 2
like 'and what is wrong with it' "$(grep READY "$said" | tail -n 1)" 'STATUS=.*pgbranchfs.conf:'
sed -i '/nonsense/d' "$STORE/pgbranchfs.conf"

kill -STOP "$daemon"
quiet 'one that is stuck says nothing'
kill -CONT "$daemon"
settles 'and goes on' more WATCHDOG=1 "$(count WATCHDOG=1)"

kill -TERM "$daemon"
settles 'STOPPING' more STOPPING=1 0
settles 'the end' ended "$daemon"
is 'STOPPING was said once' "$(count STOPPING=1)" 1
kill "$listener"

# --- the workers are stuck, the loop is not

if [ "$(id -u)" = 0 ] && command -v strace >/dev/null; then
	listen "@$TMP/abstract"
	start "@$TMP/abstract"
	settles 'WATCHDOG' more WATCHDOG=1 1
	# who asks for the free space waits
	strace -f -qq -o /dev/null -e trace=fstatfs -e inject=fstatfs:delay_enter=600000000 \
		-p "$daemon" &
	tracer=$!
	watch_pid $tracer
	disown
	is_traced() {
		! grep -qx 'TracerPid:	0' /proc/"$daemon"/task/*/status
	}
	settles 'it is traced' is_traced
	for _ in $(seq 20); do # more than there are workers
		stat -f "$MNT" >/dev/null 2>&1 &
		watch_pid $!
		disown
	done
	quiet 'one whose workers are stuck says nothing'
	like 'but logs it' "$(cat "$TMP/daemon.log")" 'no worker of the mount answers'
	kill "$tracer"
	settles 'they go on, and so does it' more WATCHDOG=1 "$(count WATCHDOG=1)"
	kill -TERM "$daemon"
	settles 'the end' ended "$daemon"
	kill "$listener"
fi

# --- not for this process; a log for the journal

listen "$TMP/socket2"
exec 9>"$TMP/journal"
env JOURNAL_STREAM="$(stat -L -c '%d:%i' /proc/self/fd/9)" NOTIFY_SOCKET="$TMP/socket2" \
	WATCHDOG_USEC=1000 WATCHDOG_PID=1 "$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>&9 &
daemon=$!
watch_pid $daemon
settles 'READY' grep -q '^READY=1' "$said"
is 'a watchdog of another process is not ours' "$(count WATCHDOG=1)" 0
like 'the journal gets priorities' "$(head -n 1 "$TMP/journal")" '^<6>store .* is mounted at'
echo 'nonsense' >>"$STORE/pgbranchfs.conf"
kill -HUP "$daemon"
settles 'of errors, too' grep -q '^<3>.*pgbranchfs.conf:' "$TMP/journal"
kill -TERM "$daemon"
settles 'the end' ended "$daemon"
sed -i '/nonsense/d' "$STORE/pgbranchfs.conf"

# --- nobody listens, or at an address of another kind

for address in "$TMP/nobody" vsock:2:1234; do
	NOTIFY_SOCKET=$address "$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>"$TMP/daemon.log" &
	daemon=$!
	watch_pid $daemon
	settles "it works without ${address##*/}" test -e "$MNT/main/state"
	like 'and says so' "$(cat "$TMP/daemon.log")" 'service manager'
	kill -TERM "$daemon"
	settles 'the end' ended "$daemon"
done
done_testing
