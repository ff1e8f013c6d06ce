#!/bin/bash
# Checkpoints that are taken by the clock: only where something was written, thinned out,
# apart from those that somebody took, and gone with their branch.
# shellcheck disable=SC2010,SC2012,SC2119,SC2317 # plain names; functions called by name
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres # for init

conf() {
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	printf '%s\n' "$@" >>"$STORE/pgbranchfs.conf"
	[ -z "$(daemon_pid)" ] || kill -HUP "$(daemon_pid)"
}

autos() { # BRANCH
	ls -U "$MNT/$1/checkpoints" | grep '^auto-20[0-9]\{6\}T[0-9]\{6\}Z'
}

count() {
	autos "$1" | wc -l
}

has() { # BRANCH N
	[ "$(count "$1")" -eq "$2" ]
}

more_than() { # BRANCH N
	[ "$(count "$1")" -gt "$2" ]
}

status() { # BRANCH KEY
	sed -n "s/^$2 //p" "$MNT/$1/status"
}

new_store
conf
mount_only
mkdir "$MNT/a" "$MNT/quiet"
echo 1 >"$MNT/a/data/f"
conf 'auto_checkpoint = 1s' 'keep = 3'
settles 'one is taken' has a 1
like 'its name' "$(autos a)" '^auto-20[0-9]{6}T[0-9]{6}Z$'
first=$(autos a)
ok 'its time is in its name' [ "auto-$(date -u -d "@$(stat -c %Y "$MNT/a/checkpoints/$first")" +%Y%m%dT%H%M%SZ)" = "$first" ]
echo 2 >"$MNT/a/data/f"
settles 'the next one after a write' has a 2
mkdir "$MNT/x@a:$first"
is 'the first holds what was there' "$(cat "$MNT/x/data/f")" 1
mkdir "$MNT/a/checkpoints/mine"
mv "$MNT/a/checkpoints/$first" "$MNT/a/checkpoints/kept"
for i in 3 4 5 6; do
	echo $i >"$MNT/a/data/f"
	newest=$(autos a | tail -n 1)
	another() {
		[ "$(autos a | tail -n 1)" != "$newest" ]
	}
	settles "one for write $i" another
done
settles 'no more than keep stay' has a 3
is 'the newest holds the last state' "$(mkdir "$MNT/y@a:$(autos a | tail -n 1)" && cat "$MNT/y/data/f")" 6
is 'what somebody took or renamed stays' "$(ls "$MNT/a/checkpoints" | grep -v '^auto-' | tr '\n' ' ')" \
	'kept mine '
is 'status counts them apart' "$(status a checkpoints) $(status a automatic_checkpoints)" '2 3'
is 'who was only made has none' "$(ls "$MNT/quiet/checkpoints")" ''
like 'audit' "$(grep '"drop-checkpoint"' "$STORE/audit.log")" '"reason":"others are enough'

# --- nothing is written: nothing is taken, for longer than the interval
before=$(autos a)
echo 1 >"$MNT/x/data/f" # as a clock
settles 'another branch has one more' more_than x 0
is 'a branch that is not written has none' "$(autos a)" "$before"

# --- before a rollback, and its end
echo kept >"$MNT/a/rollback" || fail 'rollback'
is 'it is what it was' "$(cat "$MNT/a/data/f")" 1
safety() {
	ls "$MNT/a/checkpoints" | grep -q '^before-rollback-'
}
no_safety() {
	! safety
}
ok 'what it was is kept' safety
conf 'auto_checkpoint = never' 'keep = 3' 'keep_safety = 1s'
settles 'until its time is over' no_safety
before=$(autos a)
echo 7 >"$MNT/a/data/f"
sleep_free() { # the looks of a second or two: a branch's expiry is the clock
	[ ! -d "$MNT/clock" ]
}
mkdir "$MNT/clock"
echo 2s >"$MNT/clock/expires"
settles 'time passes' sleep_free
is 'without the setting none is taken' "$(autos a)" "$before"

# --- they go with their branch
rmdir "$MNT/y" "$MNT/x" "$MNT/a"
is 'only those that somebody wanted are left' "$(ls "$MNT/.checkpoints" | tr '\n' ' ')" 'a:kept a:mine '
unmount_store
done_testing
