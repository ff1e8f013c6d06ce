#!/bin/bash
# The trash: what rmdir, rm -rf and expiry put there, what it shows, that it comes back as
# it was, and how it goes for good.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

conf() {
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	printf '%s\n' "$@" >>"$STORE/pgbranchfs.conf"
}

# in_trash NAME: what it is called there
in_trash() {
	# shellcheck disable=SC2010 # one name a line, of known letters
	ls "$MNT/.trash" | grep "^$1@" | tail -n 1
}

trash_has() {
	[ -n "$(in_trash "$1")" ]
}

bytes_of() {
	(cd "$MNT/$1/data" && find . -type f ! -name postmaster.pid -exec md5sum {} + |
		sort -k 2)
}

new_store
conf 'trash = 1h'
mount_only
listed() {
	[ -n "$(find "$MNT" -mindepth 1 -maxdepth 1 -name "$1")" ]
}
ok "others are listed" listed .error
nok "the trash is not" listed .trash
is "it is empty" "$(ls -A "$MNT/.trash")" ""
is "its mode" "$(stat -c %a "$MNT/.trash")" 1777

# --- there and back
mkdir "$MNT/a"
sql a "create table t as select generate_series(1, 1000) i" || die "psql"
echo x >"$MNT/a/data/unsynced"
mkdir "$MNT/child@a"
dd if=/dev/urandom of="$MNT/a/data/own" bs=1k count=100 conv=fsync status=none
no=$(sed -n 's/^no //p' "$MNT/a/status")
now=$(date +%s)
ok "rmdir with a server" rmdir "$MNT/a"
nok "it is out of sight" test -e "$MNT/a"
is "nothing of it runs" "$(servers_here)" ""
like "it is in the trash" "$(ls "$MNT/.trash")" '^a@20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$'
name=$(in_trash a)
ok "its time is that of the rmdir" \
	[ $(($(stat -c %Y "$MNT/.trash/$name") - now)) -lt 30 ]
is "and is in its name" "$(date -d "${name#a@}" +%s)" "$(stat -c %Y "$MNT/.trash/$name")"
is "all there is to see" "$(ls -A "$MNT/.trash/$name")" status
like "status" "$(cat "$MNT/.trash/$name/status")" \
	"^name a.no $no.parent main.*discarded ${name#a@}.removed 20"
ok "with what it holds on disk" grep -qE '^bytes [1-9][0-9]{5,}$' "$MNT/.trash/$name/status"
is "status has a size" "$(stat -c %s "$MNT/.trash/$name/status")" \
	"$(wc -c <"$MNT/.trash/$name/status")"
nok "its data is out of reach" ls "$MNT/.trash/$name/data"
nok "its run directory, too" ls "$MNT/.run/$no"
is "its child lives on" "$(cat "$MNT/child/parent")" "a (gone)"
is "with all data" "$(sql child "select count(*) from t")" 1000
like "audit says where it went" "$(grep '"discard"' "$STORE/audit.log")" \
	"\"branch\":\"a\".*\"value\":\"$name\".*\"allowed\""
ok "it comes back" mv "$MNT/.trash/$name" "$MNT/a"
is "the trash is empty" "$(ls -A "$MNT/.trash")" ""
is "it has its number" "$(sed -n 's/^no //p' "$MNT/a/status")" "$no"
is "what no server synced" "$(cat "$MNT/a/data/unsynced")" x
is "its server starts" "$(sql a "select count(*) from t")" 1000
is "it is the child's parent again" "$(cat "$MNT/child/parent")" a
ok "it was used now" [ $(($(date +%s) - $(stat -c %Y "$MNT/a"))) -lt 60 ]
like "audit has that, too" "$(grep '"restore"' "$STORE/audit.log")" \
	"\"branch\":\"$name\".*\"value\":\"a\".*\"allowed\""

# --- rm -rf, with all files; several of one name and second
bytes_of child >"$TMP/before"
sql child "select 1" >/dev/null
echo stopped >"$MNT/child/state"
bytes_of child >"$TMP/before"
ok "rm -rf" rm -rf "$MNT/child"
for i in 1 2 3; do
	mkdir "$MNT/same"
	echo $i >"$MNT/same/data/i"
	rmdir "$MNT/same"
	[ "$i" != 1 ] || first=$(in_trash same)
done
is "three of one name" "$(cd "$MNT/.trash" && printf '%s\n' same@* | wc -l)" 3
is "the first one comes back" "$(mv "$MNT/.trash/$first" "$MNT/same" &&
	cat "$MNT/same/data/i")" 1
name=$(in_trash child)
ok "back under another name" mv "$MNT/.trash/$name" "$MNT/child2"
bytes_of child2 >"$TMP/after"
ok "rm -rf took nothing of it" cmp "$TMP/before" "$TMP/after"
is "it is stopped by hand, as it was" "$(sed -n 's/^stopped_by_hand //p' "$MNT/child2/status")" 1
echo running >"$MNT/child2/state"
is "it works" "$(sql child2 "select count(*) from t")" 1000

# --- refusals
name=$(in_trash same)
refused "a name that is taken" "File exists|exists|not empty" "branch 'same' exists" \
	mv -T "$MNT/.trash/$name" "$MNT/same"
refused "no name" "Invalid|subdirectory of itself" "no name" mv "$MNT/.trash/$name" "$MNT/"
refused "a file's name" "File exists|Not a directory|cannot overwrite" "" \
	mv -T "$MNT/.trash/$name" "$MNT/README"
nok "what is not there" mv "$MNT/.trash/gone@2026-11-22T10:00:00Z" "$MNT/x"
refused "a branch into the trash by mv" "not permitted" "rmdir" mv "$MNT/same" "$MNT/.trash/"
refused "another name in the trash" "not permitted" "rmdir" \
	mv "$MNT/.trash/$name" "$MNT/.trash/x@2026-11-22T10:00:00Z"
refused "mkdir in the trash" "not permitted" "" mkdir "$MNT/.trash/x"
refused "a file in the trash" "not permitted" "" bash -c ": >'$MNT/.trash/x'"
refused "rmdir of the trash" "not permitted" "" rmdir "$MNT/.trash"
refused "mv of the trash" "not permitted" "" mv "$MNT/.trash" "$MNT/x"
refused "a branch named so" "Invalid" "" mkdir "$MNT/.trash@main"
refused "write to status" "not permitted" "only be read" \
	bash -c "echo x >'$MNT/.trash/$name/status'"
ok "protect" bash -c "echo 1 >'$MNT/same/protected'"
refused "a protected one stays out" "not permitted" "protected" rm -rf "$MNT/same"
bash -c "echo 0 >'$MNT/same/protected'"

# --- in a shell whose directory comes back
(
	cd "$MNT/same" || exit
	ls "$MNT/.trash" >"$TMP/before"
	rmdir "$MNT/same"
	# names of one second do not sort by time
	new=$(comm -13 "$TMP/before" <(ls "$MNT/.trash"))
	mv "$MNT/.trash/$new" "$MNT/same"
	ls "$MNT/same" >"$TMP/listing"
)
like "it is no dead directory to others" "$(cat "$TMP/listing")" status
is "nor is its data" "$(cat "$MNT/same/data/i")" 1

# --- for good
ok "rmdir removes one" rmdir "$MNT/.trash/$name"
nok "it is gone" test -e "$MNT/.trash/$name"
ok "rm -rf removes all" bash -c "rm -rf '$MNT'/.trash/*"
is "the trash is empty again" "$(ls "$MNT/.trash")" ""
like "audit has it" "$(grep '"purge"' "$STORE/audit.log" | head -n 1)" \
	"\"branch\":\"$name\".*\"allowed\""
space_is_free() {
	local id

	for id in "$STORE"/layers/*/; do
		id=$((16#$(basename "$id")))
		grep -qxE "(top|base) = $id" "$STORE"/branches/*.ini ||
			grep -qx "parent = $id" "$STORE"/layers/*/layer.ini || return 1
	done
}
settles "their space is free" space_is_free

# --- over a remount, a crash, and while it is mounted elsewhere
mkdir "$MNT/b"
echo b >"$MNT/b/data/b"
rmdir "$MNT/b"
name=$(in_trash b)
unmount_store
mount_only
is "it is there after a remount" "$(in_trash b)" "$name"
mkdir "$MNT/new"
is "its number is not given out" "$(sed -n 's/^no //p' "$MNT/.trash/$name/status" \
	"$MNT/new/status" | sort | uniq -d)" ""
kill_daemon
mount_only
is "and after a crash" "$(in_trash b)" "$name"
mv "$MNT/.trash/$name" "$MNT/b"
kill_daemon
mount_only
is "what came back, too" "$(cat "$MNT/b/data/b")" b

# --- expiry goes there as well, and comes back with a life of its own
echo 1s >"$MNT/b/expires"
settles "an expired one is in the trash" trash_has b
ok "it comes back" mv "$MNT/.trash/$(in_trash b)" "$MNT/b"
is "and does not expire at once" "$(cat "$MNT/b/expires")" never
rmdir "$MNT/b" "$MNT/new"
mkdir "$MNT/c"
rmdir "$MNT/c"
c=$(in_trash c)

# --- the time is over
conf 'trash = 1s'
kill -HUP "$(daemon_pid)"
trash_is_empty() {
	[ -z "$(ls "$MNT/.trash")" ]
}
settles "the trash is emptied" trash_is_empty
like "audit says why" "$(grep '"purge"' "$STORE/audit.log" | grep "$c")" \
	'"allowed","reason":"its time in the trash was over at 20'
settles "their space is free" space_is_free
conf
kill -HUP "$(daemon_pid)"
off() {
	mkdir "$MNT/d" && rmdir "$MNT/d" && ! trash_has d
}
settles "without trash rmdir is for good" off
unmount_store

# --- not by strangers
if [ "$(id -u)" = 0 ]; then
	conf 'trash = 1h'
	mount_only
	mkdir "$MNT/mine"
	rmdir "$MNT/mine"
	name=$(in_trash mine)
	as_nobody() {
		setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
	}
	nok "others cannot remove it" as_nobody rmdir "$MNT/.trash/$name"
	nok "nor take it" as_nobody mv "$MNT/.trash/$name" "$MNT/theirs"
	nok "nor read of it" as_nobody cat "$MNT/.trash/$name/status"
	is "it is there" "$(in_trash mine)" "$name"
	unmount_store
fi
done_testing
