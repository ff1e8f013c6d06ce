#!/bin/bash
# What a branch that nobody uses costs: no process, no descriptor, nothing loaded, and what
# memory is left.  PGBRANCHFS_ASLEEP branches (12) are woken one after the other; with 200 or
# more the memory is judged, too.
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

count=${PGBRANCHFS_ASLEEP:-12}
# what may stay of a branch that was woken once, in KiB of the daemon's memory
bound=8
judge=$((count >= 200))

new_store
printf '[branch]\nidle_timeout = 2s\nreserve = 0\n' >"$STORE/pgbranchfs.conf"
mount_only
pid=$(daemon_pid)

open_files() {
	find "/proc/$pid/fd" -mindepth 1 | wc -l
}

open_in_store() {
	find "/proc/$pid/fd" \( -lname "$STORE/layers/*" -o -lname "$STORE/run/*" \
		-o -lname "$MNT*" -o -lname 'socket:*' \) | wc -l
}

anon_kib() {
	awk '/^Anonymous:/ { print $2 }' "/proc/$pid/smaps_rollup"
}

# a_branch KIB KIB COUNT: by how much a branch made it grow
a_branch() {
	awk -v a="$1" -v b="$2" -v n="$3" 'BEGIN { printf "%.1f", (b - a) / n }'
}

loaded() {
	cat "$MNT"/*/status | grep -c '^loaded 1$'
}

is_loaded() {
	grep -qx 'loaded 1' "$MNT/$1/status"
}

not_loaded() {
	grep -qx 'loaded 0' "$MNT/$1/status"
}

all_at_rest() {
	[ "$(loaded)" = 0 ] && [ "$(open_in_store)" = 0 ]
}

# --- made and looked at

base_files=$(open_files)
base_kib=$(anon_kib)
for ((i = 1; i <= count; i++)); do
	mkdir "$MNT/b$i" || die "mkdir b$i"
done
pass "made $count branches"
made_kib=$(anon_kib)
look() {
	ls -l "$MNT" && stat "$MNT"/b* && find "$MNT" -maxdepth 1 &&
		cat "$MNT"/*/status "$MNT"/*/status.json "$MNT/.tree" "$MNT/.metrics" &&
		"$PGBRANCHFS" list "$MNT"
}
ok 'looking at all of them' eval 'look >/dev/null'
is 'loads none' "$(loaded)" 0

# --- woken, and stopped by hand or because nobody uses them

# wake_all FROM TO
wake_all() {
	local i

	for ((i = $1; i <= $2; i++)); do
		[ "$(sql "b$i" 'create table t as select g from generate_series(1, 1000) g;
			select count(*) from t')" = 1000 ] || die "b$i was not served"
		# the others stop by themselves, one while the next are woken
		if ((i % 2)); then
			echo stopped >"$MNT/b$i/state" || die "b$i does not stop"
		fi
	done
}

half=$((count / 2))
wake_all 1 "$half"
ok 'a branch that runs is loaded' is_loaded "b$half"
half_kib=$(anon_kib)
if [ "$judge" = 1 ]; then
	# the first ones bring along what is there once, as every thread's buffers
	settles "$half branches are stopped and out of memory" all_at_rest
	half_kib=$(anon_kib)
fi

# meanwhile: what is in use stays as it is
cd "$MNT/b1/data/base" || die 'cd into data'
own_dir=$(stat -c %i .)
exec 9<"$MNT/b3/data/PG_VERSION"
wake_all $((half + 1)) "$count"
table=$(sql "b$count" "select pg_relation_filepath('t')")
table=$MNT/b$count/data/$table
if command -v fincore >/dev/null; then
	pages() {
		fincore -brno RES "$table"
	}
	has_pages() {
		[ "$(pages)" != 0 ]
	}
	ok 'the kernel caches a table that is used' has_pages
fi
settles 'a branch in which somebody only is goes all the same' not_loaded b1
is 'whoever is in it knows where' "$(env pwd -P)" "$(readlink -f "$MNT")/b1/data/base"
is 'and it is the same place' "$(stat -c %i .)" "$own_dir"
ok 'with the same files' test -d 1
cd "$TMP" || exit 1
ok 'a branch with an open file stays' is_loaded b3
is 'which can be read' "$(cat <&9)" "$(cat "$MNT/main/data/PG_VERSION")"
exec 9<&-
settles "all $count branches are stopped and out of memory" all_at_rest
is 'no server is left' "$(servers_here)" ''
is 'no descriptor is left' "$(open_files)" "$base_files"
end_kib=$(anon_kib)
if command -v fincore >/dev/null; then
	is 'nor a page of the table in the cache of the kernel' "$(pages)" 0
fi

# --- and back

is 'a branch that was stopped by itself wakes' "$(sql b2 'select count(*) from t')" 1000
ok 'one stopped by hand too' eval "echo running >'$MNT/b1/state'"
is 'with what it had' "$(sql b1 'select sum(g) from t')" 500500

say "memory of the daemon in KiB: $base_kib before, $made_kib with $count branches," \
	"$half_kib when half of them had been woken, $end_kib when all had"
if [ "$judge" = 1 ]; then
	never=$(a_branch "$base_kib" "$made_kib" "$count")
	woken=$(a_branch "$half_kib" "$end_kib" "$((count - half))")
	say "a branch: $never KiB never woken, $woken KiB more woken and asleep again"
	for kib in "$never" "$woken"; do
		ok "no more than $bound KiB" awk -v n="$kib" -v max="$bound" \
			'BEGIN { exit n > max }'
	done
fi
unmount_store
done_testing
