# shellcheck shell=bash
# pointlib.sh - a workload for a daemon that is killed in it at a certain point, and
# the check that what was promised before is there after the next mount, and no more than
# that: branches are made, renamed and discarded, and files are written.
# shellcheck disable=SC2119,SC2317 # optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres # for init
. "$(dirname "$0")/crashlib.sh"
seed

cycle=0

# Does the daemon's figure $1 count something, or has it ended?
has_counted() {
	[ -z "$(daemons_here)" ] || grep -q "^$1.* [1-9]" "$MNT/.metrics" 2>/dev/null
}

# Layers that nothing has a name for come into main's chain, and are merged.
squash_some() {
	local i

	rmdir "$MNT/passing" 2>/dev/null # a kill may have left it
	for ((i = 0; i < 3; i++)); do
		{ date >"$MNT/main/data/squash.$i" && mkdir "$MNT/passing@main" &&
			rmdir "$MNT/passing" && rmdir "$MNT/.trash/passing@"*; } 2>/dev/null ||
			return 1
	done
	wait_until "$DEADLINE" has_counted pgbranchfs_layers_merged_total
}

# A branch that nobody uses, on layers that can be compressed; what it holds is noted.
chill_some() {
	local name=chilly.$cycle

	rmdir "$MNT/warm" 2>/dev/null # a kill may have left it
	{ mkdir "$MNT/$name@main" && yes "$name" | head -c 1000000 >"$TMP/$name" &&
		cp "$TMP/$name" "$MNT/$name/data/pages" && sync -f "$MNT/$name/data/pages" &&
		mkdir "$MNT/warm@$name" && echo "$name" >>"$NOTES/chilly"; } 2>/dev/null || return 1
	wait_until "$DEADLINE" has_counted pgbranchfs_cold_files_total || return 1
	cmp -s "$TMP/$name" "$MNT/$name/data/pages" || [ -z "$(daemons_here)" ]
}

# After a crash: what was compressed, or was about to be, reads as before; it goes.
check_chilly() {
	local name

	[ -e "$NOTES/chilly" ] || return 0
	rmdir "$MNT/warm" 2>/dev/null
	while read -r name; do
		cmp "$TMP/$name" "$MNT/$name/data/pages" || fail "$name is not what it was"
		rmdir "$MNT/$name" || fail "rmdir $name"
	done <"$NOTES/chilly"
	rm "$NOTES/chilly"
}

# What was sent before the first crash becomes a branch.
receive_one() {
	local name=got.$cycle

	"$PGBRANCHFS" receive --name "$name" "$STORE" <"$TMP/stream" >/dev/null 2>&1 || return 1
	echo "$name" >>"$NOTES/received"
}

# After a crash: it is there, or nothing of it is.
check_received() {
	local name

	while read -r name; do
		cmp -s "$MNT/main/data/PG_VERSION" "$MNT/$name/data/PG_VERSION" ||
			fail "branch $name that was received is lost"
	done < <(cat "$NOTES/received" 2>/dev/null)
	rm -f "$NOTES/received"
	for name in "$MNT"/got.*; do
		[ ! -d "$name" ] || rmdir "$name" || fail "rmdir of $name"
	done
	! compgen -G "$STORE/receive.*" >/dev/null || fail 'a receive left its directory'
}

# part COMMAND...: fails only because the daemon is gone.
part() {
	"$@" && return 0
	[ -z "$(daemons_here)" ] || fail "$1 failed, and the daemon lives"
	return 1
}

# workload: until it is over or the daemon is gone.
workload() {
	local i

	part squash_some || return 0
	part chill_some || return 0
	part receive_one || return 0
	roll_each || return 0
	ledger_start main "$cycle" $((SEED + cycle)) 800
	for ((i = 0; i < 6; i++)); do
		churn_one || return 0
		snap "s$i" main "$cycle" || return 0
		if [ "$i" = 2 ]; then
			# a branch of a branch, and one that is written
			# shellcheck disable=SC2046 # two numbers
			snap s9 s2 "$cycle" \
				$(sed -n 's/^made s2 [^ ]* //p' "$NOTES/snaps") || return 0
			ledger_start s9 "$cycle.9" $((SEED + cycle)) 300
		fi
		churn_one || return 0
	done
	load_wait
}

# After a crash: everything that was promised.
check_all() {
	must_mount
	check_churn
	check_chilly
	check_received
	check_ledger main "$cycle"
	[ ! -e "$NOTES/ledger.$cycle.9" ] || ! grep -q '^made s9' "$NOTES/snaps" ||
		check_ledger s9 "$cycle.9"
	check_snaps
	check_store
	rm -rf "$MNT/main/data/ledger.$cycle" "$NOTES"/ledger.*
	timeout 120 "$PGBRANCHFS" umount "$MNT" || die "umount after a crash"
}

after_workload() { # WHAT
	local was=$test_failed

	if [ -z "$(daemons_here)" ]; then
		count killed_there
	else
		count not_reached
		say "# not reached: $1"
	fi
	kill_all
	load_end
	check_all
	cycle=$((cycle + 1))
	count cycles
	[ "$test_failed" = "$was" ] || say "# that was $1, cycle $((cycle - 1))"
}

new_store
crash_conf
# rmdir is a step of two then, and some come back
sed -i 's/^reserve = 0$/&\ntrash = 1h\ncold_after = 1s/; s/^idle_timeout = 0$/idle_timeout = 1s/' "$STORE/pgbranchfs.conf"
test_mounts+=("$MNT")
must_mount
"$PGBRANCHFS" send main "$MNT" >"$TMP/stream" || die send
timeout 120 "$PGBRANCHFS" umount "$MNT" || die 'umount'

end_of_points() {
	is "no promise was broken in $cycle crashes" "$test_failed" 0
	print_figures
	done_testing
}
