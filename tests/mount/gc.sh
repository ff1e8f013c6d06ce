#!/bin/bash
# pgbranchfs gc and doctor: they plan first, do only what --apply says, and find nothing
# to do the second time.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

conf() {
	printf '[branch]\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
	printf '%s\n' "$@" >>"$STORE/pgbranchfs.conf"
}

# run STATUS COMMAND...: its output in $out
run() {
	local wanted=$1 rc=0

	shift
	out=$("$PGBRANCHFS" "$@" 2>&1) || rc=$?
	is "exit status of $*" "$rc" "$wanted"
}

# shows KIND NAME STATE WHY: a row of $out
shows() {
	grep -qE "^$1 +$2 +[0-9.A-Z-]+ +$3 +$4" <<<"$out" || {
		fail "no row $1 $2 $3 $4"
		printf '%s\n' "$out"
		return
	}
	pass "$1 $2 is $3"
}

nothing_to_do() {
	run 0 gc "$MNT" "$@"
	is "there is nothing to do" "$out" "there is nothing to clean up"
}

new_store
conf 'trash = 1h'
mount_only
mkdir "$MNT/a"
echo words >"$MNT/a/data/t.1"
echo words >"$MNT/a/data/.tmp-1-1"
echo words >"$MNT/a/data/t.2"
mkdir "$MNT/b@a"
mkdir "$MNT/gone"
no=$(sed -n 's/^no //p' "$MNT/gone/status")
rmdir "$MNT/gone"
rmdir "$MNT"/.trash/gone@*
base=layers/$(printf '%08x' "$(record_get b base)")
is "help" "$("$PGBRANCHFS" gc --help | head -n 1)" \
	"usage: pgbranchfs gc [MOUNTPOINT] [--apply] [--json] [--unused DAYS]"
nothing_to_do
run 0 doctor "$MNT"
is "nothing is wrong" "$out" "nothing is wrong"
for args in "gc --unused 0" "gc --unused x" "doctor --unused 7" "gc $MNT $MNT" "doctor --appl=y"; do
	# shellcheck disable=SC2086 # words
	run 2 $args
done
run 1 gc "$TMP"
like "no mount" "$out" "no pgbranchfs is mounted"

# --- what a crash leaves, and what does not belong there
is_durable() {
	[ -e "$STORE/$base/layer.ini" ]
}
settles "the layer below a and b is on disk" is_durable
sync
mkdir -p "$STORE/layers/00000f00/full" "$STORE/layers/7fffffff/full" "$STORE/$base/map"
head -c 300000 /dev/zero | tr '\0' x >"$STORE/layers/00000f00/full/101"
for f in layers/7fffffff/full/101 branches/.tmp-1-2 .tmp-3-4 "$base/map/.tmp-5-6" "$base/t.3" \
	"run/$no.log"; do
	echo left >"$STORE/$f"
done
find "$STORE" >"$TMP/before"
for _ in 1 2; do
	run 0 gc "$MNT"
	shows layer layers/00000f00 plan "no branch"
	shows layer layers/7fffffff plan "no branch"
	shows temporary branches/.tmp-1-2 plan "a crash"
	shows temporary ./.tmp-3-4 plan "a crash"
	shows temporary "$base/map/.tmp-5-6" plan "a crash"
	shows temporary "$base/t.3" plan "a crash"
	shows log "run/$no.log" plan "its branch is gone"
	like "the sum" "$out" "7 could be removed, 3[0-9][0-9]K: nothing was done"
	is "and no more" "$(wc -l <<<"$out")" 9
done
find "$STORE" >"$TMP/after"
ok "a plan changes nothing" cmp "$TMP/before" "$TMP/after"
run 0 gc --json "$MNT"
like "JSON" "$out" '^\[.*"kind": "layer", "name": "layers/00000f00", "bytes": 3[0-9]*, "state": "plan"'
run 0 gc "$MNT" --apply
shows layer layers/00000f00 "done" ""
shows temporary "$base/t.3" "done" ""
like "the sum" "$out" "7 removed, 3[0-9][0-9]K"
for f in layers/00000f00 layers/7fffffff branches/.tmp-1-2 .tmp-3-4 "$base/map/.tmp-5-6" \
	"$base/t.3" "run/$no.log"; do
	nok "$f is gone" test -e "$STORE/$f"
done
nothing_to_do --apply
is "files of that name in data stay" "$(cat "$MNT"/{a,b}/data/{t.1,t.2,.tmp-1-1})" \
	"$(yes words | head -n 6)"
like "audit" "$(grep '"value":"layers/00000f00"' "$STORE/audit.log")" \
	'"verb":"gc".*"verdict":"allowed","reason":"no branch stands on it"'
ok "branches can be made" mkdir "$MNT/c"

# --- the trash: only what is due, or what nobody asks for any more
echo c >"$MNT/c/data/c"
rmdir "$MNT/c"
nothing_to_do
conf
kill -HUP "$(daemon_pid)"
trash_is_listed() {
	"$PGBRANCHFS" gc "$MNT" | grep -qE '^trash +c@20.* plan +trash is not set'
}
settles "what is there without trash" trash_is_listed
run 0 gc --apply "$MNT"
shows trash 'c@20[0-9T:-]*Z' "done" "trash is not set"
is "it is gone" "$(ls "$MNT/.trash")" ""

# --- branches that nobody used: not those that are protected, or in use
mkdir "$MNT"/{old,busy,safe,young}
echo 1 >"$MNT/safe/protected"
unmount_store
for b in old busy safe a; do
	record_set $b last_active $(($(date +%s) - 10 * 86400))
done
mount_only
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
run 0 gc --unused 7 "$MNT"
shows branch old plan "nobody used it since 20"
shows branch a plan "nobody used it since 20"
nok "not one that is used" grep -q busy <<<"$out"
nok "not one that is protected" grep -q safe <<<"$out"
nok "not main" grep -q main <<<"$out"
run 0 gc --unused 11 "$MNT"
is "nobody is idle for so long" "$out" "there is nothing to clean up"
run 0 gc --unused 7 --apply "$MNT"
shows branch old "done" "nobody"
nok "old is gone" test -e "$MNT/old"
nok "a is gone" test -e "$MNT/a"
is "its child lives on" "$(cat "$MNT/b/data/t.1")" words
ok "the others are there" test -d "$MNT/busy/data" -a -d "$MNT/safe" -a -d "$MNT/young"
like "audit" "$(grep '"branch":"old"' "$STORE/audit.log" | tail -n 1)" \
	'"verb":"gc".*"allowed","reason":"nobody used it since 20'
nothing_to_do --unused 7
echo 0 >"$MNT/safe/protected"
run 0 gc --unused 7 --apply "$MNT"
shows branch safe "done" "nobody"
exec 8>&-
wait $session
unmount_store

# One that comes into use between the plan and its end.
record_set busy last_active $(($(date +%s) - 10 * 86400))
mount_only
run 0 gc --unused 7 "$MNT"
shows branch busy plan "nobody used it since 20"
rm "$TMP/session.out"
psql -X -q -h "$MNT/busy" -U postgres -d postgres <"$TMP/session" >"$TMP/session.out" 2>&1 &
session=$!
watch_pid $session
exec 8>"$TMP/session"
echo "select 'in';" >&8
settles "a session" has_session
run 0 gc --unused 7 --apply "$MNT"
ok "it is there" test -d "$MNT/busy/data"
exec 8>&-
wait $session
unmount_store

# --- doctor: damage, with what it costs; no layer goes meanwhile
cp "$STORE/branches/young.ini" "$TMP/young.ini"
echo x >"$STORE/branches/young.ini"
record_set busy last_active $(($(date +%s) + 10 * 86400))
mount_only
mkdir -p "$STORE/layers/00000e00/full"
echo x >"$STORE/layers/00000e00/full/101"
run 1 doctor "$MNT"
shows record branches/young.ini bad "not as it was written; it costs: young"
shows clock busy bad "it was used in the future"
run 0 gc --apply "$MNT"
shows layer layers/00000e00 kept "a record is damaged"
ok "it is kept" test -d "$STORE/layers/00000e00"
run 1 doctor --apply --json "$MNT"
like "JSON" "$out" '"kind": "record", "name": "branches/young.ini", "bytes": 0, "state": "bad"'
mv "$STORE/$base/layer.ini" "$TMP/layer.ini"
run 1 doctor "$MNT"
shows layer "$base/layer.ini" bad "No such file or directory; it costs: .*b"
unmount_store
cp "$TMP/young.ini" "$STORE/branches/young.ini"
mount_only
run 1 doctor "$MNT"
shows layer "$base/layer.ini" bad "No such file or directory; it costs: b"
shows record branches/b.ini bad "what it stands on cannot be read; it costs: b"
unmount_store
mv "$TMP/layer.ini" "$STORE/$base/layer.ini"
rm -r "$STORE/layers/00000e00"
record_set busy last_active "$(date +%s)"

# --- a full disk, a long path, a server of somebody else
printf '[branch]\nreserve = 1000000G\n' >"$STORE/pgbranchfs.conf"
mount_only
run 1 doctor "$MNT"
shows space "$STORE" bad "[0-9]* MiB are free, the reserve is"
unmount_store
conf
deep=$TMP/$(printf 'd%.0s' {1..75})
mkdir "$deep"
MNT=$deep mount_only
run 1 doctor "$deep"
shows socket busy bad "the socket of 'busy' would have a path of 1[0-9][0-9] bytes"
MNT=$deep unmount_store
mount_only
as_server() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid postgres --regid postgres --init-groups "$@"
	else
		"$@"
	fi
}
mkdir "$TMP/other"
[ "$(id -u)" != 0 ] || chown postgres "$TMP/other"
as_server "$PGBIN/initdb" -D "$TMP/other/data" -N >/dev/null 2>&1 || die "initdb"
as_server env PGBRANCHFS_STORE="$STORE" "$PGBIN/postgres" -D "$TMP/other/data" \
	-c listen_addresses= -c unix_socket_directories="$TMP/other" >"$TMP/other.log" 2>&1 &
watch_pid $!
answers() {
	as_server "$PGBIN/pg_isready" -q -h "$TMP/other"
}
settles "a stray server" answers
stray=$(head -n 1 "$TMP/other/data/postmaster.pid")
is "and one of ours" "$(sql b "select 1")" 1
run 1 doctor "$MNT"
shows server "$stray" plan "it runs on the store, and was not started by this mount"
is "only that one" "$(grep -c ^server <<<"$out")" 1
ok "a plan ends nothing" kill -0 "$stray"
run 0 doctor --apply "$MNT"
like "audit" "$(grep '"verb":"doctor"' "$STORE/audit.log" | tail -n 1)" '"value":"doctor apply".*"allowed"'
shows server "$stray" "done" "it runs"
ended() {
	! kill -0 "$stray" 2>/dev/null
}
settles "it has ended" ended
is "ours runs" "$(cat "$MNT/b/state")" running
run 0 doctor "$MNT"
is "nothing is wrong any more" "$out" "nothing is wrong"

# --- for whom, and the file behind it
if [ "$(id -u)" = 0 ]; then
	out=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$PGBRANCHFS" gc "$MNT" 2>&1) &&
		fail "a stranger may clean up"
	like "a stranger is told" "$out" "you may not clean up"
fi
nok "a question that it does not know" bash -c "echo everything >'$MNT/.upkeep'"
like "why" "$(cat "$MNT/.error")" "'everything' is nothing to ask here.*hint: write gc or doctor"
ok "without the command" bash -c "echo doctor >'$MNT/.upkeep'"
is "the answer" "$(cat "$MNT/.upkeep")" end
is "its mode" "$(stat -c %a "$MNT/.upkeep")" 600
unmount_store
done_testing
