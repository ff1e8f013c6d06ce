#!/bin/bash
# What the kernel holds of the mount means the same to another daemon: handles that it
# never gave, offsets in directories, node numbers (these in tests/pg/restart.sh).  A build
# with fault points loses its table of open files in front of each request, as if the
# daemon had taken the mount over just then; without them only the rest is tried.
# shellcheck disable=SC2016,SC2094,SC2119,SC2317 # perl's $; several handles of one file;
# functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool perl

fsx=$top_builddir/tests/mount/fsx
[ -x "$fsx" ] || die "fsx is not built"
PGBRANCHFS_FAULT_FILE=$TMP/fault
export PGBRANCHFS_FAULT_FILE

# Each request of an open file finds that it is not known, until known_again.
unknown() {
	rm -f "$TMP/fault.hit"
	echo 'handle.known EBADF' >"$TMP/fault"
}

known_again() {
	rm -f "$TMP/fault"
}

was_hit() {
	[ -s "$TMP/fault.hit" ]
}

# open_handles: how many opens the daemon knows of.
open_handles() {
	sed -n 's/^pgbranchfs_open_handles{.*} //p' "$MNT/.metrics"
}

mount_store
printf '[branch]\nidle_timeout = 0\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
kill -HUP "$(daemon_pid)"

# --- offsets in directories: the same after a remount, whoever came and went

offsets() {
	perl -e '
		opendir(my $d, $ARGV[0]) or die;
		while (defined(my $name = readdir $d)) { print "$name ", telldir($d), "\n" }
		' "$1" | sort
}

mkdir "$MNT/b" "$MNT/b/data/many"
(cd "$MNT/b/data/many" && touch $(seq 1000))
for dir in b/data/many b/data; do
	offsets "$MNT/$dir" >"$TMP/offsets.${dir//\//-}"
done
offsets "$MNT" >"$TMP/offsets.root"
unmount_store
mount_only
(cd "$MNT/b/data/many" && rm $(seq 3 3 1000) && touch $(seq 2001 2300))
mkdir "$MNT/a" "$MNT/z"
# same_offsets A B: of the names that both have
same_offsets() {
	local names

	names=$(join <(cut -d' ' -f1 "$1") <(cut -d' ' -f1 "$2"))
	[ -n "$names" ] && diff <(join "$1" - <<<"$names") <(join "$2" - <<<"$names")
}
for dir in b/data/many b/data; do
	offsets "$MNT/$dir" >"$TMP/offsets.now"
	ok "offsets in $dir" same_offsets "$TMP/offsets.${dir//\//-}" "$TMP/offsets.now"
done
offsets "$MNT" >"$TMP/offsets.now"
ok "offsets in the root" same_offsets "$TMP/offsets.root" "$TMP/offsets.now"
rmdir "$MNT/a" "$MNT/z"

unknown
exec 3<"$MNT/README"
read -r _ <&3
exec 3<&-
if ! was_hit; then
	say '# no fault points in this build: handles are not lost'
	done_testing
fi
known_again

# --- plain files: opened before, used after; written by several at once

data=$MNT/b/data
printf 'before\n' >"$data/plain"
exec 3<>"$data/plain" 4<"$data/plain"
is 'read before' "$(head -n 1 <&4)" before
unknown
ok 'written through a handle that is not known' eval "printf 'after!\n' >&3"
ok 'made durable' perl -MIO::Handle -e 'open(my $f, "<&=", 3) or die; $f->sync or die "$!"'
known_again
ok 'was met' was_hit
is 'it is there' "$(cat "$data/plain")" 'after!'
exec 3<&- 4<&-
unknown
ok 'random I/O, the file system is branched from' "$fsx" -n "${PGBRANCHFS_OPS:-3000}" -s 1 \
	-e 500 -b "$MNT" "$data/many"
known_again
ok 'was met' was_hit
sums=$(cat "$data/many"/* | cksum)

# --- files that say or ask something

exec 3<"$MNT/b/status" 4>"$MNT/b/state" 5<"$MNT/.error" 6<"$MNT/b/log"
mkdir "$MNT/nope@nowhere" 2>/dev/null
unknown
like 'status' "$(cat <&3)" '^name b'
ok 'state' eval 'echo running >&4'
is 'does what it says' "$(cat "$MNT/b/state")" running
like '.error' "$(cat <&5)" 'nowhere'
like 'log' "$(cat <&6)" 'ready to accept connections'
known_again
exec 3<&- 4>&- 5<&- 6<&-

# --- a server that has its files open

sql b 'create table t (id int primary key, n int)'
sql b 'insert into t select g, 0 from generate_series(1, 20000) g'
unknown
for i in 1 2 3 4 5; do
	sql b "update t set n = n + 1 where id % 5 = $i % 5; checkpoint" || fail "update $i"
done
is 'the server reads' "$(sql b 'set enable_indexscan = off; select count(*), sum(n) from t')" \
	'20000|20000'
known_again
ok 'was met' was_hit
ok 'stopped' eval "echo stopped >'$MNT/b/state'"
ok 'started' eval "echo running >'$MNT/b/state'"
is 'all is there' "$(sql b 'select count(*), sum(n) from t')" '20000|20000'
nok 'nothing was recovered' grep -qE 'PANIC|was not properly shut down' \
	<(tail -n 8 "$MNT/b/log")

# --- nothing is held on to: a branch that goes gives its space back

exec 3<"$data/plain" 4<"$data/many/1"
unknown
head -c 3 <&3 >/dev/null
head -c 3 <&4 >/dev/null
known_again
exec 3<&- 4<&-
layers() {
	find "$STORE/layers" -mindepth 1 -maxdepth 1 | wc -l
}
for dir in "$MNT"/*/; do
	dir=$(basename "$dir")
	[ "$dir" = main ] || [ "$dir" = b ] || rmdir "$MNT/$dir"
done
unmount_store
mount_only
is 'the bytes are those of before' "$(cat "$data/many"/* | cksum)" "$sums"
exec 3<"$data/plain"
unknown
head -c 3 <&3 >/dev/null
known_again
exec 3<&-
before=$(layers)
rmdir "$MNT/b"
gone() {
	[ "$(layers)" -lt "$before" ]
}
settles 'its layers are gone' gone
is 'nothing is open' "$(open_handles)" 0
unmount_store
done_testing
