#!/bin/bash
# Postgres' own checks on a branch of a branch.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool pgbench

new_store --checksums
mount_only
pgb() {
	local branch=$1

	shift
	pgbench -h "$MNT/$branch" -U postgres "$@" postgres >"$TMP/pgbench.log" 2>&1
}

ok 'pgbench -i on main' pgb main -i -s 5
ok 'mkdir a, b' mkdir "$MNT/a" "$MNT/b@a"
rmdir "$MNT/b"
ok 'load on a' pgb a -n -c 4 -T 4
ok 'mkdir b@a while a runs' mkdir "$MNT/b@a"
ok 'load on b' pgb b -n -c 4 -T 4
ok 'load on a' pgb a -n -c 2 -T 2

for branch in main a b; do
	is "the sums of $branch agree" "$(sql $branch 'select
		(select sum(bbalance) from pgbench_branches) = (select sum(abalance) from pgbench_accounts)
		and (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)
		and (select sum(bbalance) from pgbench_branches) =
			(select coalesce(sum(delta), 0) from pgbench_history)')" t
done

amcheck=$PGBIN/pg_amcheck
if [ -x "$amcheck" ] && sql b 'create extension amcheck' 2>"$TMP/amcheck.log"; then
	ok 'pg_amcheck' "$amcheck" -h "$MNT/b" -U postgres --heapallindexed -d postgres
	ok 'pg_amcheck of all databases' "$amcheck" -h "$MNT/b" -U postgres --all \
		--install-missing
else
	say '# the amcheck extension is not installed here'
fi

ok 'mkdir c' mkdir "$MNT/c"
sql b 'create database copy' && sql c 'create database copy'
dump_restore() {
	pg_dump -h "$MNT/b" -U postgres postgres |
		psql -X -q -v ON_ERROR_STOP=1 -h "$MNT/c" -U postgres -d copy >"$TMP/restore.log" 2>&1
}
sql c 'drop extension if exists amcheck' >/dev/null 2>&1
ok 'pg_dump of b into c' dump_restore
is 'the copy is the same' \
	"$(psql -XqAt -h "$MNT/c" -U postgres -d copy -c \
		"select count(*), sum(abalance), md5(string_agg(abalance::text, ',' order by aid)) from pgbench_accounts")" \
	"$(sql b "select count(*), sum(abalance), md5(string_agg(abalance::text, ',' order by aid)) from pgbench_accounts")"

for branch in main a b; do
	echo stopped >"$MNT/$branch/state"
	ok "pg_checksums of $branch" "$PGBIN/pg_checksums" --check -D "$MNT/$branch/data"
	is "$branch was shut down cleanly" \
		"$("$PGBIN/pg_controldata" "$MNT/$branch/data" | sed -n 's/^Database cluster state: *//p')" \
		'shut down'
done
done_testing
