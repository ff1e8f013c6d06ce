#!/bin/bash
# Send and receive: a branch that is being written, and its checkpoint, come to another
# store as they were at one moment; a stream that is cut off anywhere, or damaged, is
# refused as a whole; what a kill leaves is found and goes.
# shellcheck disable=SC2016,SC2317 # for eval; through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool pgbench script zstd
SEED=${TORTURE_SEED:-$RANDOM}
RANDOM=$SEED
say "# seed $SEED"

new_store
A=$STORE
B=$TMP/other
ok 'another store' "$PGBRANCHFS" init "$B"
for store in "$A" "$B"; do
	printf '[branch]\nidle_timeout = 0\nreserve = 0\n[settings]\nshared_buffers = 16MB\n' \
		>"$store/pgbranchfs.conf"
done
mount_only

leftovers() { # STORE
	compgen -G "$1/receive.*"
}

# in_other SQL [BRANCH]: asked of the branch in the other store, which is mounted for it
mount_other() {
	mkdir -p "$TMP/mnt2"
	[[ " ${test_mounts[*]} " == *" $TMP/mnt2 "* ]] || test_mounts+=("$TMP/mnt2")
	"$PGBRANCHFS" mount "$B" "$TMP/mnt2"
}

in_other() {
	psql -XqAt -h "$TMP/mnt2/$1" -U postgres -d postgres -c "$2" 2>&1
}

# --- a branch, and a checkpoint, while pgbench writes

PGUSER=postgres pgbench -h "$MNT/main" -i -s 1 -q postgres >/dev/null 2>&1
sql main "create table note (n int); insert into note values (1)"
ok 'a checkpoint' mkdir "$MNT/main/checkpoints/c1"
sql main 'insert into note values (2)'
PGUSER=postgres pgbench -h "$MNT/main" -n -c 2 -T 60 postgres >/dev/null 2>&1 &
bench=$!
watch_pid "$bench"
wait_until "$DEADLINE" eval '[ "$(sql main "select count(*) from pgbench_history")" -gt 100 ]'
before=$(sql main 'select count(*) from pgbench_history')
ok 'send' eval '"$PGBRANCHFS" send main "$MNT" >"$TMP/stream"'
after=$(sql main 'select count(*) from pgbench_history')
ok 'send by a path, of a checkpoint' eval '"$PGBRANCHFS" send "$MNT/main@c1" >"$TMP/stream.c1"'
kill "$bench"
wait "$bench" 2>/dev/null
nok 'nothing of it stays' compgen -G "$MNT/send-*"
ok 'the stream is zstd, with a sum' zstd -tq "$TMP/stream"
like 'its header says what it is' "$(zstd -dcq "$TMP/stream" | head -c 300 | tr '\0' ' ')" \
	'branch main.*postgres_version [0-9]+.*system_identifier [1-9][0-9]+'

said=$("$PGBRANCHFS" receive --name got "$B" <"$TMP/stream" 2>&1)
like 'received by a store that is not mounted' "$said" \
	'^received branch got: Postgres [0-9]+, system identifier [1-9]'
ok 'the other store is mounted' mount_other
said=$("$PGBRANCHFS" receive --name got.c1 "$B" <"$TMP/stream.c1" 2>&1)
like 'received by a store that is mounted' "$said" '^received branch got.c1: '
like 'the audit log says so' "$("$PGBRANCHFS" audit "$B" --verb receive)" ' receive +got.c1 .*allowed'

n=$(in_other got 'select count(*) from pgbench_history')
ok "what was acknowledged before is there ($before <= $n <= $after)" \
	test "$before" -le "$n" -a "$n" -le "$after"
is 'of one moment' "$(in_other got 'select sum(abalance) from pgbench_accounts')" \
	"$(in_other got 'select sum(delta) from pgbench_history')"
is 'the checkpoint is as it was' "$(in_other got.c1 'select string_agg(n::text, $$,$$) from note')" 1
is 'the branch is as it was' "$(in_other got 'select string_agg(n::text, $$,$$ order by n) from note')" 1,2
is 'and is written on' "$(in_other got 'insert into note values (3) returning n')" 3
is 'the system identifier came along' \
	"$(in_other got 'select system_identifier from pg_control_system()')" \
	"$(sql main 'select system_identifier from pg_control_system()')"
ok 'a branch of it' mkdir "$TMP/mnt2/child@got"
is 'has it all' "$(in_other child 'select count(*) from note')" 3
nok 'a name that is taken is refused' eval '"$PGBRANCHFS" receive --name got "$B" <"$TMP/stream" 2>"$TMP/said"'
like 'with a sentence' "$(cat "$TMP/said")" "there is a branch named 'got'|branch 'got' exists"
is 'nothing is left of it' "$(leftovers "$B")" ''
ok 'it is what a mount finds, too' "$PGBRANCHFS" umount "$TMP/mnt2"
ok 'mounted again' mount_other
is 'with all of it' "$(in_other got 'select count(*) from note')" 3
ok 'umount' "$PGBRANCHFS" umount "$TMP/mnt2"

# --- pipes, and files that are no tables

ok 'mkdir odd' mkdir "$MNT/odd"
printf 'spaces' >"$MNT/odd/data/a name"
ln "$MNT/odd/data/a name" "$MNT/odd/data/another"
ln -s 'a name' "$MNT/odd/data/link"
mkdir -m 750 "$MNT/odd/data/dir"
chmod 400 "$MNT/odd/data/another"
truncate -s 50M "$MNT/odd/data/dir/hole"
printf x >>"$MNT/odd/data/dir/hole"
ok 'through a pipe' eval '"$PGBRANCHFS" send odd "$MNT" | "$PGBRANCHFS" receive "$B" >"$TMP/said"'
mount_other
(cd "$MNT/odd/data" && find . -printf '%p %y %m %s %n %l %T@\n' | sort) >"$TMP/here"
(cd "$TMP/mnt2/odd/data" && find . -printf '%p %y %m %s %n %l %T@\n' | sort) >"$TMP/there"
# what a branch does not have is empty, and younger, in the copy
strange='pg_(replslot|dynshmem|notify|serial|snapshots|subtrans|stat_tmp)'
ok 'names, types, modes, sizes, links, times' diff <(grep -vE "$strange" "$TMP/here") \
	<(grep -vE "$strange" "$TMP/there")
ok 'bytes' diff -r "$MNT/odd/data" "$TMP/mnt2/odd/data"
ok 'holes stay holes' test "$(du -k "$TMP/mnt2/odd/data/dir/hole" | cut -f1)" -lt 1000
ok 'umount' "$PGBRANCHFS" umount "$TMP/mnt2"

# --- how far it is, on a terminal

on_terminal() { # COMMAND LINE
	script -qec "$1" /dev/null </dev/null | tr '\r' '\n'
}
like 'send tells' "$(on_terminal "'$PGBRANCHFS' send main@c1 '$MNT' >'$TMP/told'")" '[0-9]+[BKMG]? read, .* sent'
like 'receive tells' "$(on_terminal "'$PGBRANCHFS' receive --name told '$B' <'$TMP/told'")" \
	'[0-9]+[BKMG]? received'
ok 'nothing of that is in the stream' zstd -tq "$TMP/told"
rm "$TMP/told"

# --- a difference: small, and only to what it is one to

sql main 'insert into note values (4)'
ok 'a later checkpoint' mkdir "$MNT/main/checkpoints/c2"
ok 'send the difference' eval '"$PGBRANCHFS" send main@c2 --since c1 "$MNT" >"$TMP/diff"'
nok 'nothing of it stays' compgen -G "$MNT/s[ei]n[dc]*-*"
ok 'it is smaller' test $(($(stat -c %s "$TMP/diff") * 3)) -lt "$(stat -c %s "$TMP/stream.c1")"
nok 'a store that is not mounted refuses it' eval \
	'"$PGBRANCHFS" receive --name next --base pure "$B" <"$TMP/diff" 2>"$TMP/said"'
like 'and says what to do' "$(cat "$TMP/said")" 'hint: mount it'
mount_other
ok 'the state that it is one to' eval \
	'"$PGBRANCHFS" receive --name pure "$B" <"$TMP/stream.c1" >/dev/null'
no_difference() { # BASE WHAT: not to this
	if "$PGBRANCHFS" receive --name next --base "$1" "$B" <"$TMP/diff" >"$TMP/said" 2>&1; then
		fail "the difference was taken for one to $1"
		return 1
	fi
	grep -q "$2" "$TMP/said" && [ -z "$(leftovers "$B")" ] && [ ! -e "$TMP/mnt2/next" ]
}
ok 'not to a branch that was written since' no_difference got.c1 'does not fit'
ok 'not to the wrong cluster' no_difference main 'does not fit'
ok 'not to what is not there' no_difference main@nope 'no branch can be made'
nok 'not to what is called otherwise here' eval \
	'"$PGBRANCHFS" receive --name next "$B" <"$TMP/diff" 2>"$TMP/said"'
like 'with a sentence' "$(cat "$TMP/said")" "a difference to 'main@c1'"
ok 'to that it is' eval \
	'"$PGBRANCHFS" receive --name next --base pure "$B" <"$TMP/diff" >"$TMP/said"'
is 'it is as it was' "$(in_other next 'select string_agg(n::text, $$,$$ order by n) from note')" 1,2,4
is 'of one moment' "$(in_other next 'select sum(abalance) from pgbench_accounts')" \
	"$(in_other next 'select sum(delta) from pgbench_history')"
is 'its base is as it was' "$(in_other pure 'select count(*) from note')" 1
nok 'nothing else stays' compgen -G "$TMP/mnt2/receive-*"
ok 'a checkpoint by the same name, here' mkdir "$MNT/odd/checkpoints/o1"
ok 'and there' mkdir "$TMP/mnt2/odd/checkpoints/o1"
printf more >>"$MNT/odd/data/a name"
truncate -s 100 "$MNT/odd/data/dir/hole"
rm "$MNT/odd/data/link"
ok 'is what a difference is one to by itself' eval \
	'"$PGBRANCHFS" send odd --since o1 "$MNT" | "$PGBRANCHFS" receive --name odd2 "$B" >/dev/null'
ok 'with all that changed' diff -r "$MNT/odd/data" "$TMP/mnt2/odd2/data"
ok 'umount' "$PGBRANCHFS" umount "$TMP/mnt2"

# --- cut off, and damaged: refused as a whole, whatever it is

state_of() { # STORE: all that is in it
	(cd "$1" && find branches layers -printf '%p %s\n' | sort)
}

refused() { # FILE WHAT
	if "$PGBRANCHFS" receive --name bad "$B" <"$1" >"$TMP/said" 2>&1; then
		fail "$2 was taken"
		return 1
	fi
	grep -q '^hint: ' "$TMP/said" && [ -z "$(leftovers "$B")" ] && return 0
	fail "$2: $(cat "$TMP/said")"
	return 1
}

size=$(stat -c %s "$TMP/stream")
was=$(state_of "$B")
bad=0
for cut in 0 1 11 12 17 $((size - 1)) $((size - 4)) $((size - 5)) $((size / 2)) \
	$(for _ in 1 2 3 4 5; do echo $(((RANDOM * 32768 + RANDOM) % size)); done) \
	$(for ((i = 131072; i < size && i < 131072 * 4; i += 131072)); do echo "$i"; done); do
	head -c "$cut" "$TMP/stream" >"$TMP/cut"
	refused "$TMP/cut" "the first $cut bytes" || bad=$((bad + 1))
done
is 'every cut is refused' "$bad" 0
bad=0
for _ in $(seq 12); do
	at=$(((RANDOM * 32768 + RANDOM) % size))
	cp "$TMP/stream" "$TMP/flipped"
	byte=$(od -An -tu1 -j "$at" -N 1 "$TMP/stream")
	printf '%b' "\\x$(printf %02x $((byte ^ (1 << RANDOM % 8))))" |
		dd of="$TMP/flipped" bs=1 seek="$at" conv=notrunc status=none
	refused "$TMP/flipped" "a bit of byte $at flipped" || bad=$((bad + 1))
done
is 'every flipped bit is refused' "$bad" 0
# frames that decode, of records that do not fit together
zstd -dcq "$TMP/stream" >"$TMP/plain"
size=$(stat -c %s "$TMP/plain")
bad=0
for i in 1 2 3 4 5 6 7 8; do
	{ head -c $((size * i / 9)) "$TMP/plain"; tail -c +$((size * i / 9 + 500)) "$TMP/plain"; } |
		zstd -cq >"$TMP/gap"
	refused "$TMP/gap" "a gap after $i ninths" || bad=$((bad + 1))
done
is 'every gap is refused' "$bad" 0
rm "$TMP/plain"
cat "$TMP/stream" "$TMP/stream.c1" >"$TMP/two"
ok 'more behind the end is refused' refused "$TMP/two" 'two streams'
head -c 100000 /dev/urandom >"$TMP/noise"
ok 'noise is refused' refused "$TMP/noise" noise
is 'and nothing of all that is in the store' "$(state_of "$B")" "$was"

# --- who ends in the middle

if grep -q 'define ENABLE_FAULT_POINTS' "$top_builddir/config.h"; then
	for point in incoming.written adopt.placed adopt.saved; do
		PGBRANCHFS_FAULT="$point:1" "$PGBRANCHFS" receive --name "k.$point" "$B" \
			<"$TMP/stream.c1" >/dev/null 2>&1
		ok "$point: mounts" mount_other
		case $point in
		adopt.saved) is "$point: it is there" \
			"$(in_other "k.$point" 'select count(*) from note')" 1 ;;
		*) nok "$point: it is not there" test -e "$TMP/mnt2/k.$point" ;;
		esac
		is "$point: the directory went" "$(leftovers "$B")" ''
		settles "$point: no layer is left" eval \
			'"$PGBRANCHFS" gc "$TMP/mnt2" | grep -q "nothing to clean up"'
		is "$point: the others are as they were" \
			"$(in_other got 'select count(*) from note')" 3
		ok "$point: umount" "$PGBRANCHFS" umount "$TMP/mnt2"
	done
fi

# --- what is asked for wrongly

nok 'no such branch' eval '"$PGBRANCHFS" send nope "$MNT" >"$TMP/out" 2>"$TMP/said"'
like 'says so' "$(cat "$TMP/said")" "nope"
nok 'no such checkpoint' eval '"$PGBRANCHFS" send main@nope "$MNT" >"$TMP/out" 2>"$TMP/said"'
nok 'no store' eval '"$PGBRANCHFS" receive "$TMP" <"$TMP/stream" 2>"$TMP/said"'
like 'says so' "$(cat "$TMP/said")" 'is not a store'
"$PGBRANCHFS" send >/dev/null 2>&1
is 'wrong usage is 2' $? 2
done_testing
