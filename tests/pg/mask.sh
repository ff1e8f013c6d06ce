#!/bin/bash
# sanitize=: SQL on a new branch before anybody is in it, and nothing of what it masked left.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv
for user in games man; do
	id "$user" >/dev/null 2>&1 || skip "there is no user $user"
done

as() { # USER COMMAND...
	local user=$1

	shift
	setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
}
q() { # USER BRANCH QUERY
	as "$1" env PGCONNECT_TIMEOUT="$DEADLINE" timeout $((DEADLINE * 2)) psql -X -q -A -t \
		-v ON_ERROR_STOP=1 -h "$MNT/$2" -U postgres -d "${4:-postgres}" -c "$3" 2>&1
}
new_store
cat >"$TMP/mask.sql" <<'SQL'
-- every database has people
UPDATE people SET name = 'masked';

DO $$
BEGIN
	-- an empty line within

	UPDATE people SET mail = 'x@' || id;

END $$;
SQL
cat >"$STORE/pgbranchfs.conf" <<CONF
[settings]
shared_buffers = 16MB
[policy masked]
match = user:games
create = yes
sanitize = $TMP/mask.sql
[policy open]
match = user:man
create = yes
CONF
mount_only
people="create table people (id int primary key, name text, mail text);
	insert into people select g, 'SECRETNAME' || g, 'SECRETMAIL' || g from generate_series(1, 5000) g;
	create index on people (name); analyze people"
ok "people" sql main "$people"
ok "another database" sql main "create database other"
ok "with people" eval "psql -XqAt -h '$MNT/main' -U postgres -d other -c \"$people\" >/dev/null"

# --- a masked branch, of a parent that runs

ok "mkdir" as games mkdir "$MNT/m"
is "who connects waits, and finds it masked" \
	"$(q games m "select count(*), min(name), max(name), count(distinct mail) from people")" \
	"5000|masked|masked|5000"
is "in every database" "$(q games m "select max(name) from people" other)" masked
is "the parent is as it was" "$(sql main "select count(*) from people where name like 'SECRET%'")" 5000
is "the owner has its files now" "$(stat -c '%U' "$MNT/m/data")" games
like "audit says so" "$("$PGBRANCHFS" audit "$STORE" --verb mask)" " mask +m .*allowed"
nok "no file of it has what was masked" as games grep -rqa SECRET "$MNT/m/data"
ok "those of an open one have" eval "as man mkdir '$MNT/o' && as man grep -rqa SECRET '$MNT/o/data/base'"
is "nor have samples of values" "$(q games m "select count(*) from pg_stats
	where most_common_vals::text like '%SECRET%' or histogram_bounds::text like '%SECRET%'")" 0

# --- nor by other ways

ok "a checkpoint" as games mkdir "$MNT/m/checkpoints/c"
ok "a change" q games m "update people set name = 'changed'"
ok "rolled back" as games sh -c "echo c >'$MNT/m/rollback'"
is "is masked" "$(q games m 'select max(name) from people')" masked
nok "what it was before is no more than that" as games grep -rqa SECRET "$MNT/m/data"
nok "it does not become its parent" as games sh -c "echo parent >'$MNT/m/reset' 2>/dev/null"
like "and is told why" "$(as games cat "$MNT/.error")" "is masked, and its parent is not"
ok "a branch of it is masked" as games mkdir "$MNT/m2@m"
is "without running anything" "$("$PGBRANCHFS" audit "$STORE" --verb mask --branch m2 --json)" "[]"
is "as one sees" "$(q games m2 'select max(name) from people')" masked

# --- one that is kept, as a default parent

cat >>"$STORE/pgbranchfs.conf" <<CONF
[policy kept]
match = uid:4001
create = yes
default_parent = m
sanitize = $TMP/mask.sql
CONF
kill -HUP "$(daemon_pid)"
made_of_it() {
	setpriv --reuid 4001 --regid 4001 --clear-groups mkdir "$MNT/k"
}
settles "a branch of the default parent" made_of_it
is "needs no masking" "$("$PGBRANCHFS" audit "$STORE" --verb mask --branch k --json)" "[]"
is "its data is its own at once" "$(stat -c %u "$MNT/k/data")" 4001

# --- which is masked anew

remask() { # BRANCH
	"$PGBRANCHFS" remask "$1" "$MNT" 2>&1
}
ok "more people" sql main "insert into people values (5001, 'SECRETNAME5001', 'SECRETMAIL5001')"
ok "a branch of the kept one" as games mkdir "$MNT/child@m"
ok "and something in it" q games m "create table mine (i int)"
as games chmod 750 "$MNT/m"
url=$(cat "$MNT/m/url")
ok "remask" remask m
is "has the parent's rows of now, masked" \
	"$(q games m "select count(*), min(name), max(name) from people")" "5001|masked|masked"
is "what was made in it is gone" "$(q games m "select count(*) from pg_class where relname = 'mine'")" 0
is "it is its owner's, as it was" "$(stat -c '%U %a' "$MNT/m") $(stat -c %U "$MNT/m/data")" "games 750 games"
is "with the same url" "$(cat "$MNT/m/url")" "$url"
nok "no file of it has what was masked" as games grep -rqa SECRET "$MNT/m/data"
is "the copy is gone" "$(find "$MNT" -maxdepth 1 -name 'remask-*')" ''
is "a branch of what it was is as it was" "$(q games child 'select count(*), max(name) from people')" \
	"5000|masked"
before=$(find "$MNT/m/checkpoints" -mindepth 1 -maxdepth 1 -name 'before-remask-*' -printf '%f')
ok "that is a checkpoint" test -n "$before"
ok "to roll back to" as games sh -c "echo $before >'$MNT/m/rollback'"
is "as it was" "$(q games m 'select count(*), max(name) from people')" "5000|masked"
ok "and once more" remask m
like "audit says so" "$("$PGBRANCHFS" audit "$STORE" --verb remask)" " remask +m .*allowed"
ok "the default parent still needs no masking" setpriv --reuid 4001 --regid 4001 --clear-groups \
	mkdir "$MNT/k2"
is "as one sees" "$("$PGBRANCHFS" audit "$STORE" --verb mask --branch k2 --json)" "[]"
like "what is not masked is refused" "$(remask o)" "'o' is not masked"
like "what is not there, too" "$(remask nothing)" "no branch named 'nothing'"
echo 1 >"$MNT/m/protected"
like "and what is protected" "$(remask m)" "protected"
echo 0 >"$MNT/m/protected"
nok "not by its owner" as games "$PGBRANCHFS" remask m "$MNT"
echo 'UPDATE people SET nonsense = 1;' >"$TMP/mask.sql"
like "SQL that fails is told" "$(remask m)" "'m' stays as it is: .*nonsense"
is "and it does" "$(q games m 'select count(*), max(name) from people')" "5001|masked"
no_copy() {
	[ -z "$(find "$MNT" -maxdepth 1 -name 'remask-*')" ]
}
settles "the copy goes" no_copy

# --- SQL that fails

echo 'UPDATE people SET nonsense = 1;' >"$TMP/mask.sql"
ok "mkdir, whose SQL will fail" as games mkdir "$MNT/bad"
like "who connects gets nowhere" "$(q games bad 'select 1')" 'No such file|could not|closed the connection'
gone() {
	[ ! -d "$MNT/bad" ]
}
settles "it is discarded" gone
like "and it is said why" "$(as games cat "$MNT/.error")" \
	"branch 'bad' was discarded, because it could not be masked: .*\"nonsense\""
like "in the audit log, too" "$("$PGBRANCHFS" audit "$STORE" --verb mask --verdict failed)" " bad "
nok "nothing runs of it" eval "servers_here | xargs -r -n1 -I{} cat /proc/{}/cmdline | grep -qa -- --single"

# --- while it runs nobody is in it; a kill in the middle leaves nothing

echo "SELECT pg_sleep(600);" >"$TMP/mask.sql"
ok "mkdir, whose SQL takes long" as games mkdir "$MNT/slow"
single_runs() {
	local dir

	for dir in /proc/[0-9]*; do
		grep -qaF "$TMP" "$dir/cmdline" 2>/dev/null && grep -qa -- --single "$dir/cmdline" && return 0
	done
	return 1
}
settles "it runs" single_runs
is "the data is nobody's who could read it" "$(stat -c '%U %a' "$MNT/slow/data")" "postgres 700"
nok "not by its files" as games ls "$MNT/slow/data"
nok "nor its run directory" as games ls "$MNT/.run/$(sed -n 's/^no //p' "$MNT/slow/status")"
nok "nor may it be branched from" as games mkdir "$MNT/early@slow"
nok "nor discarded meanwhile" as games rmdir "$MNT/slow"
ok "others go on" as man mkdir "$MNT/o2"
is "and connect" "$(q man o2 'select 1')" 1
(echo "remask m" >"$MNT/.upkeep") 2>/dev/null &
watch_pid $!
there_is_a_copy() {
	! no_copy
}
settles "a copy waits for its turn" there_is_a_copy
ok "and may not be entered" test "$(as games ls "$MNT"/remask-*/data 2>&1 | grep -c denied)" = 1
like "nor is there another one" "$(remask m)" "is being masked anew already|exists|named 'remask-"
kill_daemon
mount_only
nok "after a kill it is gone" test -d "$MNT/slow"
ok "so is the copy" no_copy
nok "nothing of it runs" single_runs
is "the rest is there" "$(q games m 'select max(name) from people')" masked
ok "once more" as games mkdir "$MNT/slow"
settles "it runs" single_runs
(echo "remask m" >"$MNT/.upkeep") 2>/dev/null &
watch_pid $!
settles "a copy waits behind it" there_is_a_copy
ok "umount waits for neither" timeout 60 "$PGBRANCHFS" umount "$MNT"
done_testing
