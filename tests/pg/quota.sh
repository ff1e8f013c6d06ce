#!/bin/bash
# How many branches a uid may have and how much they may hold: in data, by a server that
# goes on, and by a storm of mkdirs.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool setpriv fallocate
for user in games man; do
	id "$user" >/dev/null 2>&1 || skip "there is no user $user"
done

as() { # USER COMMAND...
	local user=$1

	shift
	if [[ $user =~ ^[0-9]+$ ]]; then
		setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
	else
		setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
	fi
}
q() { # USER BRANCH QUERY
	as "$1" env PGCONNECT_TIMEOUT="$DEADLINE" timeout $((DEADLINE * 2)) psql -X -q -A -t \
		-v ON_ERROR_STOP=1 -h "$MNT/$2" -U postgres -d postgres -c "$3" 2>&1
}
new_store
cat >"$STORE/pgbranchfs.conf" <<CONF
[settings]
shared_buffers = 4MB
autovacuum = off
[policy limited]
match = user:games, uid:4002
create = yes
max_branches = 5
max_bytes = 100M
[policy free]
match = user:man
create = yes
CONF
mount_only
write() { # USER BRANCH FILE MIB
	as "$1" dd if=/dev/zero "of=$MNT/$2/data/$3" bs=1M count="$4" 2>&1
}
over='Disk quota exceeded'

# --- how many

made() {
	find "$MNT" -maxdepth 1 -name 's*' -type d | wc -l
}
for i in 1 2 3 4 5 6 7 8; do
	(for n in 1 2 3; do as 4002 mkdir "$MNT/s$i-$n" 2>/dev/null; done) &
	watch_pid $!
done
wait
ok "8 processes make no more than allowed" test "$(made)" -le 5
ok "and some" test "$(made)" -ge 1
n=0
while as 4002 mkdir "$MNT/s-$((n += 1))" 2>/dev/null; do :; done
is "the last one is the fifth" "$(made)" 5
like "then it is said why" "$(as 4002 mkdir "$MNT/s" 2>&1)" "$over"
like "in words" "$(as 4002 cat "$MNT/.error")" "has 5 branches, as many as policy 'limited' allows"
ok "one less" as 4002 rmdir "$(find "$MNT" -maxdepth 1 -name 's*' -type d | head -n 1)"
ok "gives room for one" as 4002 mkdir "$MNT/s"
as 4002 find "$MNT" -maxdepth 1 -name 's*' -type d -exec rmdir {} +

# --- how much: files

ok "branches" as games mkdir "$MNT/a" "$MNT/b"
ok "of somebody without a limit" as man mkdir "$MNT/m"
size() {
	df -B1M --output="$2" "$MNT/$1/data" | tail -n 1 | tr -d ' '
}
has_quota() {
	[ "$(size a size)" = 100 ]
}
settles "df shows it" has_quota
ok "and in another branch the store" test "$(size m size)" -gt 200
ok "30 MiB are fine" write games a one 30
shows_used() {
	[ "$(size b avail)" -le 71 ] && [ "$(size b avail)" -ge 50 ]
}
settles "all branches of the uid show it, within a second" shows_used
like "90 more are not" "$(write games a two 90)" "$over"
ok "nor did much more arrive" test "$(du -sm "$MNT/a/data/two" | cut -f1)" -le 75
other_knows() {
	[ "$(size b avail)" -le 8 ]
}
settles "the other branch knows" other_knows
like "nor there" "$(write games b three 60)" "$over"
like "nor by fallocate" "$(as games fallocate -l 60M "$MNT/b/data/four" 2>&1)" "$over"
like "nor at the end of a file" "$(as games sh -c "head -c 60M /dev/zero >>'$MNT/a/data/one'" 2>&1)" "$over"
ok "a small file may be" as games sh -c "echo x >'$MNT/a/data/small'"
ok "somebody else does not notice" write man m one 150
ok "branching frees nothing" as games mkdir "$MNT/c@a"
like "as one sees" "$(write games c five 60)" "$over"
ok "removing does" as games rm "$MNT/a/data/two" "$MNT/a/data/one"
ok "but not while a branch stands on it" as games rmdir "$MNT/c"
# what was written before the branch is in a layer that only its owner stands on
freed() {
	write games b three 60 >/dev/null
}
ok "and with the branch" as games rmdir "$MNT/a"
settles "there is room again" freed
ok "all goes" as games rmdir "$MNT/b"

# --- how much: a server

ok "a branch" as games mkdir "$MNT/p"
# what cleaning up takes, as a table is written anew for it
ok "something to remove later" write games p ballast 8
ok "its server" q games p "create table t as select generate_series(1, 1000) i; checkpoint"
pid=$(sed -n 's/^pid //p' "$MNT/p/status")
fill() {
	q games p "insert into t select generate_series(1, 8000000)"
}
like "a statement that is too much" "$(fill)" "could not extend file.*$over"
is "is taken back" "$(q games p 'select count(*) from t')" 1000
is "the server goes on" "$(sed -n 's/^pid //p' "$MNT/p/status")" "$pid"
is "somebody else's writes" "$(q man m 'create table t as select generate_series(1, 500000) i;
	select count(*) from t')" 500000
ok "it gives up something else" as games rm "$MNT/p/data/ballast"
ok "its WAL is cleaned up" q games p "checkpoint"
cleaned_up() {
	q games p "vacuum full t" >/dev/null
}
settles "so is the table" cleaned_up
ok "and the WAL of that" q games p "checkpoint"
works() {
	q games p "insert into t select generate_series(1, 100000)" >/dev/null
}
settles "and has room" works
ok "stops" as games sh -c "echo stopped >'$MNT/p/state'"
ok "and starts" as games sh -c "echo running >'$MNT/p/state'"
is "all is there" "$(q games p 'select count(*) from t')" 101000
unmount_store
mount_only
settles "df after a remount" eval "[ \"\$(df -B1M --output=size '$MNT/p' | tail -n 1 | tr -d ' ')\" = 100 ]"
done_testing
