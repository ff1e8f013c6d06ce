#!/bin/bash
# Branches are made of databases that are being written, by pgbench and by the bank, in
# a mix of parent, child and grandchild.  In each: every transfer that was acknowledged
# before mkdir was called, no money made or lost in either, pg_amcheck clean.
#
# TORTURE_SECONDS: how long each load runs (default 6).  With it each load runs once
# more without branches, and the pauses of both are printed side by side.
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
. "$(dirname "$0")/crashlib.sh"
seed

SECONDS_EACH=${TORTURE_SECONDS:-6}
# the bank's, in each parent.  Where pauses are looked at, there are not so many that they
# wait for a processor longer than for anything else.
clients=3
[ -z "${TORTURE_SECONDS:-}" ] || [ "$(nproc)" -ge 6 ] || clients=$((($(nproc) + 1) / 2))

new_store
crash_conf
mount_only
bank_init main main 500
ok 'pgbench -i' "$PGBIN/pgbench" -h "$MNT/main" -U postgres -i -q -s 1 postgres \
	2>"$TMP/pgbench.out"
ok 'a child' mkdir "$MNT/child"
ok 'a grandchild' mkdir "$MNT/grand@child"
mkdir "$NOTES/bank.child" "$NOTES/bank.grand"
cp "$NOTES/bank.main"/ack.* "$NOTES/bank.child" 2>/dev/null
parents=(main child grand)
declare -A pgbench_done=() # transactions, by branch

amcheck() { # BRANCH
	"$PGBIN/pg_amcheck" -h "$MNT/$1" -U postgres -d postgres --install-missing \
		--heapallindexed >"$TMP/amcheck.out" 2>&1
}

# check_pgbench BRANCH: each of its transactions is there as a whole, or not at all.
check_pgbench() {
	[ "$(sql "$1" 'select (select coalesce(sum(delta), 0) from pgbench_history) = all (array[
		(select sum(abalance) from pgbench_accounts),
		(select sum(bbalance) from pgbench_branches),
		(select sum(tbalance) from pgbench_tellers)])')" = t ] ||
		fail "pgbench's sums in $1 differ"
}

# look_into BRANCH PARENT MARK
look_into() {
	check_bank "$1" "$2" "$3" || return 0
	check_pgbench "$1"
	amcheck "$1" || {
		fail "pg_amcheck in $1"
		head -n 5 "$TMP/amcheck.out"
	}
	count amchecks
}

# pgbench_start BRANCH SETTINGS: its output is in $NOTES/pgbench.BRANCH.
pgbench_start() {
	PGOPTIONS=${2:+-c synchronous_commit=off} "$PGBIN/pgbench" -h "$MNT/$1" -U postgres \
		-n -c 1 -T "$SECONDS_EACH" postgres >"$NOTES/pgbench.$1" 2>&1 &
	load_pids+=($!)
	watch_pid $!
}

# pgbench_over BRANCH: it ended well, and what it was told is there.
pgbench_over() {
	local done_now

	done_now=$(sed -n 's/^number of transactions actually processed: //p' "$NOTES/pgbench.$1")
	[ -n "$done_now" ] || fail "pgbench in $1: $(tail -n 3 "$NOTES/pgbench.$1")"
	pgbench_done[$1]=$((${pgbench_done[$1]:-0} + ${done_now:-0}))
	count pgbench_transactions "${done_now:-0}"
	[ "$(sql "$1" 'select count(*) from pgbench_history')" -ge "${pgbench_done[$1]}" ] ||
		fail "$1 lost transactions of pgbench"
	check_pgbench "$1"
}

# load_begin SETTINGS [DDL]: sets end, when it will be over.
load_begin() {
	local parent

	for parent in "${parents[@]}"; do
		bank_start "$parent" "$parent" "$clients" "$SECONDS_EACH" "$1"
		pgbench_start "$parent" "$1"
	done
	end=$((SECONDS + SECONDS_EACH - 1))
	[ -z "${2:-}" ] || "$2" "$end" &
	ddl=$!
}

# load_over NAME: and what it saw of pauses.
load_over() {
	local parent

	wait "$ddl"
	load_wait
	for parent in "${parents[@]}"; do
		say "# $1, $parent: $(cat "$NOTES/bank.$parent.out")"
		pgbench_over "$parent"
	done
}

# make_branch NAME PARENT N: if N is 1, by way of a checkpoint, which then goes.
make_branch() {
	if [ "$3" = 0 ]; then
		mkdir "$MNT/$1@$2"
		return
	fi
	mkdir "$MNT/$2/checkpoints/$1" && mkdir "$MNT/$1@$2:$1" &&
		rmdir "$MNT/$2/checkpoints/$1"
}

# await_turn N: until N times 200 ms, the pace that is asked for, are over since $began.
await_turn() {
	local left=$((began + $1 * 200 - $(now_ms)))

	[ "$left" -le 0 ] || sleep "$((left / 1000)).$(printf %03d $((left % 1000)))"
}

# made_under_load NAME SETTINGS [DDL]: a branch every 200 ms until the load is over.
made_under_load() {
	local what=$1 i=0 parent name began end ddl checked=0

	if [ -n "${TORTURE_SECONDS:-}" ]; then
		load_begin "${@:2}"
		load_over "$what without branches"
	fi
	load_begin "${@:2}"
	began=$(now_ms)
	while [ "$SECONDS" -lt "$end" ]; do
		parent=${parents[i % 3]}
		name=f$i
		"$BANK" mark "$NOTES/bank.$parent" >"$NOTES/mark.$name"
		make_branch "$name" "$parent" $((i % 2)) ||
			fail "mkdir $name@$parent: $(cat "$MNT/.error")"
		count branches
		i=$((i + 1))
		await_turn "$i"
	done
	load_over "$what"
	for parent in "${parents[@]}"; do
		count transfers "$(sed 's/ .*//' "$NOTES/bank.$parent.out")"
	done
	while [ "$checked" -lt "$i" ]; do
		name=f$checked
		look_into "$name" "${parents[checked % 3]}" "$NOTES/mark.$name"
		rmdir "$MNT/$name" || fail "rmdir $name"
		checked=$((checked + 1))
	done
	for parent in "${parents[@]}"; do
		check_bank "$parent" "$parent"
	done
	pass "$what: $i branches"
}

made_under_load 'commits' ''
# what is not flushed yet is carried along by mkdir
made_under_load 'asynchronous commits' 'set synchronous_commit = off'

# --- the same while the parents are rebuilt, emptied, sorted

ddl_main() {
	local n=0

	export PGOPTIONS='-c client_min_messages=warning'
	while [ "$SECONDS" -lt "$1" ]; do
		n=$((n + 1))
		for parent in main child; do
			sql "$parent" 'checkpoint'
			sql "$parent" 'create index concurrently if not exists extra on transfers (amount)'
			sql "$parent" 'drop index if exists extra'
			sql "$parent" 'create database d1 strategy = wal_log'
			sql "$parent" 'create database d2 strategy = file_copy'
			sql "$parent" 'drop database d1'
			sql "$parent" 'create table if not exists gone as select generate_series(1, 20000) i'
			sql "$parent" 'truncate gone'
			sql "$parent" "set work_mem = '64kB'; select count(*) from (select i, md5(i::text) from generate_series(1, 50000) i order by 2) x"
			sql "$parent" 'create unlogged table if not exists u (i int); insert into u select generate_series(1, 10000)'
			sql "$parent" 'vacuum full transfers'
			sql "$parent" 'drop database d2'
		done
	done >/dev/null 2>"$NOTES/ddl.err"
	say "# $n rounds of DDL"
}
made_under_load 'DDL' '' ddl_main
is 'no statement failed' "$(cat "$NOTES/ddl.err")" ''

# --- and all of them are there after a crash of everything

for parent in "${parents[@]}"; do
	bank_start "$parent" "$parent" 3 60
done
mkdir "$MNT/last"
settles 'the load runs' at_least main "$(($(acks_of main) + 20))"
kill_all
load_end
must_mount
for parent in "${parents[@]}"; do
	check_bank "$parent" "$parent" && pass "$parent after a kill of everything"
done
check_store
print_figures
done_testing
