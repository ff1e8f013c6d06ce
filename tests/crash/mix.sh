#!/bin/bash
# Many clients do at random whatever can be done with branches, on few names, so that
# they are in each other's way.  Much of it is refused; nothing may hang, and nothing may
# be out of order afterwards: each branch answers, doctor finds nothing, no layer is left.
#
# TORTURE_SECONDS: for how long (default 5).
# shellcheck disable=SC2119,SC2317 # optional arguments; called through others
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
. "$(dirname "$0")/crashlib.sh"
seed

CLIENTS=8
LIMIT=60 # seconds that no operation may take
FOR=${TORTURE_SECONDS:-5}

one_of() { # WORD...
	shift $((RANDOM % $#))
	echo "$1"
}

# in_trash: the path of one that was discarded, or of none.
in_trash() {
	local there

	for there in "$MNT"/.trash/n*; do
		[ $((RANDOM % 3)) != 0 ] || break
	done
	echo "$there"
}

# put TEXT FILE
put() {
	echo "$1" >"$2"
}

one_operation() {
	local a=n$((RANDOM % 8)) b=n$((RANDOM % 8)) c=k$((RANDOM % 3))

	case $((RANDOM % 20)) in
	0 | 1 | 2) act mkdir "$MNT/$a@$(one_of main "$b")" ;;
	3) act mkdir "$MNT/$a@$b:$c" ;;
	4 | 5) act rmdir "$MNT/$a" ;;
	6) act mv -T "$MNT/$a" "$MNT/$b" ;;
	7) act mkdir "$MNT/$a/checkpoints/$c" ;;
	8) act rmdir "$MNT/$a/checkpoints/$c" ;;
	9) act mv -T "$MNT/$a/checkpoints/$c" "$MNT/$a/checkpoints/k$((RANDOM % 3))" ;;
	10) act put "$c" "$MNT/$a/rollback" ;;
	11) act put parent "$MNT/$a/reset" ;;
	12) act chmod "$(one_of 700 750 711)" "$MNT/$a" ;;
	13) act put "$(one_of running stopped)" "$MNT/$a/state" ;;
	14 | 15) act sql "$a" "insert into numbers select $RANDOM" ;;
	16) act rmdir "$(in_trash)" ;;
	17) act mv -T "$(in_trash)" "$MNT/$a" ;;
	18) act cat "$MNT/$a/status.json" "$MNT/.metrics" ;;
	19) act put "$(one_of 1h never)" "$MNT/$a/expires" ;;
	esac
}

# act COMMAND...: refused or not, it is to end.
act() {
	local began=$SECONDS rc=0

	echo "$*" >"$NOTES/mix.$client.now"
	"$@" >/dev/null 2>"$NOTES/mix.$client.err" || rc=$?
	echo "$rc $*" >>"$NOTES/mix.$client"
	[ $((SECONDS - began)) -lt "$LIMIT" ] || echo "$*" >>"$NOTES/mix.slow"
}

client() { # NUMBER
	client=$1
	RANDOM=$(((SEED + $1) % 32768))
	while [ "$SECONDS" -lt "$end" ]; do
		one_operation
	done
}

clients_ended() {
	local pid

	for pid in "${load_pids[@]}"; do
		! kill -0 "$pid" 2>/dev/null || return 1
	done
}

new_store
crash_conf
mount_only
sql main 'create table numbers (i int)'

end=$((SECONDS + FOR))
for i in $(seq "$CLIENTS"); do
	client "$i" &
	load_pids+=($!)
	watch_pid $!
done
if ! wait_until $((FOR + LIMIT + DEADLINE)) clients_ended >/dev/null; then
	tail -n 1 "$NOTES"/mix.*.now
	die 'an operation hangs'
fi
load_wait
ok 'none took a minute' [ ! -e "$NOTES/mix.slow" ]
cat "$NOTES"/mix.[0-9] >"$NOTES/mix.all"
count operations "$(wc -l <"$NOTES/mix.all")"
count operations_done "$(grep -c '^0 ' "$NOTES/mix.all")"
for what in mkdir rmdir sql; do
	ok "some $what was done" grep -q "^0 $what " "$NOTES/mix.all"
done
say "# done: $(sed -n 's/^0 \([^ ]*\).*/\1/p' "$NOTES/mix.all" | sort | uniq -c | tr -s ' \n' ' ')"

for branch in "$MNT"/*/; do
	branch=$(basename "$branch")
	put running "$MNT/$branch/state"
	like "$branch answers" "$(sql "$branch" 'select count(*) from numbers')" '^[0-9]+$'
done
ok 'doctor finds nothing' "$PGBRANCHFS" doctor "$MNT"
for there in "$MNT"/n*/; do
	[ ! -d "$there" ] || ok "rmdir $(basename "$there")" rmdir "$there"
done
for there in "$MNT"/.trash/n*/; do
	[ ! -d "$there" ] || ok "rmdir $(basename "$there")" rmdir "$there"
done
check_store
ok 'umount' "$PGBRANCHFS" umount "$MNT"
must_mount
is 'main alone is there' "$(cd "$MNT" && echo */)" main/
print_figures
done_testing
