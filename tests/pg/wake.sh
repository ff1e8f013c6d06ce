#!/bin/bash
# Who wakes a branch: other uids, held and relayed as themselves; bind mounts, other
# mount, user and network namespaces.  How many at once: crowd.sh; how they behave:
# clients.sh.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_root
need_tool setpriv unshare

new_store
printf '[branch]\nidle_timeout = 0\nstart_timeout = 20s\n' >"$STORE/pgbranchfs.conf"
mount_only

# status BRANCH KEY
status() {
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

# As a server that its administrator stops: its branch sleeps then.
to_sleep() {
	kill -INT "$(status "$1" pid)"
	wait_until "$DEADLINE" reads "$MNT/$1/state" stopped || fail "$1 does not stop"
}

# as USER COMMAND...
as() {
	local user=$1

	shift
	setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"
}

whoami_sql="select split_part(current_user::text, ' ', 1)"

# --- peer authentication sees the client, through the relay too

ok 'mkdir theirs' mkdir "$MNT/theirs"
uid=$(id -u postgres)
ok 'given to another uid' chown "$uid" "$MNT/theirs"
as_owner() {
	as postgres psql -XqAt -h "$MNT/theirs" -d postgres "$@"
}
is 'its owner gets in over the relay' "$(as_owner -U postgres -c "$whoami_sql")" postgres
is 'it runs under the owner' "$(stat -c %u "/proc/$(status theirs pid)")" "$uid"
is 'root gets in' "$(sql theirs "$whoami_sql")" postgres
like 'the peer is the client, not the daemon' \
	"$(as_owner -U nobody_here -c 'select 1' 2>&1)" 'Peer authentication failed'
stranger() {
	as nobody psql -XqAt -h "$MNT/theirs" -U postgres -d postgres -c 'select 1' 2>&1
}
nok 'a stranger does not' stranger

# --- two uids wake it at the same time: each is who they are, and nobody else

chmod 755 "$MNT/theirs"
sql theirs 'create role daemon login; create role nobody login'
to_sleep theirs
before=$(status theirs wakes)
waiting=()
for user in daemon nobody; do
	for role in daemon nobody postgres; do
		as "$user" psql -XqAt -h "$MNT/theirs" -U "$role" -d postgres \
			-c "$whoami_sql" >"$TMP/$user.as.$role" 2>&1 &
		waiting+=($!)
	done
done
for pid in "${waiting[@]}"; do
	wait "$pid"
done
is 'six clients of two uids, one start' "$(status theirs wakes)" $((before + 1))
for user in daemon nobody; do
	for role in daemon nobody postgres; do
		if [ $user = $role ]; then
			is "$user is $role" "$(cat "$TMP/$user.as.$role")" $role
		else
			like "$user is not $role" "$(cat "$TMP/$user.as.$role")" \
				"Peer authentication failed for user \"$role\""
		fi
	done
done

# --- through a bind mount, and from other namespaces

wakes_in_namespaces() {
	is 'also in a mount, user and network namespace of its own' \
		"$(unshare -Urnm "${wake_bound[@]}" -U postgres)" postgres
	umount "$TMP/b"

	to_sleep bound
	# made inside, by a user who is root only there
	# shellcheck disable=SC2016 # for the shell in there
	inside='mount --bind "$0" "$1" && shift && exec "$@"'
	is 'and one that a user made in there' "$(as daemon unshare -Urnm \
		bash -c "$inside" "$MNT/bound" "$TMP/b" "${wake_bound[@]}" -U daemon)" daemon
	to_sleep bound
	like 'where root is nobody but that user' "$(as daemon unshare -Urnm \
		bash -c "$inside" "$MNT/bound" "$TMP/b" "${wake_bound[@]}" -U postgres 2>&1)" \
		'Peer authentication failed'
	is 'nothing is mounted outside' "$(findmnt -n "$TMP/b")" ''
}

ok 'mkdir bound' mkdir "$MNT/bound"
mkdir "$TMP/b"
ok 'a bind mount of the branch' mount --bind "$MNT/bound" "$TMP/b"
cleaner eval "mountpoint -q '$TMP/b' && umount '$TMP/b'"
wake_bound=(psql -XqAt -h "$TMP/b" -d postgres -c "$whoami_sql")
is 'wakes it' "$("${wake_bound[@]}" -U postgres)" postgres
sql bound 'create role daemon login'
to_sleep bound
# root in there is root, but without the rights of root
chmod 755 "$MNT/bound"
if unshare -Ur true 2>/dev/null; then
	wakes_in_namespaces
else
	say '# no user namespace can be made here, as in a chroot: those are not tried'
	umount "$TMP/b"
fi
done_testing
