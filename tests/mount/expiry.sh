#!/bin/bash
# How long a branch lives: expires, protected, ttl, max_ttl, and that it is discarded
# then unless it is in use; and the time of its last activity, which is that of its
# directory.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

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

# --- discarded when the time is over
gone() {
	[ ! -e "$MNT/$1" ] && ! grep -q "── $1 " "$MNT/.tree"
}
audit() { # BRANCH: its last line
	grep "\"branch\":\"$1\"" "$STORE/audit.log" | tail -n 1
}
mkdir "$MNT/x" "$MNT/y@x" "$MNT/z@x" "$MNT/kept" "$MNT/served"
echo y >"$MNT/y/data/y"
is "a server runs" "$(sql served "select 1")" 1
ok "protect" put kept protected 1
ok "all but y end soon" bash -c "for b in x z kept served; do
	echo 2s >'$MNT/'\$b/expires || exit; done"
settles "x is discarded" gone x
settles "z, which was made from it" gone z
settles "a running one that nobody uses" gone served
is "its server, too" "$(servers_here)" ""
like "the reason is in the audit log" "$(audit x)" \
	'"verb":"expire","branch":"x".*"verdict":"allowed","reason":"it expired at 20'
is "the child lives on" "$(cat "$MNT/y/data/y")" y
is "and knows of it" "$(cat "$MNT/y/parent")" "x (gone)"
ok "a protected one does not expire" test -d "$MNT/kept"
ok "lift it" put kept protected 0
settles "then it does" gone kept
is "no .error of anybody" "$(cat "$MNT/.error")" ""

# --- spared as long as somebody is in it
mkdir "$MNT/busy"
mkfifo "$TMP/session"
psql -X -q -h "$MNT/busy" -U postgres -d postgres <"$TMP/session" >"$TMP/session.out" 2>&1 &
session=$!
watch_pid $session
exec 8>"$TMP/session"
echo "select 'in';" >&8
has_session() {
	grep -q in "$TMP/session.out"
}
settles "a session" has_session
ok "its time is over soon" put busy expires 1s
spared() {
	[ "$(date +%s)" -gt $(($(date -d "$(cat "$MNT/busy/expires")" +%s) + 3)) ]
}
settles "three seconds behind it" spared
ok "the branch is there" test -d "$MNT/busy"
echo "select 40 + 2;" >&8
answered() {
	grep -q 42 "$TMP/session.out"
}
settles "and works" answered
exec 8>&-
wait $session
ended=$(date +%s%N)
settles "discarded when the session has ended" gone busy
ok "after a grace" [ $((($(date +%s%N) - ended) / 1000000)) -ge 500 ]

# --- while nothing was mounted; and one that somebody touched meanwhile
mkdir "$MNT/late" "$MNT/longer"
unmount_store
record_set late expires $(($(date +%s) - 100))
record_set longer expires $(($(date +%s) + 100000))
mount_only
settles "it is discarded at the next mount" gone late
ok "not the other one" test -d "$MNT/longer"
unmount_store
is "its record is gone" "$(cd "$STORE/branches" && echo late*)" 'late*'
is "mode of the audit log" "$(stat -c %a "$STORE/audit.log")" 600
nok "each line is one object" grep -vE '^\{"time":"[^"]*",.*,"duration_ms":[0-9.]+\}$' \
	"$STORE/audit.log"
done_testing
