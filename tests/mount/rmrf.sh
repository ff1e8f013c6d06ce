#!/bin/bash
# rm -rf of a branch whose server is running and writing: it must end well each time,
# and leave the parent and the other branches alone.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

rounds=${PGBRANCHFS_ROUNDS:-8}
mount_store
sql main "create table t (i int, s text)" || die "psql"
sql main "checkpoint"

# Writes, and makes and drops files in many directories, until the server goes.
load() {
	sql "$1" "do \$\$ begin for n in 1..1000000 loop
		execute 'create table x' || n || ' as select generate_series(1, 2000) i';
		execute 'insert into t select i, repeat(''s'', 500) from x' || n;
		commit;
		if n > 3 then execute 'drop table x' || n - 3; end if;
	end loop; end \$\$" >/dev/null 2>&1
}

writes() {
	[ "$(sql "$1" "select count(*) > 2 from pg_class where relname like 'x%'")" = t ]
}

failed=0
for ((i = 1; i <= rounds; i++)); do
	mkdir "$MNT/b$i" || die "mkdir b$i"
	load "b$i" &
	loader=$!
	wait_until "$DEADLINE" writes "b$i" || die "no load on b$i"
	# what is left of it was made by the server; never twice the same moment
	sleep "0.0$((RANDOM % 10))"
	if ! rm -rf "$MNT/b$i"; then
		failed=$((failed + 1))
		cat "$MNT/.error"
	fi
	if [ -e "$MNT/b$i" ]; then
		fail "b$i is still there"
	fi
	wait "$loader"
done
is "rm -rf under load, failures of $rounds" "$failed" 0
is "the parent works" "$(sql main "select count(*) from t")" 0

# The right to take everything holds for the process that began with the branch.
mkdir "$MNT/keep"
ok "a branch starts" sql keep "select 1"
nok "rmdir of a directory that is not empty" rmdir "$MNT/keep/data/base"
ok "rm of a virtual file does nothing" rm "$MNT/keep/status"
nok "and no other process may go on from there" rmdir "$MNT/keep/data/base"
is "the server was not stopped by it" "$(cat "$MNT/keep/state")" running
ok "it works" sql keep "select 1"

# One that is interrupted took nothing: the branch goes as a whole or not at all.
files_of() {
	(cd "$1" && find . -type f ! -path './pg_wal/*' ! -path './pg_stat/*' \
		! -name postmaster.pid | sort)
}
for name in keep rests; do
	mkdir -p "$MNT/$name"
	[ "$name" = keep ] || sql rests "select 1" >/dev/null
	files_of "$MNT/$name/data" >"$TMP/before"
	"$top_builddir/tests/mount/fileops" begin-rm "$MNT/$name" >"$TMP/begin" ||
		fail "a removal that is not finished: $(cat "$TMP/begin")"
	is "$name: its server was halted, in case that the branch stays" \
		"$(cat "$MNT/$name/state")" stopped
	files_of "$MNT/$name/data" >"$TMP/after"
	ok "$name: nothing is lost" diff "$TMP/before" "$TMP/after"
	is "$name: it works" "$(sql "$name" "select 40 + 2")" 42
done
ok "rm -rf of it later" rm -rf "$MNT/rests"

# A stopped one, one that never ran, and with the directory as the shell's own.
mkdir "$MNT/fresh" "$MNT/idle"
sql idle "select 1" >/dev/null
echo stopped >"$MNT/idle/state"
ok "rm -rf of a fresh branch" rm -rf "$MNT/fresh"
ok "rm -rf of a stopped branch" rm -rf "$MNT/idle"
ok "rm -rf from within" bash -c "cd '$MNT/keep' && rm -rf ../keep"
is "nothing is left" "$(ls "$MNT")" "README
main"
unmount_store
done_testing
