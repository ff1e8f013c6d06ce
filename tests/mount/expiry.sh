#!/bin/bash
# How long a branch lives: expires, protected, ttl, max_ttl; and the time of its last
# activity, which is that of its directory.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

# refused NAME ERRNO-TEXT REGEX COMMAND...: fails like that, and .error says why.
refused() {
	local name=$1 errno=$2 regex=$3 out

	shift 3
	if out=$("$@" 2>&1); then
		fail "$name (should have failed)"
		return
	fi
	like "$name: errno" "$out" "$errno"
	like "$name: .error" "$(cat "$MNT/.error")" "$regex"
}

conf() {
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	printf '%s\n' "$@" >>"$STORE/pgbranchfs.conf"
}

reload() {
	conf "$@"
	kill -HUP "$(daemon_pid)"
}

put() { # BRANCH FILE TEXT
	bash -c "echo '$3' >'$MNT/$1/$2'"
}

# from_now FILE SECONDS: does it hold a time about so far ahead?
from_now() {
	local at left

	at=$(date -d "$(cat "$MNT/$1")" +%s) || return 1
	left=$((at - $(date +%s)))
	[ "$left" -le "$2" ] && [ "$left" -gt $(($2 - 60)) ]
}

# --- the two files
new_store
conf
mount_only
mkdir "$MNT/a"
is "a new branch does not expire" "$(cat "$MNT/a/expires")" never
is "and is not protected" "$(cat "$MNT/a/protected")" 0
ok "expires in two hours" put a expires 2h
like "it is shown as a time" "$(cat "$MNT/a/expires")" '^20[0-9]{2}-[0-9T:-]*Z$'
ok "that is two hours from now" from_now a/expires 7200
is "in status, too" "$(sed -n 's/^expires //p' "$MNT/a/status")" "$(cat "$MNT/a/expires")"
like "in status.json, too" "$(cat "$MNT/a/status.json")" "\"expires\": \"$(cat "$MNT/a/expires")\""
ok "a time with offset and fraction" put a expires 2099-01-01T01:30:00.5+01:30
is "is shown in UTC" "$(cat "$MNT/a/expires")" 2099-01-01T00:00:00Z
is "its size is that of the text" "$(stat -c %s "$MNT/a/expires")" 21
refused "the past" "Invalid" "not in the future" put a expires 2001-01-01T00:00:00Z
refused "no time" "Invalid" "hint: .*never" put a expires soon
refused "nothing" "Invalid" "expires takes" put a expires ""
refused "beyond all times" "Invalid" "too far" put a expires 99999999999999999999d
is "none of these changed it" "$(cat "$MNT/a/expires")" 2099-01-01T00:00:00Z
refused "main does not expire" "not permitted" "base branch" put main expires 2h
refused "main stays protected" "not permitted" "base branch" put main protected 0
is "main is protected" "$(cat "$MNT/main/protected")" 1

ok "protect" put a protected 1
is "it says so" "$(cat "$MNT/a/protected")" 1
refused "rmdir of a protected one" "not permitted" "protected.hint: " rmdir "$MNT/a"
refused "rm -rf of a protected one" "not permitted" "protected" rm -rf "$MNT/a"
ok "all of it is there" test -f "$MNT/a/data/PG_VERSION"
refused "a word" "Invalid" "write 1" put a protected yes
unmount_store
mount_only
is "both last: expires" "$(cat "$MNT/a/expires")" 2099-01-01T00:00:00Z
is "both last: protected" "$(cat "$MNT/a/protected")" 1
ok "lift it" put a protected 0
ok "and never" put a expires never
is "never" "$(cat "$MNT/a/expires")" never
ok "rmdir" rmdir "$MNT/a"

# --- what a configuration gives and forbids
reload 'ttl = 3h' 'max_ttl = 5h'
is_read() {
	mkdir "$MNT/t" 2>/dev/null
	from_now t/expires 10800 || ! rmdir "$MNT/t"
}
settles "ttl holds from a reload on" is_read
ok "as far as max_ttl" put t expires 5h
refused "not further" "not permitted" "max_ttl.*hint: the latest time to write now is 2" \
	put t expires 6h
refused "not for ever" "not permitted" "max_ttl" put t expires never
unmount_store

# --- the last activity
conf
mount_only
mkdir "$MNT/old" "$MNT/new"
unmount_store
record_set old last_active 1000000000
mount_only
age() { # BRANCH: seconds
	echo $(($(date +%s) - $(stat -c %Y "$MNT/$1")))
}
is_young() {
	[ "$(age "$1")" -lt 60 ]
}
idle_for_a_week() {
	find "$MNT" -mindepth 1 -maxdepth 1 -mtime +7 -type d -printf '%f\n'
}
is "it is the directory's time" "$(stat -c %Y "$MNT/old")" 1000000000
is "find -mtime sees it" "$(idle_for_a_week)" old
ls -lR "$MNT/old" >/dev/null
cat "$MNT/old"/{status,state,log} "$MNT/old/data/PG_VERSION" >/dev/null
du -s "$MNT/old" >/dev/null
is "looking is no activity" "$(stat -c %Y "$MNT/old")" 1000000000
echo x >"$MNT/old/data/x"
settles "a change of its data is" is_young old
is "find -mtime sees that" "$(idle_for_a_week)" ""

# A crash does not make it older again.
unmount_store
record_set old last_active 1000000000
record_set new last_active 1000000000
mount_only
sql old "select 1" >/dev/null
settles "a connection is activity" is_young old
rm "$MNT/new/data/postgresql.auto.conf"
settles "a removal is activity" is_young new
mkdir "$MNT/other" # makes the daemon look after the store
written() {
	[ "$(record_get "$1" last_active)" -gt 1000000000 ]
}
settles "it is written down" written old
settles "it is written down, again" written new
kill_daemon
mount_only
ok "and known after a crash" is_young old
ok "and known after a crash, again" is_young new
before=$(stat -c %Y "$MNT/new")
unmount_store
mount_only
is "and after a remount" "$(stat -c %Y "$MNT/new")" "$before"
unmount_store
done_testing
