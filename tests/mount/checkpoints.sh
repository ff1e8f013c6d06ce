#!/bin/bash
# NAME/checkpoints: taken, listed with time and size, renamed, dropped; branches made of
# them; what is left of them when their branch is discarded.
# shellcheck disable=SC2012,SC2119,SC2317 # names are plain; functions called by name
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres # for init

conf() {
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	printf '%s\n' "$@" >>"$STORE/pgbranchfs.conf"
}

kib() { # PATH: as du counts
	du -sk "$1" | cut -f 1
}

has_kib() { # PATH FROM TO
	local n

	n=$(kib "$1")
	[ "$n" -ge "$2" ] && [ "$n" -le "$3" ]
}

new_store
conf
mount_only
C=$MNT/a/checkpoints
mkdir "$MNT/a"
base=$(kib "$MNT/a/data")
echo one >"$MNT/a/data/f"
dd if=/dev/zero of="$MNT/a/data/big" bs=1M count=4 conv=fsync status=none
before=$(date +%s)
ok "mkdir" mkdir "$C/c1"
echo two >"$MNT/a/data/f"
ok "another one" mkdir "$C/c2"
ok "of the same state" mkdir "$C/c3"
echo three >"$MNT/a/data/f"
is "they are listed, the oldest first" "$(ls -U "$C" | tr '\n' ' ')" "c1 c2 c3 "
listed() { # NAME DIR
	[ -n "$(find "$2" -mindepth 1 -maxdepth 1 -name "$1")" ]
}
ok "in the branch" listed checkpoints "$MNT/a"
ok "c1 is a directory" test -d "$C/c1"
is "with nothing in it" "$(ls -A "$C/c1")" ""
is "which nobody can write to" "$(stat -c %a "$C/c1")" 500
is "of the branch's owner" "$(stat -c %u "$C/c1")" "$(id -u)"
taken=$(stat -c %Y "$C/c1")
ok "its time" [ "$taken" -ge "$before" -a "$taken" -le "$(date +%s)" ]
is "what was written stays the branch's" "$(has_kib "$MNT/a/data" $((base + 4096)) $((base + 8192)) && echo yes)" yes
is "and nothing of it is charged twice" "$(kib "$C")" 0

# --- branches of them
ok "mkdir NEW@NAME:C" mkdir "$MNT/x1@a:c1"
ok "another" mkdir "$MNT/x2@a:c2"
is "what it holds" "$(cat "$MNT/x1/data/f" "$MNT/x2/data/f" "$MNT/a/data/f" | tr '\n' ' ')" \
	"one two three "
is "its parent" "$(cat "$MNT/x1/parent")" a:c1
like "status has it" "$(cat "$MNT/x1/status")" $'\nparent a\nparent_checkpoint c1\n'
echo mine >"$MNT/x1/data/f"
mkdir "$MNT/x3@a:c1"
is "apart from each other" "$(cat "$MNT/x3/data/f")" one
settles "shared with others it is nobody's" has_kib "$MNT/a" 0 $((base + 1000))
rmdir "$MNT/x3" "$MNT/x2"
refused "no such checkpoint" "No such file" "no checkpoint 'nope' of a branch 'a'" \
	mkdir "$MNT/y@a:nope"
refused "no such branch" "No such file" "no checkpoint 'c1' of a branch 'nope'" \
	mkdir "$MNT/y@nope:c1"
refused "no name" "Invalid" "no name of a checkpoint" mkdir "$MNT/y@a:"
refused "a time" "Invalid" "not built" mkdir "$MNT/y@a:2026-11-22T10:00:00Z"

# --- refusals
long=$(printf 'a%.0s' {1..64})
nok "a name that is taken" mkdir "$C/c1"
refused "bad name" "Invalid" "no name for a checkpoint" mkdir "$C/-c"
refused "a colon" "Invalid" "no name for a checkpoint" mkdir "$C/c:1"
refused "too long" "too long" "too long" mkdir "$C/$long"
refused "a file" "not permitted" "only checkpoints" touch "$C/file"
refused "in a checkpoint" "not permitted" "nothing is seen of it" mkdir "$C/c1/x"
refused "rmdir of all" "not permitted" "goes with its branch" rmdir "$C"
refused "to another branch" "not permitted" "stays with its branch" \
	mv -T "$C/c1" "$MNT/x1/checkpoints/c1"
refused "into another one" "not permitted" "stays with its branch" mv "$C/c1" "$C/c2"
refused "over another one" "File exists" "already" mv -T "$C/c1" "$C/c2"
refused "out of the tree" "not permitted" "stays with its branch" mv "$C/c1" "$MNT/c1"
refused "chmod" "not permitted" "cannot be changed" chmod 700 "$C/c1"
refused "no checkpoint" "No such file" "" rmdir "$C/nope"
is "they are all there" "$(ls "$C" | tr '\n' ' ')" "c1 c2 c3 "

# --- mv, rmdir
ok "mv" mv "$C/c2" "$C/renamed"
is "the old name is gone" "$(ls "$C" | tr '\n' ' ')" "c1 c3 renamed "
mkdir "$MNT/x2@a:renamed"
is "it holds what it held" "$(cat "$MNT/x2/data/f")" two
rmdir "$MNT/x2"
ok "rmdir" rmdir "$C/c3"
ok "the other of the same state is there" mkdir "$MNT/x2@a:renamed"
is "and holds it" "$(cat "$MNT/x2/data/f")" two
rmdir "$MNT/x2"
ok "mv of the branch" mv "$MNT/a" "$MNT/b"
is "takes them along" "$(ls "$MNT/b/checkpoints" | tr '\n' ' ')" "c1 renamed "
is "a child's parent" "$(cat "$MNT/x1/parent")" b:c1
like "audit" "$(grep '"checkpoint"' "$STORE/audit.log" | head -n 1)" \
	'"branch":"a".*"value":"c1".*"allowed"'

# --- after a remount, and a crash
unmount_store
mount_only
is "after a remount" "$(ls -U "$MNT/b/checkpoints" | tr '\n' ' ')" "c1 renamed "
is "with their times" "$(stat -c %Y "$MNT/b/checkpoints/c1")" "$taken"
mkdir "$MNT/b/checkpoints/late"
kill_daemon
mount_only
is "after a kill" "$(ls -U "$MNT/b/checkpoints" | tr '\n' ' ')" "c1 renamed late "

# --- without their branch
echo four >"$MNT/b/data/f"
ok "rmdir of the branch" rmdir "$MNT/b"
is "they live on" "$(ls "$MNT/.checkpoints" | tr '\n' ' ')" "b:c1 b:late b:renamed "
nok "and are not listed in the root" listed .checkpoints "$MNT"
is "what only they hold" "$(has_kib "$MNT/.checkpoints/b:c1" 0 200 && echo yes)" yes
rm -rf "$MNT/x1"
settles "is more without others" has_kib "$MNT/.checkpoints/b:c1" 4096 8192
ok "a branch of it" mkdir "$MNT/y@b:renamed"
is "holds it" "$(cat "$MNT/y/data/f")" two
is "its parent is gone" "$(cat "$MNT/y/parent")" "b:renamed (gone)"
mkdir "$MNT/b"
echo other >"$MNT/b/data/f"
mkdir "$MNT/b/checkpoints/c1"
mkdir "$MNT/z@b:c1"
is "a new branch of the name goes before" "$(cat "$MNT/z/data/f")" other
ok "mv makes the old one free" mv "$MNT/.checkpoints/b:c1" "$MNT/.checkpoints/b:old"
mkdir "$MNT/old@b:old"
is "for a branch" "$(cat "$MNT/old/data/f")" one
refused "under another branch's name" "not permitted" "begins with b:" \
	mv "$MNT/.checkpoints/b:old" "$MNT/.checkpoints/c:old"
refused "mkdir there" "not permitted" "" mkdir "$MNT/.checkpoints/x"
ok "rmdir there" rmdir "$MNT/.checkpoints/b:late"
is "it is gone" "$(ls "$MNT/.checkpoints" | tr '\n' ' ')" "b:old b:renamed "
refused "rmdir of all" "not permitted" "" rmdir "$MNT/.checkpoints"

# --- rm -rf
mkdir "$MNT/b/checkpoints/kept"
ok "rm -rf of a branch" rm -rf "$MNT/b"
nok "takes it away" test -e "$MNT/b"
is "and not its checkpoints" "$(ls "$MNT/.checkpoints" | tr '\n' ' ')" \
	"b:c1 b:kept b:old b:renamed "
ok "rm -rf of checkpoints" rm -rf "$MNT/.checkpoints/b:c1" "$MNT/.checkpoints/b:kept"
is "takes them" "$(ls "$MNT/.checkpoints" | tr '\n' ' ')" "b:old b:renamed "

# --- space
rmdir "$MNT/y" "$MNT/z" "$MNT/old"
rmdir "$MNT"/.checkpoints/*
layers() {
	find "$STORE/layers" -mindepth 1 -maxdepth 1 | wc -l
}
freed() {
	[ "$(layers)" -le 2 ]
}
settles "all is freed" freed
gc_finds_nothing() {
	! "$PGBRANCHFS" gc --json "$MNT" | grep -q '"layer"'
}
settles "gc finds nothing" gc_finds_nothing

# --- the trash
conf 'trash = 1h'
kill -HUP "$(daemon_pid)"
trashes() {
	mkdir "$MNT/probe" && rmdir "$MNT/probe" && [ -n "$(ls "$MNT/.trash")" ]
}
settles "trash is set" trashes
mkdir "$MNT/t"
echo x >"$MNT/t/data/f"
mkdir "$MNT/t/checkpoints/c"
rm -rf "$MNT/t"
is "of a branch in the trash" "$(ls "$MNT/.checkpoints")" t:c
mkdir "$MNT/u@t:c"
is "branches can be made" "$(cat "$MNT/u/data/f")" x
mv "$MNT"/.trash/t@* "$MNT/t"
is "back with its checkpoints" "$(ls "$MNT/t/checkpoints")" c
is "which are its own again" "$(ls "$MNT/.checkpoints")" ""
ok "and can be dropped" rmdir "$MNT/t/checkpoints/c"

# --- not by strangers
if [ "$(id -u)" = 0 ]; then
	mkdir "$MNT/t/checkpoints/c"
	chmod 755 "$MNT/t"
	as_nobody() {
		setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
	}
	is "a shared branch shows them" "$(as_nobody ls "$MNT/t/checkpoints")" c
	nok "others take none" as_nobody mkdir "$MNT/t/checkpoints/d"
	nok "others drop none" as_nobody rmdir "$MNT/t/checkpoints/c"
	chmod 700 "$MNT/t"
	nok "or are shown nothing" as_nobody ls "$MNT/t/checkpoints"
	rmdir "$MNT/t"
	nok "nor of one left" as_nobody rmdir "$MNT/.checkpoints/t:c"
	nok "nor branch from it" as_nobody mkdir "$MNT/n@t:c"
	ok "it is there" test -d "$MNT/.checkpoints/t:c"
fi
unmount_store
done_testing
