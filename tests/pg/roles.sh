#!/bin/bash
# Whom a server runs as, and who is which role in it.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv
# Users that every Debian has: games and man own the servers of their branches, news and
# mail have roles in servers of backup, list makes its role.
for user in games man news mail backup list; do
	id "$user" >/dev/null 2>&1 || skip "there is no user $user"
done

as() { # USER or UID, COMMAND...
	local user=$1

	shift
	if [[ $user =~ ^[0-9]+$ ]]; then
		setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
	else
		setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
	fi
}
# q USER BRANCH ROLE QUERY
q() {
	as "$1" env PGCONNECT_TIMEOUT="$DEADLINE" timeout $((DEADLINE * 2)) psql -X -q -A -t \
		-v ON_ERROR_STOP=1 -h "$MNT/$2" -U "$3" -d postgres -c "$4" 2>&1
}
why() {
	as "$1" cat "$MNT/.error"
}
conf() {
	cat >"$STORE/pgbranchfs.conf"
}
reload() {
	kill -HUP "$(daemon_pid)"
}
new_store
conf <<CONF
[settings]
shared_buffers = 16MB
[policy own]
match = user:games, user:man
create = yes
[policy restricted]
match = user:news
create = yes
role = app_rw
server_user = backup
[policy readers]
match = user:mail
role = app_ro
server_user = backup
[policy made]
match = user:list
create = yes
role = made
create_role = yes
server_user = backup
[policy nameless]
match = uid:4242
create = yes
CONF
mount_only

# --- the role must be there

nok "mkdir with a role that is not there" as news mkdir "$MNT/n"
like "says which" "$(why news)" "gives the role 'app_rw', which 'main' does not have"
is "main runs" "$(sql main 'select 1')" 1
kill -KILL "$(sed -n 's/^pid //p' "$MNT/main/status")"
main_is_down() {
	[ "$(sed -n 's/^pid //p' "$MNT/main/status")" = 0 ] || ! grep -q running "$MNT/main/state"
}
settles "and is killed" main_is_down
nok "mkdir, when its files do not tell" as news mkdir "$MNT/n"
like "says it, too" "$(why news)" "gives the role 'app_rw', which 'main' does not have"
is "as main was asked" "$(cat "$MNT/main/state")" running
like "and what to do" "$(why news)" "create_role=yes"
ok "roles in main" sql main "create role app_rw login; create role app_ro login;
	create role elsewhere login; create table t (i int); insert into t values (1);
	grant all on t to app_rw"
ok "mkdir, told by the server that runs" as news mkdir "$MNT/n"
ok "a role that may make others" sql main "alter role app_rw createrole"
nok "is not given" as news mkdir "$MNT/n2"
like "because it could make one that reads files" "$(why news)" "can read files of the server"
ok "nor one that has it from a role" sql main "alter role app_rw nocreaterole;
	grant pg_execute_server_program to app_rw"
nok "mkdir" as news mkdir "$MNT/n2"
ok "nor one that cannot log in" sql main "revoke pg_execute_server_program from app_rw;
	alter role app_rw nologin"
nok "mkdir" as news mkdir "$MNT/n2"
like "says so" "$(why news)" "may not log in"
ok "as it should be" sql main "alter role app_rw login"
ok "main stops" eval "echo stopped >'$MNT/main/state'"
ok "mkdir, told by the files" as news mkdir "$MNT/n2"
ok "main runs" eval "echo running >'$MNT/main/state'"
ok "a role that goes" sql main "drop owned by app_ro; drop role app_ro; create role app_ro login"
ok "main stops again" eval "echo stopped >'$MNT/main/state'"
ok "and is found all the same" as news mkdir "$MNT/n3"
ok "rmdir" as news rmdir "$MNT/n2" "$MNT/n3"

# --- a restricted role, in a server of a service's

is "the data is the service's" "$(stat -c '%U %a' "$MNT/n/data")" "backup 700"
is "the branch is its maker's" "$(stat -c '%U' "$MNT/n")" news
like "its url has the role" "$(as news cat "$MNT/n/url")" "^postgresql://app_rw@"
is "connecting makes one that role" "$(q news n app_rw 'select current_user')" app_rw
for role in postgres app_ro elsewhere news backup; do
	like "and not $role" "$(q news n "$role" 'select 1')" 'FATAL'
done
is "it works" "$(q news n app_rw 'insert into t values (2); select count(*) from t')" 2
is "root is the superuser" "$(sql n 'select current_user')" postgres
server=$(sed -n 's/^pid //p' "$MNT/n/status")
is "the server is the service's" "$(stat -c %U "/proc/$server")" backup
like "no program" "$(q news n app_rw "copy t to program 'true'")" 'ERROR'
like "no file" "$(q news n app_rw "select pg_read_file('PG_VERSION')")" 'ERROR'
like "no large object from a file" "$(q news n app_rw "select lo_import('/etc/hosts')")" 'ERROR'
nok "nor the data directory" as news ls "$MNT/n/data"
nok "nor the run directory" as news ls "$MNT/.run/$(sed -n 's/^no //p' "$MNT/n/status")"

# --- shared: each uid is the role of its own policy

ok "root shares it" sh -c "chgrp mail '$MNT/n' && chmod 750 '$MNT/n'"
is "a member, while it runs" "$(q mail n app_ro 'select current_user')" app_ro
like "and not the owner's role" "$(q mail n app_rw 'select 1')" 'FATAL'
like "nor has it more" "$(q mail n app_ro 'select * from t')" 'permission denied'
is "the owner is still the same" "$(q news n app_rw 'select current_user')" app_rw
like "audit has both" "$("$PGBRANCHFS" audit "$STORE" --verb connect --user mail)" \
	"connect +n +- +app_ro +allowed"
ok "shared with a superuser of its own" chgrp games "$MNT/n"
like "who is none here" "$(q games n postgres 'select 1')" 'Permission denied'
like "and is told why" "$(why games)" "runs as a user that others' servers run as"
like "a member no more" "$(q mail n app_ro 'select 1')" 'No such file|Permission denied'

# --- a role that is made

ok "mkdir with a role to make" as list mkdir "$MNT/l"
is "it is there at the first connect" "$(q list l made 'select current_user')" made
is "in the branch only" "$(sql main "select count(*) from pg_roles where rolname = 'made'" 2>&1 |
	grep -c '^1$')" 0
is "the second start needs nothing" "$(echo stopped >"$MNT/l/state" && echo running >"$MNT/l/state" &&
	q list l made 'select current_user')" made

# --- one's own server

ok "main runs again" eval "echo running >'$MNT/main/state'"
ok "mkdir of an owner" as games mkdir "$MNT/g"
is "who is the superuser" "$(q games g postgres 'select current_user')" postgres
like "and nothing else" "$(q games g app_rw 'select 1')" 'FATAL'
is "its server is its own" "$(stat -c %U "/proc/$(sed -n 's/^pid //p' "$MNT/g/status")")" games
like "nobody enters" "$(q man g postgres 'select 1')" 'No such file|Permission denied'

# --- a uid without a name

ok "mkdir" as 4242 mkdir "$MNT/u"
like "no server would know it" "$(q 4242 u postgres 'select 1')" 'Permission denied'
like "what to do" "$(why 4242)" 'useradd -u 4242 NAME'

# --- given away, and after a remount

ok "chown" chown games "$MNT/n"
is "its data goes to the new owner's servers" "$(stat -c %U "$MNT/n/data")" games
is "who is the superuser there" "$(q games n postgres 'select count(*) from t')" 2
ok "and back" chown news "$MNT/n"
is "the data, too" "$(stat -c %U "$MNT/n/data")" backup
unmount_store
mount_only
is "it is so after a remount" "$(stat -c %U "$MNT/n/data")" backup
is "and works" "$(q news n app_rw 'select current_user')" app_rw

# --- policies that change while servers run

is "an owner works" "$(q games g postgres 'select 1')" 1
conf </dev/null
reload
ok "a branch of games is shared" chmod 755 "$MNT/g"
as_themselves() {
	[ "$(q man g elsewhere 'select 1' | grep -c 'not exist\|failed for user')" = 1 ] &&
		[ "$(q games g postgres 'select current_user')" = postgres ]
}
settles "without policies an owner is the superuser, others are themselves" as_themselves
like "but not where servers are a service's" "$(q news n postgres 'select 1')" 'Permission denied'
conf <<CONF
[policy restricted]
match = user:news
role = app_ro
server_user = backup
CONF
reload
is_reader() {
	[ "$(q news n app_ro 'select current_user')" = app_ro ]
}
settles "with others it has another role" is_reader
like "and the old one no more" "$(q news n app_rw 'select 1')" 'FATAL'
ok "not shared any more" chmod 700 "$MNT/g"
like "who has no policy is out" "$(q games g postgres 'select 1')" 'Permission denied'
like "and told so" "$(why games)" "has no policy, and so no role"
done_testing
