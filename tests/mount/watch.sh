#!/bin/bash
# Whoever watches a mount sees what is so, and changes nothing by it: the texts for
# people and programs, .metrics, and what ls, du, df and find say.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

MIB=$((1024 * 1024))

# metric NAME [LABEL="VALUE"...]: the value of that sample; nothing if there is none.
# Labels in the order of the text.
metric() {
	local name=$1 labels='' label

	shift
	for label; do labels+=,$label; done
	name+="{mountpoint=\"$MNT\"$labels} "
	awk -v name="$name" 'index($0, name) == 1 { print substr($0, length(name) + 1) }' \
		"$MNT/.metrics"
}

# at_least WANTED COMMAND...: it prints a number that is not below.
at_least() {
	local wanted=$1 got

	shift
	got=$("$@")
	[ "${got:-0}" -ge "$wanted" ]
}

shows() { # WANTED COMMAND...
	local wanted=$1

	shift
	[ "$("$@")" = "$wanted" ]
}

lint() {
	cat "$MNT/.metrics" >"$TMP/metrics"
	awk -f "$top_srcdir/tests/lib/promlint.awk" "$TMP/metrics" || return 1
	# the real one, where somebody has it
	if command -v promtool >/dev/null; then
		promtool check metrics <"$TMP/metrics"
	fi
}

json() {
	python3 -m json.tool - "$TMP/json" # from stdin
}

mount_store
ok "mkdir" mkdir "$MNT/a" "$MNT/b@a"

# --- looking starts no server, and brings no branch into memory
look() {
	# the virtual part of the tree, then all of it
	find "$MNT" -path '*/data' -prune -o -ls &&
		find "$MNT" -type f -path '*/data/*' -prune -o -type f -exec cat {} + &&
		cat "$MNT/.tree" "$MNT/.metrics" "$MNT/README" "$MNT/.error"
}
cat_all() {
	cat "$MNT"/*/{status,status.json,state,url,parent,owner,log} "$MNT"/.{tree,metrics,error}
}
commands() {
	local command

	for command in list tree status; do
		"$PGBRANCHFS" "$command" "$MNT" && "$PGBRANCHFS" "$command" --json "$MNT" |
			json || return 1
	done
}
for _ in 1 2; do
	ok "cat of every file" cat_all
	ok "list, tree and status, for people and as JSON" commands
done >/dev/null
is "no tree was loaded" "$(metric pgbranchfs_cache_misses_total 'cache="trees"')" 0
for _ in 1 2; do
	ok "find -ls and cat, without data" look
	ok "ls -lR" ls -lR "$MNT"
done >/dev/null
for b in main a b; do
	is "$b is stopped" "$(cat "$MNT/$b/state")" stopped
	like "$b was never started" "$(tr '\n' ' ' <"$MNT/$b/status")" " wakes 0 "
done
is "no wake was counted" "$(metric pgbranchfs_wakes_total)" 0
is "no server ran" "$(servers_here)" ""

# --- the JSON says what the table says
"$PGBRANCHFS" list --json "$MNT" >"$TMP/list.json"
# shellcheck disable=SC2016 # Python
is "list --json" "$(python3 -c '
import json, sys
for b in json.load(open(sys.argv[1])):
    print(b["name"], b["state"], b["parent"], b["depth"])' "$TMP/list.json")" \
	"a stopped main 2
b stopped a 2
main stopped None 2"
is "list" "$("$PGBRANCHFS" list "$MNT" | awk '{ print $1, $2, $4, $5 }')" \
	"NAME STATE PARENT DEPTH
a stopped main 2
b stopped a 2
main stopped - 2"
is "status --json" "$("$PGBRANCHFS" status --json "$MNT" | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(s["mountpoint"], s["running"], len(s["branches"]))')" "$MNT 0 3"

# --- .metrics as a file
ok ".metrics keeps the rules" lint
is "everybody may read it" "$(stat -c '%a' "$MNT/.metrics")" 444
nok "nobody may write it" bash -c "echo x >'$MNT/.metrics'" 2>/dev/null
like "it says so" "$(cat "$MNT/.error")" "can only be read"
ok "cp" cp "$MNT/.metrics" "$TMP/copy"
ok "the copy is whole" awk -f "$top_srcdir/tests/lib/promlint.awk" "$TMP/copy"
like "to its end" "$(tail -n 1 "$TMP/copy")" "^process_start_time_seconds"
# a text is a second old at most, so that size and bytes are not always of one text
size_is_true() {
	[ "$(stat -c %s "$MNT/.metrics")" = "$(wc -c <"$MNT/.metrics")" ]
}
settles "its size is that of its text" size_is_true
is "each family is in the manual" "$(sed -n 's/^# HELP \([a-z_]*\) .*/\1/p' "$TMP/metrics" |
	while read -r name; do
		grep -qw "$name" "$top_srcdir/man/pgbranchfs.1" || echo "$name"
	done)" ""

# --- branches and what they hold
is "branches by state" "$(metric pgbranchfs_branches 'state="stopped"')" 3
is "depth" "$(metric pgbranchfs_branch_depth 'branch="b"')" 2
uid=$(id -u)
bytes_of() {
	metric pgbranchfs_branch_bytes "branch=\"$1\"" "owner=\"$uid\""
}
# du says what BRANCH holds to be about so many MiB.
du_is_about() { # MIB BRANCH
	local kib

	kib=$(du -sk "$MNT/$2" | cut -f1)
	[ "$kib" -ge $(($1 * 1024)) ] && [ "$kib" -lt $(($1 * 1024 + 512)) ]
}
is "bytes of a new branch" "$(bytes_of b)" 0
ok "du of a new branch" du_is_about 0 b
shared_before=$(metric pgbranchfs_shared_bytes)
ok "what is shared is the whole cluster" test "$shared_before" -ge $((16 * MIB))
# 32 MiB of which a branch then changes 8
dd if=/dev/urandom of="$MNT/b/data/big" bs=1M count=32 conv=fsync status=none
settles "du follows a file that grows" du_is_about 32 b
ok "mkdir" mkdir "$MNT/c@b"
settles "a parent shares what it has" du_is_about 0 b
settles "and its child pays nothing for it" du_is_about 0 c
dd if=/dev/urandom of="$MNT/c/data/big" bs=1M count=8 seek=4 conv=notrunc,fsync status=none
settles "du counts what was changed: 8 MiB of 32" du_is_about 8 c
is "as ls -l, the whole file" "$(stat -c %s "$MNT/c/data/big")" $((32 * MIB))
settles "bytes do" at_least $((8 * MIB)) bytes_of c
ok "and little else" test "$(bytes_of c)" -lt $((9 * MIB))
is "status says the same" "$(sed -n 's/^bytes //p' "$MNT/c/status")" "$(bytes_of c)"
settles "what is shared has grown" at_least $((shared_before + 32 * MIB)) \
	metric pgbranchfs_shared_bytes
ok "rmdir" rmdir "$MNT/c"
settles "what nobody shares any more is b's again" at_least $((32 * MIB)) bytes_of b
settles "a branch that is gone has no samples" shows "" bytes_of c
is "df is the store's" "$(stat -f -c '%b %S' "$MNT")" "$(stat -f -c '%b %S' "$STORE")"
is "store size" "$(metric pgbranchfs_store_size_bytes)" \
	"$(($(stat -f -c '%b * %S' "$STORE")))"

# --- requests
made=$(metric pgbranchfs_request_duration_seconds_count 'operation="mkdir"')
nok "mkdir of a child of nobody" mkdir "$MNT/x@nobody" 2>/dev/null
settles "a refusal that came later is counted" shows 1 \
	metric pgbranchfs_request_errors_total 'operation="mkdir"' 'errno="ENOENT"'
is "as one request" \
	"$(metric pgbranchfs_request_duration_seconds_count 'operation="mkdir"')" $((made + 1))
nok "a name that is not there" cat "$MNT/nobody" 2>/dev/null
settles "one that came at once, too" at_least 1 \
	metric pgbranchfs_request_errors_total 'operation="lookup"' 'errno="ENOENT"'
handles=$(metric pgbranchfs_open_handles)
exec 8<"$MNT/b/data/PG_VERSION" 9<"$MNT/b/data/big"
settles "open handles" shows $((handles + 2)) metric pgbranchfs_open_handles
exec 8<&- 9<&-
settles "closed ones" shows "$handles" metric pgbranchfs_open_handles
ok "the daemon's memory" test "$(metric process_resident_memory_bytes)" -gt $((2 * MIB))
settles "its descriptors" at_least 5 metric process_open_fds
is "no error was logged" "$(metric pgbranchfs_log_messages_total 'level="error"')" 0

# --- wakes
wakes() {
	metric pgbranchfs_branch_wakes_total "branch=\"$1\""
}
touch -d "@$(stat -c %Y "$MNT/a")" "$TMP/before"
a_moved_on() {
	sql a "select 1" >/dev/null && [ -n "$(find "$MNT/a" -maxdepth 0 -newer "$TMP/before")" ]
}
is "a query wakes" "$(sql a "select 1")" 1
settles "a wake is counted" shows 1 metric pgbranchfs_wakes_total
is "for its branch" "$(wakes a)$(wakes b)" 10
is "with its time" "$(metric pgbranchfs_wake_duration_seconds_count)" 1
ok "which is more than nothing" \
	awk -v s="$(metric pgbranchfs_wake_duration_seconds_sum)" 'BEGIN { exit !(s > 0.001 && s < 60) }'
is "it runs" "$(metric pgbranchfs_branches 'state="running"')" 1
echo stopped >"$MNT/a/state"
echo running >"$MNT/a/state"
settles "find -newer sees the activity" a_moved_on
is "only there" "$(find "$MNT" -mindepth 1 -maxdepth 1 -type d -newer "$TMP/before" \
	! -name b -printf '%f\n')" a
nok "nobody sets a branch's time" touch -d 2020-01-01 "$MNT/a" 2>/dev/null
settles "a start by hand is a wake" shows 2 metric pgbranchfs_wakes_total
pid=$(sed -n 's/^pid //p' "$MNT/a/status")
kill -KILL "$pid"
settles "a crash is counted" shows 1 metric pgbranchfs_server_crashes_total
settles "as a state" shows 1 metric pgbranchfs_branches 'state="failed"'
echo 9.0 >"$MNT/b/data/PG_VERSION"
nok "a branch that cannot start" sql b "select 1" 2>/dev/null
settles "a failed start is counted" shows 1 metric pgbranchfs_failed_starts_total
is "as a wake that did not get ready" "$(metric pgbranchfs_wakes_total) \
$(metric pgbranchfs_wake_duration_seconds_count)" "3 2"
printf '[branch]\nidle_timeout = 1\n' >"$STORE/pgbranchfs.conf"
kill -HUP "$(daemon_pid)"
ok "mkdir" mkdir "$MNT/d"
is "a query wakes" "$(sql d "select 1")" 1
settles "an idle stop is counted" shows 1 metric pgbranchfs_idle_stops_total
settles "and it is stopped" reads "$MNT/d/state" stopped
ok ".metrics still keeps the rules" lint
unmount_store
done_testing
