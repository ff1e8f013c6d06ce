# shellcheck shell=bash
# powerlib.sh - power cuts: the store lies on a file system of its own, which is shut
# down under load (what is not on its disk by then is lost), mounted again, and recovered.
# First of all the daemon runs with an fsync that does nothing: this test is worth
# something only if it sees that.
#
# TORTURE_CYCLES: how often (default 10).
# shellcheck disable=SC2016,SC2119,SC2317 # for eval; optional arguments; through others
. "$(dirname "$0")/../lib/testlib.sh"
need_root
need_fuse
need_postgres
need_tool xfs_io mkfs.ext4 mkfs.xfs losetup
. "$(dirname "$0")/crashlib.sh"
seed

EATMYDATA=$(compgen -G '/usr/lib/*/libeatmydata.so' | head -n 1)
[ -n "$EATMYDATA" ] || skip 'eatmydata is not installed'
DISK=$TMP/disk
STORE=$DISK/store
IMAGE=
disks=0
banks=(main child)

# --- the disk

# By the kernel's list: one that was shut down does not answer.
disk_is_mounted() {
	grep -q " $DISK " /proc/mounts
}

take_off_disk() {
	local dev

	disk_is_mounted && umount "$DISK" 2>/dev/null
	! disk_is_mounted || return 1
	[ -n "$IMAGE" ] || return 0
	for dev in $(losetup -n -O NAME -j "$IMAGE" 2>/dev/null); do
		losetup -d "$dev"
	done
}
cleaner take_off_disk

next_image() {
	disks=$((disks + 1))
	IMAGE=$TMP/image.$disks
}

# Another mount namespace may still have the disk, which then lives on as it was cut off,
# and is what a mount of the same image would show: then a copy takes its place.
move_if_held() {
	local was=$IMAGE

	[ -n "$(losetup -n -O NAME -j "$IMAGE")" ] || return 0
	next_image
	cp --sparse=always "$was" "$IMAGE" || die 'the disk cannot be copied'
	rm "$was"
	count disks_held
}

new_disk() { # ext4|xfs
	wait_until "$DEADLINE" take_off_disk || die 'the disk is busy'
	rm -f "$IMAGE"
	next_image
	truncate -s 2G "$IMAGE"
	case $1 in
	ext4) mkfs.ext4 -q -F "$IMAGE" ;;
	xfs) mkfs.xfs -q -f "$IMAGE" ;;
	esac || die "mkfs.$1"
	mkdir -p "$DISK"
	put_on_disk
	chmod 755 "$DISK"
}

put_on_disk() {
	local options=loop

	# the image that this one is a copy of may still be somebody's, see above
	[ "$(blkid -o value -s TYPE "$IMAGE")" != xfs ] || options=$options,nouuid
	mount -o "$options" "$IMAGE" "$DISK" || die 'the disk cannot be mounted'
}

is_cut() {
	! mkdir "$DISK/try" 2>/dev/null || ! rmdir "$DISK/try" 2>/dev/null
}

# Who notes promises is stopped at the moment of the cut, and notes nothing after it: ext4
# and XFS let an fsync succeed that they were at when they were shut down.
cut_power() {
	kill -STOP "$churner" "${load_pids[@]}"
	echo shutdown >&"${SWITCH[1]}"
	wait_until "$DEADLINE" is_cut || die 'the disk cannot be shut down'
	kill "$switch" 2>/dev/null
	kill_all
	kill -KILL "$churner" "${load_pids[@]}"
	wait "$switch" "$churner" "${load_pids[@]}" 2>/dev/null
	load_pids=()
	wait_until "$DEADLINE" take_off_disk || die 'the disk is busy after the cut'
	move_if_held
	put_on_disk
}

# --- a cycle

new_cluster() { # FS
	local b

	rm -rf "$NOTES"
	mkdir -m 777 "$NOTES"
	new_disk "$1"
	"$PGBRANCHFS" init "$STORE" >/dev/null || die init
	crash_conf
	must_mount
	bank_init main main 300
	mkdir "$MNT/child" "$NOTES/bank.child"
	for b in "${banks[@]}"; do
		sql "$b" checkpoint
	done
	timeout 120 "$PGBRANCHFS" umount "$MNT" || die umount
	sync
}

# under_load CYCLE [NAME=VALUE...]: leaves the disk as the cut left it.
under_load() {
	local cycle=$1 b goal

	must_mount "${@:2}"
	coproc SWITCH { exec xfs_io -x "$DISK" 2>&1; }
	switch=$SWITCH_PID
	watch_pid "$switch"
	for b in "${banks[@]}"; do
		bank_start "$b" "$b" 3 600
	done
	ledger_start main "$cycle" $((SEED + cycle)) 100000
	goal=$(($(acks_of main) + 30 + RANDOM % 300))
	wait_until "$DEADLINE" at_least main "$goal" || fail 'the load does not run'
	snap s0 main "$cycle"
	# a branch that ran and wrote: nothing that it stands on may be missing
	"$BANK" mark "$NOTES/bank.main" >"$NOTES/mark"
	mkdir "$MNT/pc" && sql pc checkpoint
	churn_until_gone >/dev/null 2>&1 &
	churner=$!
	watch_pid "$churner"
	ledger_start pc "$cycle.pc" $((SEED + cycle)) 100000
	goal=$(($(acks_of child) + RANDOM % 300))
	wait_until "$DEADLINE" at_least child "$goal" >/dev/null
	snap s1 main "$cycle"
	count_merged
	cut_power
}

look_at_all() { # CYCLE
	local b

	check_churn
	for b in "${banks[@]}"; do
		check_bank "$b" "$b"
	done
	check_bank pc main "$NOTES/mark"
	check_ledger main "$1"
	check_ledger pc "$1.pc"
	check_snaps
	check_store
}

clean_up_cycle() { # CYCLE
	rmdir "$MNT/pc" || fail 'rmdir of a branch that had a power cut'
	rm -rf "$MNT/main/data/ledger.$1" "$NOTES"/ledger.*
	timeout 120 "$PGBRANCHFS" umount "$MNT" || die 'umount after a power cut'
}

# The test of the test: true if the loss is seen.
sees_a_loss() { # FS
	local seen

	new_cluster "$1"
	under_load 0 LD_PRELOAD="$EATMYDATA"
	if ! mount_env; then
		say "# without fsync: $(head -n 1 "$TMP/mount.out")"
		return 0
	fi
	seen=$( (look_at_all 0) 2>&1 | grep FAILED)
	say "# without fsync: ${seen%%$'\n'*}"
	kill_all
	[ -n "$seen" ]
}

power_test() { # FS
	local i n was

	ok "$1: a daemon that does not fsync is found out" sees_a_loss "$1"
	new_cluster "$1"
	n=$(cycles 10)
	for ((i = 0; i < n; i++)); do
		was=$test_failed
		under_load "$i"
		must_mount
		look_at_all "$i"
		clean_up_cycle "$i"
		count "power_cuts_$1"
		[ "$test_failed" = "$was" ] || say "# that was $1, cycle $i"
	done
	is "$1: no promise was broken" "$test_failed" 0
	print_figures
	done_testing
}
