# shellcheck shell=bash disable=SC2119,SC2120 # arguments are optional
# crashlib.sh - for tests that kill things; sourced after testlib.sh.
#
# A store under load is a set of ledgers (plain files, see ledger.c) and banks (a
# database, see bank.c), each in a branch.  What was promised of branches themselves is
# noted by churn: names that must be there, names that must not, the one in between.

# shellcheck disable=SC2034 # for the tests
LEDGER=$top_builddir/tests/crash/ledger
BANK=$top_builddir/tests/crash/bank
NOTES=$TMP/notes
mkdir -m 777 "$NOTES"

# Figures for the summary of scripts/torture, printed as "# figure NAME N".
declare -A figures=()

count() {
	figures[$1]=$((${figures[$1]:-0} + ${2:-1}))
}

# count_merged: how many layers this daemon has merged so far.
count_merged() {
	local n

	n=$(sed -n 's/^pgbranchfs_layers_merged_total.* //p' "$MNT/.metrics" 2>/dev/null)
	count merged_layers "${n:-0}"
}

print_figures() {
	local name

	for name in "${!figures[@]}"; do
		say "# figure $name ${figures[$name]}"
	done
}

# cycles SHORT: how many this run is to do.
cycles() {
	echo "${TORTURE_CYCLES:-$1}"
}

# A seed that a failed run can be repeated with: TORTURE_SEED.
seed() {
	SEED=${TORTURE_SEED:-$((RANDOM * 32768 + RANDOM))}
	RANDOM=$((SEED % 32768))
	say "# seed $SEED"
}

now_ms() {
	echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# crash_conf [LINE...]: $STORE's settings, quick servers.
crash_conf() {
	{
		printf '[branch]\nidle_timeout = 0\nreserve = 0\nsquash = 2\n'
		printf '[settings]\nshared_buffers = 16MB\nmax_wal_size = 64MB\n'
		printf 'checkpoint_timeout = 30s\nmax_connections = 40\n'
		printf '%s\n' "$@"
	} >"$STORE/pgbranchfs.conf"
}

# --- the daemon, mounted in a way that lets its environment be chosen

# mount_env [NAME=VALUE...]: as mount_only, without the checks' noise; 0 if it came up.
mount_env() {
	mkdir -p "$MNT" 2>/dev/null # a dead mount may be there
	[[ " ${test_mounts[*]} " == *" $MNT "* ]] || test_mounts+=("$MNT")
	env "$@" timeout 120 "$PGBRANCHFS" mount "$STORE" "$MNT" >"$TMP/mount.out" 2>&1
}

must_mount() {
	mount_env "$@" || {
		cat "$TMP/mount.out"
		die "the mount failed after a crash"
	}
}

# take_off: removes a dead mount.
take_off() {
	umount -l "$MNT" 2>/dev/null || fusermount3 -u -z "$MNT" 2>/dev/null || true
}

# kill_all: the daemon and its servers at once, as the machine would lose them.
kill_all() {
	wait_until "$DEADLINE" all_are_killed >/dev/null || die "a process lives on"
	take_off
}

# Kills whoever is there; true when nobody was.  Servers make new ones meanwhile.
all_are_killed() {
	local pids

	# the daemon first, or it would see its servers die
	mapfile -t pids < <(daemons_here; servers_here)
	[ ${#pids[@]} != 0 ] || return 0
	kill -KILL "${pids[@]}" 2>/dev/null
	return 1
}

# --- load

load_pids=()

# ledger_start BRANCH NAME SEED OPS: in BRANCH/data/ledger.NAME.
ledger_start() {
	"$LEDGER" run "$MNT/$1/data/ledger.$2" "$NOTES/ledger.$2" "$3" "$4" \
		2>>"$NOTES/ledger.err" &
	load_pids+=($!)
	watch_pid $!
}

# bank_init BRANCH NAME ACCOUNTS
bank_init() {
	mkdir -p "$NOTES/bank.$2"
	"$BANK" init "$(conninfo "$1")" "$3" || die "bank init in $1"
}

conninfo() {
	echo "host=$MNT/$1 user=postgres dbname=postgres connect_timeout=60"
}

# bank_start BRANCH NAME CLIENTS SECONDS [SETTINGS]
bank_start() {
	"$BANK" run "$(conninfo "$1")" "$3" "$4" "$NOTES/bank.$2" "${5:-}" \
		>"$NOTES/bank.$2.out" 2>&1 &
	load_pids+=($!)
	watch_pid $!
}

# load_end: waits for all of the load; it may have been killed.
load_end() {
	local pid

	for pid in "${load_pids[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	for pid in "${load_pids[@]}"; do
		wait "$pid" 2>/dev/null
	done
	load_pids=()
}

# load_wait: lets it come to its own end.
load_wait() {
	wait "${load_pids[@]}" 2>/dev/null
	load_pids=()
}

acks_of() {
	stat -c %s "$NOTES/bank.$1"/ack.* 2>/dev/null | awk '{ n += $1 } END { print n / 8 + 0 }'
}

# at_least NAME N: the bank NAME has N acknowledged transfers.
at_least() {
	[ "$(acks_of "$1")" -ge "$2" ]
}

# check_bank BRANCH NAME [MARK]: nothing acknowledged is lost, nothing wrong.
check_bank() {
	local out rc=0

	out=$("$BANK" check "$(conninfo "$1")" "$NOTES/bank.$2" ${3:+"$3"} 2>&1) || rc=$?
	if [ "$rc" = 0 ]; then
		count commits_checked "${out%% *}"
		return 0
	fi
	fail "bank $2 in branch $1: $out"
	return 1
}

# check_ledger BRANCH NAME [FROM TO]
check_ledger() {
	local out rc=0

	[ -e "$NOTES/ledger.$2" ] || return 0 # it never began
	out=$("$LEDGER" check "$MNT/$1/data/ledger.$2" "$NOTES/ledger.$2" "${@:3}" 2>&1) || rc=$?
	count ledgers_checked
	[ "$rc" = 0 ] && return 0
	fail "ledger $2 in branch $1 (${*:3})"
	printf '%s\n' "$out" | head -n 20
	return 1
}

ledger_size() {
	stat -c %s "$NOTES/ledger.$1" 2>/dev/null || echo 0
}

# --- branches that come and go

# churn_one: one mkdir, mv or rmdir at random among names c0..c9, noted.  A line
# "op a b" before, "+" after, as the ledgers do it.  1 when the mount is gone.
churn_one() {
	local a=c$((RANDOM % 10)) b=c$((RANDOM % 10)) op from

	if [ ! -d "$MNT/$a" ]; then
		[ -d "$MNT/main" ] || return 1
		op='mkdir'
		b=main
		[ $((RANDOM % 3)) != 0 ] || b=$(churn_living)
	elif [ $((RANDOM % 3)) = 0 ] && [ "$a" != "$b" ] && [ ! -d "$MNT/$b" ]; then
		op='mv'
	else
		op='rmdir'
	fi
	if [ "$op" = 'mkdir' ] && churn_from_trash; then
		op=back b=$a a=$from
	fi
	echo "$op $a $b" >>"$NOTES/churn"
	case $op in
	back) mv -T "$MNT/.trash/$a" "$MNT/$b" ;;
	mkdir) mkdir "$MNT/$a@$b" ;;
	mv) mv -T "$MNT/$a" "$MNT/$b" ;;
	rmdir) rmdir "$MNT/$a" ;;
	esac 2>"$NOTES/churn.err" || {
		# the mount went, and nobody knows; or it was refused
		grep -qE 'not connected|caused connection abort|No such device|Input/output' \
			"$NOTES/churn.err" && return 1
		echo '-' >>"$NOTES/churn"
		return 0
	}
	echo '+' >>"$NOTES/churn"
	count "${op}s"
	[ "$op" != 'rmdir' ] || churn_purge
}

# churn_purge: sometimes, removes one for good that was discarded.
churn_purge() {
	churn_from_trash || return 0
	rmdir "$MNT/.trash/$from" 2>"$NOTES/churn.err" || [ -d "$MNT/main" ] || return 1
	count purges
}

# churn_from_trash: sometimes, one that was discarded, in $from.
churn_from_trash() {
	local there

	[ $((RANDOM % 2)) = 0 ] || return 1
	for there in "$MNT"/.trash/c*; do
		[ -d "$there" ] || continue
		from=$(basename "$there")
		return 0
	done
	return 1
}

churn_living() {
	local name

	for name in "$MNT"/c[0-9]/; do
		[ -d "$name" ] || continue
		basename "$name"
		return
	done
	echo main
}

churn_until_gone() {
	while churn_one && roll_random; do :; done
}

# --- one branch that is written, rolled back and reset, with its checkpoints

# What its file holds, and each checkpoint, is noted in the same way.  r0 is a branch of
# main, in which there is no such file.

roll_number=0

# roll_one OP [A [B]]: 1 when the mount is gone.
roll_one() {
	local op=$1 a=${2:-} b=${3:-} r=$MNT/r0

	[ -d "$r" ] || mkdir "$r" 2>/dev/null || [ -d "$r" ] || return 1
	echo "$op $a $b" >>"$NOTES/roll"
	case $op in
	write)
		echo "$a" | dd of="$r/data/v.new" conv=fsync status=none &&
			mv -T "$r/data/v.new" "$r/data/v" && sync "$r/data"
		;;
	take) mkdir "$r/checkpoints/$a" ;;
	drop) rmdir "$r/checkpoints/$a" ;;
	mv) mv -T "$r/checkpoints/$a" "$r/checkpoints/$b" ;;
	roll) echo "$a" >"$r/rollback" ;;
	reset) echo parent >"$r/reset" ;;
	start) echo running >"$r/state" ;;
	esac 2>"$NOTES/roll.err" || {
		grep -qE 'not connected|caused connection abort|No such device|Input/output|Stale' \
			"$NOTES/roll.err" && return 1
		[ -d "$r" ] || return 1
		echo "- ($(tr '\n' ' ' <"$NOTES/roll.err"))" >>"$NOTES/roll"
		return 0
	}
	echo '+' >>"$NOTES/roll"
	count "roll_${op}s"
}

# roll_random: one of them; a refused one (no such checkpoint) changes nothing.
roll_random() {
	local k=k$((RANDOM % 4)) l=k$((RANDOM % 4))

	roll_number=$((roll_number + 1))
	case $((RANDOM % 9)) in
	0 | 1) roll_one write "$$.$roll_number" ;;
	2 | 3) roll_one take "$k" ;;
	4) roll_one drop "$k" ;;
	5) [ "$k" = "$l" ] || roll_one mv "$k" "$l" ;;
	6) roll_one roll "$k" ;;
	7) roll_one reset ;;
	8) roll_one start ;; # what comes then is done to a branch whose server runs
	esac
}

# roll_each: each of them once, as far as the mount lives.
roll_each() {
	# a kill may have left them
	roll_one drop e1 && roll_one drop e2 &&
		roll_one write "$$.each.$cycle" && roll_one take e1 &&
		roll_one write "$$.more.$cycle" &&
		roll_one roll e1 && roll_one mv e1 e2 && roll_one reset &&
		roll_one roll e2 && roll_one drop e2 && roll_gone
}

# roll_gone: a branch that was rolled back goes, and with it what that kept.
roll_gone() {
	# a kill may have left it, in whatever state
	rmdir "$MNT/rz" "$MNT"/.trash/rz@* "$MNT/.checkpoints/rz:x" 2>/dev/null
	{ mkdir "$MNT/rz" && mkdir "$MNT/rz/checkpoints/x" && date >"$MNT/rz/data/d" &&
		echo x >"$MNT/rz/rollback" && rmdir "$MNT/rz/checkpoints/x" &&
		rmdir "$MNT/rz" && rmdir "$MNT"/.trash/rz@*; } 2>/dev/null
}

# roll_expected: prints "value V" for what the file may hold, "must K V" and "may K V"
# for checkpoints.
roll_expected() {
	awk '
		function apply() {
			if (op == "write") v = a
			if (op == "take") c[a] = v
			if (op == "drop") delete c[a]
			if (op == "mv") { c[b] = c[a]; delete c[a] }
			if (op == "roll") v = c[a]
			if (op == "reset") v = "none"
		}
		BEGIN { v = "none" }
		$1 == "+" { apply(); op = ""; next }
		$1 == "-" { op = ""; next }
		{ op = $1; a = $2; b = $3 }
		END {
			print "value", v
			if (op == "write") print "value", a
			# without such a checkpoint it is about to be refused
			if (op == "roll" && (a in c)) print "value", c[a]
			if (op == "reset") print "value none"
			for (k in c) {
				if ((op == "drop" || op == "mv") && k == a) print "may", k, c[k]
				else print "must", k, c[k]
			}
			if (op == "mv" && (a in c)) print "may", b, c[a]
			if (op == "take") print "may", a, v
		}' "$NOTES/roll"
}

roll_value() { # BRANCH
	[ -e "$MNT/$1/data/v" ] || { [ -d "$MNT/$1/data" ] && echo none; return; }
	cat "$MNT/$1/data/v"
}

# What the checkpoint K of r0 holds.
roll_holds() {
	mkdir "$MNT/rk@r0:$1" && roll_value rk && rmdir "$MNT/rk"
}

# check_roll: r0 and its checkpoints are what was acknowledged.
check_roll() {
	local expected got k v ok=0

	[ -e "$NOTES/roll" ] || return 0
	[ ! -d "$MNT/rk" ] || rmdir "$MNT/rk"
	expected=$(roll_expected)
	got=$(roll_value r0)
	grep -qxF "value $got" <<<"$expected" || {
		fail "r0 holds '$got': $(tr '\n' ',' <<<"$expected") $(tail -n 2 "$NOTES/roll" | tr '\n' ' ')"
		ok=1
	}
	while read -r _ k v; do
		[ -d "$MNT/r0/checkpoints/$k" ] || {
			fail "checkpoint $k is lost: $(tail -n 24 "$NOTES/roll" | tr '\n' ' ')"
			ok=1
		}
	done < <(grep '^must' <<<"$expected")
	{
		echo "write $got"
		echo +
		for k in "$MNT"/r0/checkpoints/[ek][0-9]/; do
			[ -d "$k" ] || continue
			k=$(basename "$k")
			v=$(roll_holds "$k")
			grep -qxE "(must|may) $k $v" <<<"$expected" || {
				fail "checkpoint $k holds '$v': $(grep " $k " <<<"$expected")" >&2
				ok=1
			}
			# as if it had been taken now
			printf 'write %s\n+\ntake %s\n+\n' "$v" "$k"
			count checkpoints_checked
		done
		echo "write $got"
		echo +
	} >"$NOTES/roll.new"
	mv "$NOTES/roll.new" "$NOTES/roll"
	roll_safeties
	return "$ok"
}

# Those from before a rollback pile up; drops all but some.
roll_safeties() {
	local there n=0

	for there in "$MNT"/r0/checkpoints/before-*/; do
		[ -d "$there" ] || continue
		n=$((n + 1))
		[ "$n" -le 2 ] || rmdir "$there"
	done
}

# churn_expected: prints the names that must be there, then "?" and those that may.
churn_expected() {
	[ -e "$NOTES/churn" ] || { echo '?'; return; }
	awk '
		function apply(op, a, b) {
			if (op == "mkdir") here[a] = 1
			if (op == "rmdir") delete here[a]
			if (op == "mv") { delete here[a]; here[b] = 1 }
			if (op == "back") here[b] = 1
		}
		$1 == "+" { apply(op, a, b); op = ""; next }
		$1 == "-" { op = ""; next }
		{ op = $1; a = $2; b = $3 }
		END {
			if (op != "") { delete here[a]; if (op == "mv") delete here[b] }
			for (n in here) printf "%s ", n
			printf "?"
			if (op == "back") a = b
			if (op != "") printf " %s", a
			if (op == "mv") printf " %s", b
			print ""
		}' "$NOTES/churn"
}

# check_churn: the branches that are there are those that were acknowledged.
check_churn() {
	local line must may name there ok=0

	line=$(churn_expected)
	must=" ${line%%\?*} "
	may=" ${line#*\?} "
	for name in $must; do
		[ -d "$MNT/$name" ] || { fail "branch $name is lost ($(tail -n 3 "$NOTES/churn" | tr '\n' ' '))"; ok=1; }
	done
	for there in "$MNT"/c[0-9]/; do
		[ -d "$there" ] || continue
		name=$(basename "$there")
		case $must$may in
		*" $name "*) ;;
		*) fail "branch $name came back"; ok=1 ;;
		esac
	done
	# exactly one of the two names that a mv may have left
	if [ "$(wc -w <<<"$may")" = 2 ]; then
		# shellcheck disable=SC2086 # words
		set -- $may
		if [ -d "$MNT/$1" ] && [ -d "$MNT/$2" ]; then
			fail "mv left both names, $1 and $2"
			ok=1
		elif [ ! -d "$MNT/$1" ] && [ ! -d "$MNT/$2" ]; then
			fail "mv left neither $1 nor $2"
			ok=1
		fi
	fi
	# from here on what is there is what is known
	for there in "$MNT"/c[0-9]/; do
		[ -d "$there" ] && echo "mkdir $(basename "$there") x" && echo +
	done >"$NOTES/churn"
	check_roll || ok=1
	return "$ok"
}

# --- what is on disk

# layers_reachable / layers_there: ids, sorted.
layers_reachable() {
	local record id

	for record in "$STORE"/branches/*.ini; do
		id=$(sed -n 's/^top *= *//p' "$record")
		echo "$id"
		id=$(sed -n 's/^base *= *//p' "$record")
		while [ -n "$id" ] && [ "$((id))" != 0 ]; do
			echo "$id"
			id=$(sed -n 's/^parent *= *//p' \
				"$STORE/layers/$(printf %08x "$id")/layer.ini" 2>/dev/null)
		done
	done | sort -un
}

layers_there() {
	local dir

	for dir in "$STORE"/layers/*/; do
		[ -d "$dir" ] && echo $((16#$(basename "$dir")))
	done | sort -n
}

leaked_layers() {
	comm -13 <(layers_reachable | sort) <(layers_there | sort)
}

# One that is being merged stands on nothing yet; gc knows of it.
no_leaked_layers() {
	local leaked listed

	leaked=$(leaked_layers)
	[ -n "$leaked" ] || return 0
	[ "$(wc -l <<<"$leaked")" = 1 ] && listed=$("$PGBRANCHFS" gc "$MNT") &&
		! grep -qF "layers/$(printf %08x "$leaked")" <<<"$listed"
}

# check_store: no layer is left that no branch stands on, no temporary file.
check_store() {
	wait_until "$DEADLINE" no_leaked_layers >/dev/null || {
		fail "layers are left over: $(leaked_layers | tr '\n' ' ')"
		return 1
	}
	if find "$STORE/branches" -name '.tmp*' | grep -q .; then
		fail "temporary records are left over"
		return 1
	fi
}

# --- branches of files that are being written

# snap NAME PARENT LEDGER [FROM TO]: a branch, and what of the ledger must and may be
# in it; FROM and TO are those of the parent if the ledger does not work there.
snap() {
	local from to

	from=${4:-$(ledger_size "$3")}
	echo "try $1" >>"$NOTES/snaps"
	mkdir "$MNT/$1@$2" 2>/dev/null || return 1
	to=${5:-$(ledger_size "$3")}
	echo "made $1 $3 $from $to" >>"$NOTES/snaps"
	count snaps
}

# check_snaps: after a crash; removes them.
check_snaps() {
	local what name ledger from to

	[ -e "$NOTES/snaps" ] || return 0
	while read -r what name ledger from to; do
		[ "$what" = made ] || continue
		if [ ! -d "$MNT/$name" ]; then
			fail "branch $name is lost"
			continue
		fi
		check_ledger "$name" "$ledger" "$from" "$to"
	done <"$NOTES/snaps"
	while read -r what name ledger; do
		{ [ "$what" = try ] && [ -d "$MNT/$name" ]; } || continue
		rmdir "$MNT/$name" || fail "rmdir $name after a crash"
	done <"$NOTES/snaps"
	rm "$NOTES/snaps"
}
