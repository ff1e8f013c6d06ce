#!/bin/bash
# Everything as an ordinary user, through fusermount3: the mount, the servers, the end.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

as_user=()
user=$(id -un)
if [ "$(id -u)" = 0 ]; then
	open_fuse_to_all
	user=postgres
	as_user=(setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups)
	# a directory that it may enter, with a program that it may run
	cp "$PGBRANCHFS" "$TMP/pgbranchfs"
	chmod 755 "$TMP/pgbranchfs"
	PGBRANCHFS=$TMP/pgbranchfs
	chmod 1777 "$TMP"
fi
need_tool fusermount3

# Root may not even stat it.
is_mounted() {
	grep -q " $1 " /proc/self/mountinfo
}

u() {
	(cd "$TMP" && HOME=$TMP "${as_user[@]}" "$@")
}
# usql BRANCH QUERY
usql() {
	u timeout 60 psql -X -q -A -t -h "$MNT/$1" -U postgres -d postgres -c "$2"
}
log=$TMP/daemon.log

# A mount in the foreground, so that its log can be read.
u_mount() {
	u "$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>>"$log" &
	watch_pid $!
	daemon=$!
	wait_until "$DEADLINE" is_mounted "$MNT" || die "mount as $user"
	settles "mount as $user" u test -e "$MNT/README"
}

test_mounts+=("$MNT")
ok "init" u "$PGBRANCHFS" init "$STORE"
u mkdir "$MNT"
u_mount
is "the root is the user's" "$(u stat -c %U "$MNT")" "$user"
is "main is the user's" "$(u stat -c %U "$MNT/main")" "$user"
is "a first psql starts the server" "$(usql main "select 1")" 1
server_owners() {
	local pid

	for pid in $(servers_here); do
		stat -c %U "/proc/$pid"
	done | sort -u
}
is "the server is the user's" "$(server_owners)" "$user"
ok "a table" usql main "create table t as select generate_series(1, 1000) i"
ok "mkdir" u mkdir "$MNT/b"
is "the branch has the table" "$(usql b "select count(*) from t")" 1000
ok "a change in the branch" usql b "delete from t"
is "main has not" "$(usql main "select count(*) from t")" 1000
ok "mv" u mv "$MNT/b" "$MNT/c"
is "the renamed branch" "$(usql c "select count(*) from t")" 0
nok "chown is root's" u chown 0 "$MNT/c"
if [ "$(id -u)" = 0 ]; then
	nok "another user's mount is closed, to root too" ls "$MNT/c"
fi
ok "rm -rf of a running branch" u rm -rf "$MNT/c"
nok "it is gone" u test -e "$MNT/c"
ok "mkdir again" u mkdir "$MNT/d"
is "psql again" "$(usql d "select count(*) from t")" 1000
nok "warnings about what only root can have" grep -i "warn.*\(bdi\|limit\|io_flusher\)" "$log"

ok "umount" u timeout 60 "$PGBRANCHFS" umount "$MNT"
nok "it is off" is_mounted "$MNT"
is "no server is left" "$(servers_here)" ""
wait "$daemon"
u_mount
is "it is all there" "$(usql d "select count(*) from t")" 1000
kill -KILL "$(daemon_pid)"
wait "$daemon" 2>/dev/null
u_mount
is "after the death of the daemon" "$(usql d "select count(*) from t")" 1000
ok "fusermount3 -u -z" u fusermount3 -u -z "$MNT"
ended() {
	! kill -0 "$daemon" 2>/dev/null
}
settles "the daemon ends" ended
is "no server is left behind" "$(servers_here)" ""

done_testing
