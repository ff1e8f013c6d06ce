#!/bin/bash
# 1, 10 and 100 clients connect at once to a sleeping branch: one start, all are served.
#
# CROWD_ROUNDS: how often each (default 3).
# shellcheck disable=SC2317 # functions are called through ok and settles
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

rounds=${CROWD_ROUNDS:-3}
crowd=$top_builddir/tests/pg/crowd
socket=$MNT/b/.s.PGSQL.5432

new_store
# the server's own 100 connections are all for the clients
printf '[branch]\nidle_timeout = 0\n' >"$STORE/pgbranchfs.conf"
# in the foreground: its log says where the time of a start went
mkdir "$MNT"
test_mounts+=("$MNT")
"$PGBRANCHFS" mount -f "$STORE" "$MNT" 2>"$TMP/daemon.log" &
settles 'mount' is_mounted "$MNT"
ok 'mkdir b' mkdir "$MNT/b"
is 'it can be started' "$(sql b 'select 1')" 1

# status KEY: without a process, as there are many rounds
status() {
	local key value

	while read -r key value; do
		if [ "$key" = "$1" ]; then
			echo "$value"
			return
		fi
	done <"$MNT/b/status"
}

# As a server that its administrator stops: the daemon only sees it end.
to_sleep() {
	kill -INT "$(status pid)" && wait_until "$DEADLINE" reads "$MNT/b/state" stopped
}

# crowds N: prints how many rounds went wrong; notes the times
crowds() {
	local wrong=0 before said i

	for i in $(seq "$rounds"); do
		to_sleep || return
		before=$(status wakes)
		said=$("$crowd" query "$socket" "$1" 2>&1)
		echo "$said" >>"$TMP/said.$1"
		if [[ $said != "served $1 refused 0 closed 0 lost 0 "* ]] ||
			[ "$(status wakes)" != $((before + 1)) ]; then
			wrong=$((wrong + 1))
			echo "round $i: $said, $(status wakes) wakes after $before" >&2
		fi
	done
	echo "$wrong"
}

for n in 1 10 100; do
	is "$rounds times $n clients at once: one start, all served" "$(crowds $n)" 0
	say "# ms to the first and the last row, medians: $(
		for field in 12 13; do
			cut -d ' ' -f "$field" "$TMP/said.$n" | sort -n |
				awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
		done | tr '\n' ' ')"
done

# --- what we add to a start: until exec, from "ready" to a client's connection

median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
sed -nE 's/.*its start took ([0-9.]+) ms, ([0-9.]+) until exec, .* ready, ([0-9.]+) until .* in, ([0-9.]+) until the first was connected$/\1 \2 \3 \4/p' \
	"$TMP/daemon.log" >"$TMP/starts"
whole=$(cut -d ' ' -f 1 "$TMP/starts" | median)
own=$(awk '{ print $2 + $3 + $4 }' "$TMP/starts" | median)
say "# of a start, ms, medians: $whole, of which $own are ours"
ok 'the log says it of each start' awk "BEGIN { exit !($own > 0 && $whole > $own) }"

# --- while it runs, later clients speak to the server itself

is 'clients of a running branch are connected to its server' \
	"$("$crowd" -p "$(status pid)" query "$socket" 10 | cut -d ' ' -f 1-10)" \
	'served 10 refused 0 closed 0 lost 0 direct 10'
done_testing
