#!/bin/bash
# Every operation by every relation to the branch, and hostile ways in.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv unshare

as() { # UID COMMAND...
	local uid=$1

	shift
	setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[policy makers]
match = uid:4001, uid:4002, uid:4003
create = yes
max_ttl = 1d
[policy lookers]
match = uid:4005
create = yes
see = all
CONF
mount_only
ok "a branch of somebody else" as 4003 mkdir "$MNT/mine"
ok "the matrix" "$top_builddir/tests/mount/matrix" "$MNT"
ok "nothing of others' was lost" as 4003 cat "$MNT/mine/data/PG_VERSION"

# --- hostile names

long=$(printf 'n%.0s' {1..300})
# shellcheck disable=SC2016 # meant as they are
for name in . .. '' ' ' '-x' '.hidden' 'a/b' $'a\nb' $'a\001b' 'a;rm' '$(id)' 'a@' '@main' 'a@@main' \
	'a@main@main' 'a@main:' 'a@..' 'a@main/../x' "$long" 'é' README .tree .run .trash; do
	nok "the name $(printf %q "${name:0:20}")" as 4001 mkdir "$MNT/$name" 2>/dev/null
done
as 4001 mkdir "$MNT/"$'x\n{"uid":0}' 2>/dev/null
is "no line of the audit log is forged" "$(grep -vc '^{"time":".*"duration_ms":[0-9.]*}$' "$STORE/audit.log")" 0
nok "nor of .error" eval "as 4001 head -n 1 '$MNT/.error' | grep -q '^{'"

# --- 64 MiB into control files

ok "a branch" as 4001 mkdir "$MNT/z"
for file in state expires protected rollback reset; do
	nok "64 MiB into $file" as 4001 sh -c "head -c 64M /dev/zero | tr '\\0' x >'$MNT/z/$file' 2>/dev/null"
done
is "the branch is as it was" "$(cat "$MNT/z/state")" stopped
ok "the daemon's memory is" test "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(daemon_pid)/status")" -lt 300000

# --- the root of a container with a user namespace of its own

if as 4001 unshare -Ur true 2>/dev/null; then
	c() {
		as 4002 unshare -Urm sh -c "$1" 2>&1
	}
	is "is root there" "$(c 'id -u')" 0
	nok "and sees nothing more" c "ls '$MNT/z'"
	nok "discards nothing" c "rmdir '$MNT/z'"
	nok "gives nothing away" c "chown 0 '$MNT/z'"
	ok "makes what it may" c "mkdir '$MNT/k'"
	is "as the uid that it is outside" "$(stat -c %u "$MNT/k")" 4002
	nok "is no root of ours" c "cat '$MNT/main/data/PG_VERSION'"
	nok "nor may it clean up" c "echo gc >'$MNT/.upkeep'"
	nok "nor unmount" c "umount '$MNT'"
	ok "the mount is there" is_mounted "$MNT"
else
	say "# no user namespaces for users here"
fi

# --- links and renames against what the daemon does with privileges

nok "a hard link of the log into data" as 4001 ln "$STORE/audit.log" "$MNT/z/data/l"
ok "a symlink in data" as 4001 ln -s "$STORE/audit.log" "$MNT/z/data/link"
nok "leads nowhere that its maker cannot go" as 4001 cat "$MNT/z/data/link"
nok "a tablespace's link" as 4001 ln -s "$TMP" "$MNT/z/data/pg_tblspc/1"
(
	while [ ! -e "$TMP/enough" ]; do
		as 4001 mv "$MNT/z" "$MNT/y" 2>/dev/null
		as 4001 mv "$MNT/y" "$MNT/z" 2>/dev/null
	done
) &
watch_pid $!
for i in 1 2 3 4 5 6 7 8 9 10; do
	as 4002 mkdir "$MNT/t$i@z" 2>/dev/null && fail "a branch of what is another's"
	as 4002 rmdir "$MNT/z" 2>/dev/null && fail "discarded under another's rename"
	as 4001 mkdir "$MNT/u$i@z" 2>/dev/null
	as 4001 rmdir "$MNT/u$i" 2>/dev/null
done
touch "$TMP/enough"
wait $!
ok "renames against requests: one of the names is left" eval "[ -d '$MNT/z' ] || [ -d '$MNT/y' ]"

# --- many who connect to one socket that sleeps

flood() {
	"$top_builddir/tests/mount/flood" "$MNT/mine/.s.PGSQL.5432" 10000
}
ok "10000 connections to a sleeping server" flood
ok "others are served" as 4002 timeout 30 mkdir "$MNT/after"
settles "and then it serves" eval "[ \"\$(sql mine 'select 1' 2>/dev/null)\" = 1 ]"
done_testing
