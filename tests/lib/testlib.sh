# shellcheck shell=bash
# testlib.sh - sourced by every shell test.
#
#   . "$(dirname "$0")/../lib/testlib.sh"
#   need_fuse; need_postgres
#   mount_store                    # $STORE and $MNT, the daemon runs
#   ok "main is there" test -d "$MNT/main"
#   done_testing
#
# $TMP is a fresh directory with a short path (socket paths are limited to 107
# bytes) that every user can enter, because servers run as the user postgres.  It is
# in PGBRANCHFS_TMP, by default /tmp.
# However the test ends, what it started is stopped, by pid, and $TMP is removed.

set -u

top_srcdir=${top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
top_builddir=${top_builddir:-$top_srcdir}
PGBRANCHFS=${PGBRANCHFS:-$top_builddir/pgbranchfs}
export PGBRANCHFS top_srcdir top_builddir

# How long a condition may take, in seconds; sanitizers are slow.
DEADLINE=${DEADLINE:-60}

test_failed=0
test_count=0
test_mounts=()
test_pids=()
test_cleaners=()

say() {
	printf '%s\n' "$*"
}

# fail NAME: notes a failure and goes on.
fail() {
	test_count=$((test_count + 1))
	test_failed=$((test_failed + 1))
	say "FAILED: $*"
}

# pass NAME
pass() {
	test_count=$((test_count + 1))
	say "ok: $*"
}

# ok NAME COMMAND...: passes if the command succeeds.
ok() {
	local name=$1

	shift
	if "$@"; then
		pass "$name"
	else
		fail "$name (exit $? of: $*)"
	fi
}

# nok NAME COMMAND...: passes if the command fails.
nok() {
	local name=$1

	shift
	if "$@"; then
		fail "$name (should have failed: $*)"
	else
		pass "$name"
	fi
}

# is NAME GOT WANTED: compares two strings.
is() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1"
		say "   got:    $2"
		say "   wanted: $3"
	fi
}

# like NAME GOT REGEX: matches an extended regular expression.
like() {
	if [[ $2 =~ $3 ]]; then
		pass "$1"
	else
		fail "$1"
		say "   got:    $2"
		say "   wanted: something like $3"
	fi
}

# die REASON: the rest of the test makes no sense.
die() {
	fail "$*"
	exit 1
}

# skip REASON: this machine cannot run the test.
skip() {
	if [ -n "${PGBRANCHFS_REQUIRE:-}" ]; then
		say "FAILED: required, but cannot run: $*"
		exit 1
	fi
	say "skipped: $*"
	exit 77
}

done_testing() {
	say "$test_count checks, $test_failed failed"
	[ "$test_count" -gt 0 ] || die "no check was made"
	exit $((test_failed > 0))
}

# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until() {
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		if [ "$SECONDS" -ge "$end" ]; then
			say "waited in vain for: $*"
			return 1
		fi
		sleep 0.05
	done
}

# settles NAME COMMAND...: as ok, but the command may succeed late.
settles() {
	local name=$1

	shift
	ok "$name" wait_until "$DEADLINE" "$@"
}

# refused NAME ERRNO-TEXT REGEX COMMAND...: fails like that, and .error says why.
refused() {
	local name=$1 errno=$2 regex=$3 out

	shift 3
	if out=$("$@" 2>&1); then
		fail "$name (should have failed)"
		return
	fi
	like "$name: errno" "$out" "$errno"
	like "$name: .error" "$(cat "$MNT/.error")" "$regex"
}

# reads FILE VALUE: for wait_until and settles.
reads() {
	[ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

is_mounted() {
	mountpoint -q "$1" 2>/dev/null
}

# cleaner COMMAND...: is run at the end, the last one first; one that fails is run once
# more when mounts and servers are gone.
cleaner() {
	test_cleaners+=("$(printf '%q ' "$@")")
}

# watch_pid PID: is killed at the end if it still runs.
watch_pid() {
	test_pids+=("$1:$(pid_birth "$1")")
}

# Start time of a process: with it, a pid that was reused is not mistaken for ours.
pid_birth() {
	local stat

	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
	stat=${stat##*) }
	# shellcheck disable=SC2086 # fields
	set -- $stat
	echo "${20}"
}

kill_watched() {
	local entry pid birth

	for entry in "${test_pids[@]}"; do
		pid=${entry%%:*}
		birth=${entry#*:}
		if [ -n "$birth" ] && [ "$(pid_birth "$pid")" = "$birth" ]; then
			kill -KILL "$pid" 2>/dev/null
		fi
	done
}

# The daemon that serves a mount of this test, if any: its command names $TMP.
daemons_here() {
	local dir

	for dir in /proc/[0-9]*; do
		grep -qaF "$TMP/" "$dir/cmdline" 2>/dev/null || continue
		# not by its path, which is another one from within a chroot
		if [ "$dir/exe" -ef "$PGBRANCHFS" ]; then
			echo "${dir#/proc/}"
		fi
	done
}

# Those that end what a killed daemon of this test leaves.
no_guard_is_here() {
	! grep -lazF -- "$TMP/" /proc/[0-9]*/cmdline 2>/dev/null | xargs -r grep -qazx -- --guard
}

# Servers of this test: processes whose command or directory is below $TMP.
servers_here() {
	local dir

	for dir in /proc/[0-9]*; do
		case "$(readlink "$dir/exe" 2>/dev/null)" in
		*/postgres) ;;
		*) continue ;;
		esac
		if grep -qaF "$TMP/" "$dir/cmdline" 2>/dev/null ||
			[[ $(readlink "$dir/cwd" 2>/dev/null) == "$TMP/"* ]]; then
			echo "${dir#/proc/}"
		fi
	done
}

test_end() {
	local rc=$? mnt i pid report retry=()

	trap - EXIT INT TERM
	set +e
	cd /
	for ((i = ${#test_cleaners[@]} - 1; i >= 0; i--)); do
		eval "${test_cleaners[i]}" || retry+=("${test_cleaners[i]}")
	done
	for ((i = ${#test_mounts[@]} - 1; i >= 0; i--)); do
		mnt=${test_mounts[i]}
		is_mounted "$mnt" || continue
		timeout 60 "$PGBRANCHFS" umount "$mnt" >/dev/null 2>&1
		is_mounted "$mnt" || continue
		say "# $mnt had to be unmounted lazily"
		# a thread that waits in the kernel is freed by the guard, which needs the mount
		for pid in $(daemons_here); do
			kill -KILL "$pid" 2>/dev/null
		done
		wait_until 10 no_guard_is_here >/dev/null
		umount -l "$mnt" 2>/dev/null || fusermount3 -u -z "$mnt"
	done
	# umount returns when the servers are stopped: whoever is left is stuck
	for pid in $(daemons_here); do
		wait_until 10 eval "! kill -0 $pid 2>/dev/null" >/dev/null ||
			kill -KILL "$pid" 2>/dev/null
	done
	for pid in $(servers_here); do
		say "# server $pid was still running"
		kill -KILL "$pid" 2>/dev/null
	done
	kill_watched
	for i in "${retry[@]}"; do
		eval "$i"
	done
	for report in "$TMP"/sanitizer/*; do
		[ -s "$report" ] || continue
		say "FAILED: a sanitizer reported"
		cat "$report"
		rc=1
	done
	if [ "$rc" -ne 0 ] && [ "$rc" -ne 77 ]; then
		show_logs
	fi
	for mnt in "${test_mounts[@]}"; do
		if is_mounted "$mnt"; then
			say "# $mnt is still mounted: $TMP is left behind"
			exit 1
		fi
	done
	rm -rf --one-file-system "$TMP"
	exit "$rc"
}

show_logs() {
	local log

	for log in "$TMP"/*.log "$TMP"/store/run/*/log; do
		[ -s "$log" ] || continue
		say "# --- the end of $log"
		tail -n 40 "$log"
	done
}

# --- What a test needs

need_tool() {
	local tool

	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "only root can do this"
}

need_fuse() {
	[ -x "$PGBRANCHFS" ] || die "$PGBRANCHFS is not built"
	[ -c /dev/fuse ] || skip "there is no /dev/fuse"
	if [ "$(id -u)" != 0 ]; then
		[ -w /dev/fuse ] || skip "/dev/fuse may not be opened by this user"
		need_tool fusermount3
	elif ! (: <>/dev/fuse) 2>/dev/null; then
		skip "/dev/fuse cannot be opened (no FUSE in this container?)"
	fi
	need_tool mountpoint
}

# For tests of the mode without root: the device is 0600 on some machines.
open_fuse_to_all() {
	need_root
	need_tool fusermount3 setpriv
	chmod 666 /dev/fuse
}

# The newest directory with a Postgres server, or nothing.
postgres_bin() {
	local dir

	dir=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1)
	if [ -z "$dir" ]; then
		dir=$(readlink -f "$(command -v postgres)" 2>/dev/null)
	fi
	[ -z "$dir" ] || dirname "$dir"
}

need_postgres() {
	PGBIN=$(postgres_bin)
	[ -n "$PGBIN" ] || skip "there is no Postgres server here"
	export PGBIN
	need_tool psql
	if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
		skip "there is no user postgres to run servers"
	fi
}

# --- The mount

# new_store [ARG...]: $STORE, by pgbranchfs init.
# shellcheck disable=SC2119,SC2120 # the arguments are for the tests
new_store() {
	ok "init" "$PGBRANCHFS" init "$STORE" "$@"
	[ -d "$STORE" ] || die "init made no store"
}

# mount_only [ARG...]: mounts $STORE at $MNT.
mount_only() {
	mkdir -p "$MNT"
	test_mounts+=("$MNT")
	timeout 120 "$PGBRANCHFS" mount "$STORE" "$MNT" "$@" ||
		die "mount failed (exit $?)"
	is_mounted "$MNT" || die "mount returned, but $MNT is not mounted"
	pass "mount"
}

# mount_store: a new store, mounted.
mount_store() {
	# shellcheck disable=SC2119 # those are arguments of mount
	new_store
	mount_only "$@"
}

unmount_store() {
	timeout 120 "$PGBRANCHFS" umount "$MNT" || die "umount failed (exit $?)"
	! is_mounted "$MNT" || die "umount returned, but $MNT is mounted"
	pass "umount"
}

# slow_postgres: makes $TMP/bin, a bin_dir in which a server waits before it starts, as
# long as there is a file $TMP/hold.
slow_postgres() {
	mkdir "$TMP/bin"
	ln -s "$PGBIN"/* "$TMP/bin"
	rm "$TMP/bin/postgres"
	cat >"$TMP/bin/postgres" <<-WRAPPER
		#!/bin/sh
		case "\$1" in
		-D) while [ -e "$TMP/hold" ]; do sleep 0.05; done ;;
		esac
		exec "$PGBIN/postgres" "\$@"
	WRAPPER
	chmod 755 "$TMP/bin" "$TMP/bin/postgres"
}

# record_set NAME KEY VALUE: in the record of a branch of the store, which must not be
# mounted; the sum is put right.
record_set() {
	local file=$STORE/branches/$1.ini text sum

	text=$(sed -e "/^\(sum\|$2\) = /d" "$file")$'\n'"$2 = $3"$'\n'
	sum=$(printf %s "$text" | gzip -c | tail -c 8 | od -An -N 4 -t x4 | tr -d ' ')
	printf '%ssum = %s\n' "$text" "$sum" >"$file"
}

record_get() { # NAME KEY
	sed -n "s/^$2 = //p" "$STORE/branches/$1.ini"
}

# The daemon's pid, or nothing.
daemon_pid() {
	local pids pid parent

	pids=" $(daemons_here | tr '\n' ' ')"
	for pid in $pids; do
		parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
		if [ -n "$parent" ] && [[ $pids != *" $parent "* ]]; then
			echo "$pid"
			return
		fi
	done
}

# kill_daemon: as a crash, then the dead mount is taken away.
kill_daemon() {
	local pid

	pid=$(daemon_pid)
	[ -n "$pid" ] || die "there is no daemon to kill"
	kill -KILL "$pid"
	wait_until 10 eval "! kill -0 $pid 2>/dev/null" || die "the daemon lives"
	umount -l "$MNT" 2>/dev/null || fusermount3 -u -z "$MNT"
}

# sql BRANCH QUERY: as the superuser, output without decoration.
sql() {
	local branch=$1 query=$2

	shift 2
	PGCONNECT_TIMEOUT=$DEADLINE timeout $((DEADLINE * 2)) psql -X -q -A -t \
		-v ON_ERROR_STOP=1 -h "$MNT/$branch" -U postgres -d postgres "$@" -c "$query"
}

umask 022
TMP=$(mktemp -d "${PGBRANCHFS_TMP:-/tmp}/pbf.XXXX") || exit 1
chmod 755 "$TMP"
if [ -n "${PGBRANCHFS_SANITIZER:-}" ]; then
	# the daemon has no stderr: its reports become files, read by test_end
	mkdir -m 1777 "$TMP/sanitizer"
	for name in ASAN UBSAN LSAN TSAN; do
		export "${name}_OPTIONS=log_path=$TMP/sanitizer/$name:print_stacktrace=1"
	done
fi
STORE=$TMP/store
MNT=$TMP/mnt
export TMP STORE MNT
trap test_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
