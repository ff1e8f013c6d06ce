#!/bin/bash
# see=own and see=all: what others' branches look like, and that looking does no harm.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv
probe=$top_builddir/tests/mount/probe
cp "$probe" "$TMP/probe" && chmod 755 "$TMP/probe" # where every uid can run it

# 4001 and 4002 make branches; 4003 sees all; 4004 has no policy; group 4100 shares
as() {
	local uid=${1%%:*} groups=${1#*:}

	shift
	if [ "$groups" = "$uid" ]; then
		setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
	else
		setpriv --reuid "$uid" --regid "$uid" --groups "$groups" "$@"
	fi
}
new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[branch]
trash = 1d
[policy makers]
match = uid:4001, uid:4002
create = yes
[policy lookers]
match = uid:4003
see = all
CONF
mount_only
lists() { # WHO DIRECTORY: the branches in it
	as "$1" ls "$2" | tr '\n' ' '
}
ok "mkdir" as 4001 mkdir "$MNT/mine"
ok "mkdir of another uid" as 4002 mkdir "$MNT/theirs"
no=$(sed -n 's/^no //p' "$MNT/theirs/status")

is "root sees all" "$(lists 0 "$MNT")" "README main mine theirs "
is "an owner sees its own" "$(lists 4001 "$MNT")" "README mine "
is "see=all sees all" "$(lists 4003 "$MNT")" "README main mine theirs "
is "without a policy one sees none" "$(lists 4004 "$MNT")" "README "
nok "see=all opens nothing" as 4003 ls "$MNT/mine"
nok "and no file of it" as 4003 cat "$MNT/mine/status"
like "a look says ENOENT" "$(as 4001 stat "$MNT/theirs" 2>&1)" "No such file or directory"
for name in theirs main ".run/$no" theirs/data theirs/status "theirs/.s.PGSQL.5432"; do
	is "$name is not there" "$("$TMP/probe" 4001 1 "$MNT/$name")" "0 there, 1 absent, of 1"
done
is "nor is rmdir of it another thing" "$(as 4001 rmdir "$MNT/theirs" 2>&1 | sed 's/theirs/X/')" \
	"$(as 4001 rmdir "$MNT/nothere" 2>&1 | sed 's/nothere/X/')"
is "nor mv" "$(as 4001 mv "$MNT/theirs" "$MNT/x" 2>&1 | sed 's/theirs/X/')" \
	"$(as 4001 mv "$MNT/nothere" "$MNT/x" 2>&1 | sed 's/nothere/X/')"
nok "the tree does not show it" eval "as 4001 cat '$MNT/.tree' | grep -q theirs"
ok "it shows one's own" eval "as 4001 cat '$MNT/.tree' | grep -q mine"
ok "and all with see=all" eval "as 4003 cat '$MNT/.tree' | grep -q theirs"
nok "figures do not name it" eval "as 4001 cat '$MNT/.metrics' | grep -q theirs"
ok "they name one's own" eval "as 4001 cat '$MNT/.metrics' | grep -q 'branch=\"mine\"'"
ok "and all for root" eval "cat '$MNT/.metrics' | grep -q 'branch=\"theirs\"'"
is "list shows one's own" "$(as 4001 "$PGBRANCHFS" list "$MNT" 2>/dev/null |
	awk 'NR > 1 { print $1 }' | xargs)" "mine"

# --- the kernel's cache of names is one for all

as 4002 "$TMP/probe" 4002 1 "$MNT/theirs" >/dev/null
(while [ ! -e "$TMP/enough" ]; do "$TMP/probe" 4002 500 "$MNT/theirs"; done) >"$TMP/owner.log" &
watch_pid $!
settles "the owner works in it" test -s "$TMP/owner.log"
is "nobody else ever sees it" "$("$TMP/probe" 4001 20000 "$MNT/theirs")" \
	"0 there, 20000 absent, of 20000"
touch "$TMP/enough"
wait $!
nok "and the owner always did" grep -v '^500 there' "$TMP/owner.log"

# a working directory, a bound socket, a mount on top: all stay when others look
mkdir "$TMP/stay" "$TMP/bind"
ok "a mount of it elsewhere" mount --bind "$MNT/theirs" "$TMP/bind"
cleaner umount "$TMP/bind"
(
	cd "$MNT/theirs" || exit 1
	touch "$TMP/stay/in"
	while [ ! -e "$TMP/stay/looked" ]; do sleep 0.02; done
	cat status >/dev/null && cat ./state && ls data >/dev/null
) >"$TMP/stay/log" 2>&1 &
watch_pid $!
worker=$!
settles "somebody works there" test -e "$TMP/stay/in"
is "others look" "$("$TMP/probe" 4001 100 "$MNT/theirs")" "0 there, 100 absent, of 100"
touch "$TMP/stay/looked"
ok "the worker is not disturbed" wait "$worker"
is "its files are there" "$(cat "$TMP/stay/log")" stopped
is "the other mount, too" "$(cat "$TMP/bind/state")" stopped

# --- sharing

ok "chgrp, chmod" sh -c "chgrp 4100 '$MNT/theirs' && chmod 750 '$MNT/theirs'"
is "a member sees it" "$(lists 4001:4100 "$MNT")" "README mine theirs "
ok "and enters it" as 4001:4100 cat "$MNT/theirs/status"
nok "but has not its data" as 4001:4100 ls "$MNT/theirs/data"
nok "nor may discard it" as 4001:4100 rmdir "$MNT/theirs"
is "who is not in the group does not" "$(lists 4001 "$MNT")" "README mine "
nok "an owner gives only to its own groups" as 4002 chgrp 4101 "$MNT/theirs"
ok "to those it may" as 4002:4101 chgrp 4101 "$MNT/theirs"
nok "nor gives it away" as 4002 chown 4001 "$MNT/theirs"
is "the owner of the data is that of the server" "$(stat -c '%u %a' "$MNT/theirs/data")" "4002 700"
ok "root gives it away" chown 4001 "$MNT/theirs"
is "its data goes with it" "$(stat -c '%u' "$MNT/theirs/data")" 4001
is "the new owner sees it" "$(lists 4001 "$MNT")" "README mine theirs "
is "the old one does not" "$(lists 4002 "$MNT")" "README "
unmount_store
mount_only
is "it is so after a remount" "$(stat -c '%u %g %a' "$MNT/theirs")" "4001 4101 750"
is "for others, too" "$(lists 4002:4101 "$MNT")" "README theirs "

# --- the trash

ok "discard" as 4001 rmdir "$MNT/theirs"
like "its owner finds it" "$(lists 4001 "$MNT/.trash")" "^theirs@"
is "others do not" "$(lists 4002 "$MNT/.trash")" ""
t=$(ls "$MNT/.trash")
is "not by its name, either" "$("$TMP/probe" 4002 1 "$MNT/.trash/$t")" "0 there, 1 absent, of 1"
nok "nor bring it back" as 4002 mv "$MNT/.trash/$t" "$MNT/back"
ok "its owner does" as 4001 mv "$MNT/.trash/$t" "$MNT/back"

# --- without policies all is seen, as before

: >"$STORE/pgbranchfs.conf"
kill -HUP "$(daemon_pid)"
all_seen() {
	[ "$(lists 4004 "$MNT")" = "README back main mine " ]
}
settles "a reload shows all" all_seen
done_testing
