#!/bin/bash
# Policies in a mount: who may make what, reload and start with a bad file, the audit log.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv

# as UID[:GROUP,...] COMMAND...
as() {
	local uid=${1%%:*} groups=${1#*:}

	shift
	if [ "$groups" = "$uid" ]; then
		setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
	else
		setpriv --reuid "$uid" --regid "$uid" --groups "$groups" "$@"
	fi
}
conf() {
	cat >"$STORE/pgbranchfs.conf"
}
# The daemon has read its configuration again: it says so in its log.
reload() {
	local before

	before=$(grep -c "$1" "$TMP/daemon.log")
	kill -HUP "$(daemon_pid)"
	wait_until "$DEADLINE" eval "[ \$(grep -c '$1' '$TMP/daemon.log') -gt $before ]" ||
		die "no reload"
}
why() { # WHO
	as "$1" cat "$MNT/.error"
}
audit() { # the last line about a verb
	grep "\"verb\":\"$1\"" "$STORE/audit.log" | tail -n 1
}
mount_here() {
	mkdir -p "$MNT"
	test_mounts+=("$MNT")
	"$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>>"$TMP/daemon.log" &
	watch_pid $!
	wait_until "$DEADLINE" is_mounted "$MNT" || die "mount"
	settles "the mount is ready" test -e "$MNT/README"
}

cp "$PGBRANCHFS" "$TMP/pgbranchfs" && chmod 755 "$TMP/pgbranchfs"
new_store
conf <<CONF
[branch]
ttl = 3d
[policy makers]
match = uid:4001
create = yes
from = staging
ttl = 2h
max_ttl = 1d
[policy grouped]
match = uid:4999, group:daemon
create = yes
protect = yes
[policy default]
CONF
mount_here
group=$(getent group daemon | cut -d: -f3)

# --- who may make what

ok "root makes branches" mkdir "$MNT/staging" "$MNT/other"
ok "mkdir by a policy" as 4001 mkdir "$MNT/a"
ok "of a branch that it names" as 4001 mkdir "$MNT/a2@staging"
ok "of one's own" as 4001 mkdir "$MNT/a3@a"
nok "not of another one" as 4001 mkdir "$MNT/a4@other"
like "which is not there for the caller" "$(why 4001)" "no branch named 'other'"
was=$(why 4001 | grep -v time)
nok "nor of one that there is not" as 4001 mkdir "$MNT/a4@othex"
is "in the same words" "$(why 4001 | grep -v time | sed s/othex/other/)" "$was"
nok "a uid of no other policy" as 4002 mkdir "$MNT/b"
like "is told so" "$(why 4002)" "policy 'default' does not let uid 4002 make branches"
ok "by a group that the process has now" as "4002:$group" mkdir "$MNT/b"
nok "and not when it has left it" as 4002 mkdir "$MNT/b2"
like "the owner is the maker" "$(cat "$MNT/b/owner")" '^4002$'
is "the mode is its own" "$(stat -c '%a %u' "$MNT/b")" "700 4002"

# --- what the policy says of them

ttl_of() {
	echo $(($(date -d "$(cat "$MNT/$1/expires")" +%s) - $(date +%s)))
}
ok "ttl of the policy" test "$(ttl_of a)" -le 7200
ok "and no less" test "$(ttl_of a)" -gt 7000
ok "ttl of [branch] where it has none" test "$(ttl_of b)" -gt 259000
ok "expires within max_ttl" as 4001 sh -c "echo 20h >$MNT/a/expires"
nok "and not behind it" as 4001 sh -c "echo 30h >$MNT/a/expires 2>/dev/null"
nok "never is behind it" as 4001 sh -c "echo never >$MNT/a/expires 2>/dev/null"
nok "protect is not given" as 4001 sh -c "echo 1 >$MNT/a/protected 2>/dev/null"
like "is told so" "$(why 4001)" "policy 'makers' does not let uid 4001 protect"
ok "protect is given" as "4002:$group" sh -c "echo 1 >$MNT/b/protected"
nok "rmdir of what is protected" as "4002:$group" rmdir "$MNT/b"
ok "lifted" as "4002:$group" sh -c "echo 0 >$MNT/b/protected"
ok "rename of one's own" as 4001 mv "$MNT/a3" "$MNT/a5"
ok "rmdir of one's own" as 4001 rmdir "$MNT/a5"
nok "rmdir of another's" as 4002 rmdir "$MNT/a"
nok "rename of another's" as 4002 mv "$MNT/a" "$MNT/c"
ok "it is all there" test -d "$MNT/a"

# --- the audit log: one line a decision, allowed and denied alike

line=$(audit rename)
like "allowed" "$line" '"uid":4001,"gid":4001,"pid":[0-9]+,"comm":"mv"'
like "with its words" "$line" '"branch":"a3","parent":null,"value":"a5","verdict":"allowed"'
as 4002 mkdir "$MNT/c" 2>/dev/null
like "denied" "$(audit create)" '"branch":"c","parent":"main".*"verdict":"denied","reason":"policy '
is "each line is one object" "$(grep -vc '^{"time":".*"duration_ms":[0-9.]*}$' "$STORE/audit.log")" 0

show() {
	"$PGBRANCHFS" audit "$MNT" "$@"
}
like "audit shows it" "$(show | tail -n 1)" 'create +c +main +- +denied +policy'
is "of one user" "$("$PGBRANCHFS" audit "$STORE" --user 4001 --json | grep -c '"uid":4001')" \
	"$(grep -c '"uid":4001' "$STORE/audit.log")"
is "and no other" "$(show --user 4001 --json | grep -c '"uid":4002')" 0
is "of one branch, verb and verdict" \
	"$(show --branch a5 --verb discard --verdict allowed --json | grep -c '"verb":"discard"')" 1
is "since a time" "$(show --since 2099-01-01T00:00:00Z --json)" "[]"
like "since a while" "$(show --since 1h)" "4001"
echo '{"torn' >>"$STORE/audit.log"
like "what is torn is named" "$(show 2>&1 >/dev/null)" "1 lines .* are no records"
nok "the log is root's" as 4001 "$TMP/pgbranchfs" audit "$MNT"
nok "wrong usage" show --since yesterday

mv "$STORE/audit.log" "$STORE/audit.old"
reload 'configuration was read again'
ok "a request behind a rotation" as 4001 mkdir "$MNT/r"
like "is in the new file" "$(audit create)" '"branch":"r"'
like "audit reads old ones by name" "$("$PGBRANCHFS" audit "$STORE/audit.old")" "a5"
nok "and not in the old one" grep '"branch":"r"' "$STORE/audit.old"
is "mode of the new file" "$(stat -c '%a %u' "$STORE/audit.log")" "600 0"

# --- connects, also to a server that runs already

connects() {
	show --verb connect --branch main --json | grep -c '"uid":0,.*"comm":"psql"'
}
is "nobody connected yet" "$(connects)" 0
ls -lR "$MNT/main" >/dev/null 2>&1
stat "$MNT/main/.s.PGSQL.5432" >/dev/null
is "looking is no connect" "$(connects)" 0
is "a wake" "$(sql main 'select 1')" 1
n=$(connects)
ok "is recorded" test "$n" -ge 1
is "a connect to the server" "$(sql main 'select 1')" 1
ok "is, too" test "$(connects)" -gt "$n"
nok "who may not enter gets nowhere" as 4001 psql -h "$MNT/main" -U postgres -c 'select 1'

# --- reload

conf <<CONF
[policy makers]
match = uid:4002
create = yes
CONF
reload 'configuration was read again'
ok "a policy that came" as 4002 mkdir "$MNT/d"
nok "one that went" as 4001 mkdir "$MNT/e"
like "says so" "$(why 4001)" "uid 4001 may not make branches here"
nok "what one has stays, but is not changed" as 4001 rmdir "$MNT/a"
conf <<CONF
[policy makers]
match = uid:4001
create = yes
match = uid:4002
CONF
reload 'match is set twice'
like "a bad file names itself and the line" "$(tail -n 5 "$TMP/daemon.log")" \
	"$STORE/pgbranchfs.conf:4: match is set twice"
ok "the old policies stay" as 4002 mkdir "$MNT/f"
nok "all of them" as 4001 mkdir "$MNT/g"
unmount_store
for bad in 'role=app' 'match=user:no-such-user-here' 'create=perhaps' 'sanitize=none.sql'; do
	printf '[policy a]\nmatch=uid:1\n%s\n' "$bad" | sed "/^match=uid:1$/{
		$([[ $bad == match* ]] && echo d)
	}" | conf
	nok "a mount is refused with $bad" eval "'$PGBRANCHFS' mount '$STORE' '$MNT' 2>'$TMP/err'"
	like "which names file and line" "$(cat "$TMP/err")" \
		"^pgbranchfs: $STORE/pgbranchfs.conf:[123]: "
done
nok "nothing is mounted" is_mounted "$MNT"
rm "$STORE/audit.log"
mkdir "$STORE/audit.log"
conf </dev/null
nok "no mount without an audit log" eval "'$PGBRANCHFS' mount '$STORE' '$MNT' 2>'$TMP/err'"
like "which says so" "$(cat "$TMP/err")" "audit.log: cannot open"
rmdir "$STORE/audit.log"
mount_here
ok "and then it goes on" mkdir "$MNT/h"
done_testing
