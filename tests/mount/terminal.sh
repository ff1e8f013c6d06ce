#!/bin/bash
# What list, tree and status look like on a terminal, and list --watch: drawn in place,
# cut to the window, and gone without a trace when it ends, however it ends.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool script stty

esc=$'\033'
unset NO_COLOR
export TERM=xterm

mount_store
ok "mkdir" mkdir "$MNT/a" "$MNT/b@a"

# --- colours
on_terminal() { # COMMAND LINE
	script -qec "$1" /dev/null </dev/null | tr -d '\r'
}
uncolored() {
	sed "s/$esc\[[0-9;]*m//g"
}
# without what changes by itself: ages, free space
steady() {
	sed -E "s/ +[0-9]+[sm]\\b/ AGE/g; s/^free .*/free/"
}
for command in list tree status; do
	"$PGBRANCHFS" "$command" "$MNT" >"$TMP/plain"
	nok "$command: no colours in a pipe" grep -q "$esc" "$TMP/plain"
	plain=$(steady <"$TMP/plain")
	is "$command --color=always: the same text" \
		"$("$PGBRANCHFS" "$command" --color=always "$MNT" | uncolored | steady)" "$plain"
	is "$command on a terminal: the same text" \
		"$(on_terminal "'$PGBRANCHFS' $command '$MNT'" | uncolored | steady)" "$plain"
	for how in "NO_COLOR=1 '$PGBRANCHFS' $command" "TERM=dumb '$PGBRANCHFS' $command" \
		"'$PGBRANCHFS' $command --color=never"; do
		is "no colours with ${how/\'$PGBRANCHFS\'/pgbranchfs}" \
			"$(on_terminal "$how '$MNT'" | steady)" "$plain"
	done
done
stopped="${esc}\[2mstopped${esc}\[0m"
for command in list tree; do
	like "$command on a terminal" "$(on_terminal "'$PGBRANCHFS' $command '$MNT'")" "main  $stopped"
done
like "an empty NO_COLOR" "$(on_terminal "NO_COLOR= '$PGBRANCHFS' list '$MNT'")" "$esc"
like "--color alone" "$("$PGBRANCHFS" list --color "$MNT")" "$esc"

wrong() { # NAME REGEX ARG...
	local name=$1 regex=$2 out rc=0

	shift 2
	out=$("$PGBRANCHFS" "$@" 2>&1) || rc=$?
	is "$name: exit code" "$rc" 2
	like "$name" "$out" "$regex"
}
wrong "an unknown colour" "auto, always or never" list --color=red "$MNT"
wrong "no interval" "at least 1" list --watch=0 "$MNT"
wrong "a bad interval" "at least 1, not 'often'" list --watch=often "$MNT"
wrong "--json with --watch" "do not go together" list --json --watch "$MNT"
wrong "tree does not watch" "unrecognized" tree --watch "$MNT"

# --- list --watch
out=$("$PGBRANCHFS" list --watch "$MNT" 2>&1)
is "without a terminal: exit code" "$?" 1
like "it says so" "$out" "no terminal"
like "and what to do" "$out" "json"
like "on a dumb one" "$(on_terminal "TERM=dumb '$PGBRANCHFS' list --watch '$MNT'")" "no terminal"

# watch_start: list --watch on a terminal of its own, of 12 lines with 90 columns.  What it
# writes is in $TMP/screen, keys go to descriptor 7, $watch is its pid, $tty its terminal.
watch_start() {
	local list="'$PGBRANCHFS' list --watch=1 '$MNT'"

	rm -f "$TMP/keys" "$TMP/screen" "$TMP"/{before,after,rc,pid}
	mkfifo "$TMP/keys"
	: >"$TMP/screen"
	# the shell around it must survive what the keys send to all of the foreground
	cat >"$TMP/inner" <<SH
trap : INT QUIT
stty rows 12 cols 90
stty -g >"$TMP/before"
sh -c 'echo \$\$ >"\$1"; exec $list' - "$TMP/pid"
echo \$? >"$TMP/rc.new"
stty -g >"$TMP/after"
mv "$TMP/rc.new" "$TMP/rc"
SH
	script -qefc "sh $TMP/inner" "$TMP/screen" <"$TMP/keys" >/dev/null &
	watch_pid $!
	exec 7>"$TMP/keys"
	settles "$1: it draws" last_frame_has "main "
	watch=$(cat "$TMP/pid")
	tty=$(readlink "/proc/$watch/fd/1")
}

# What is on the screen: all behind the last time that it was begun anew.
last_frame() {
	awk -v RS="$esc\\\\[H" '{ last = $0 } END { printf "%s", last }' "$TMP/screen" |
		sed "s/$esc\[[0-9;?]*[a-zA-Z]//g" | tr -d '\r'
}
has_lines() {
	[ "$(last_frame | wc -l)" = "$1" ]
}
last_frame_has() {
	last_frame | grep -qE -- "$1"
}
frames() {
	grep -o "$esc\[H" "$TMP/screen" | wc -l
}
more_frames_than() {
	[ "$(frames)" -gt "$1" ]
}
has_ended() {
	[ -e "$TMP/rc" ]
}

# watch_ends NAME RC: it ends soon, and the terminal is as it was.
watch_ends() {
	settles "$1: it ends" has_ended
	is "$1: exit code" "$(cat "$TMP/rc")" "$2"
	is "$1: the terminal's settings" "$(cat "$TMP/after")" "$(cat "$TMP/before")"
	# the cursor and the other screen, in this order, behind all frames
	like "$1: the screen is given back" "$(awk -v RS="$esc\\\\[H" '{ last = $0 } END { print last }' "$TMP/screen")" \
		"${esc}\[\?25h${esc}\[\?1049l"
	exec 7>&-
}

watch_start "q"
nok "no echo, no lines" cmp -s "$TMP/before" <(stty -g -F "$tty")
like "the title" "$(last_frame | head -n 1)" \
	"^[0-9:]{8}  $MNT  3 branches, 0 running, 0 failed"
like "the table" "$(last_frame)" "NAME +STATE .*main +stopped"
seen=$(frames)
settles "it draws again" more_frames_than "$seen"
ok "mkdir" mkdir "$MNT"/c{1..9}
settles "a new branch appears" last_frame_has "^c1 "
settles "what has no room is counted" last_frame_has "^\.\.\. and 5 more"
is "no more lines than the window has" "$(last_frame | wc -l)" 11
stty -F "$tty" rows 7 cols 20
settles "it follows the size of the window" last_frame_has "^\.\.\. and 10 more"
is "lines" "$(last_frame | wc -l)" 6
is "columns" "$(last_frame | awk '{ if (length($0) > 19) print }')" ""
stty -F "$tty" rows 2 cols 5
settles "down to nothing" has_lines 1
stty -F "$tty" rows 40 cols 100
settles "and up again" last_frame_has "^main "
is "looking started nothing" "$(cat "$MNT"/*/status | grep -c "^wakes 0")" 12
is "it does not hold the mount" "$(find "/proc/$watch/fd" -lname "$MNT*")" ""
printf x >&7
printf q >&7
watch_ends "q" 0

watch_start "Ctrl-C"
printf '\003' >&7
watch_ends "Ctrl-C" 0

watch_start "SIGTERM"
kill -TERM "$watch"
watch_ends "SIGTERM" 0

# a daemon that does not answer does not hold the keys; a search for leaks at the end
# would wait for the thread that waits for it
[ -z "${ASAN_OPTIONS:-}" ] || export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
watch_start "a mount that hangs"
daemon=$(daemon_pid)
# between two frames: whoever waits for an answer to what the daemon has read already
# cannot be ended by anybody
seen=$(frames)
settles "it has just drawn" more_frames_than "$seen"
kill -STOP "$daemon"
continue_daemon() {
	[ "$(daemon_pid)" != "$daemon" ] || kill -CONT "$daemon"
}
cleaner continue_daemon
stalls() {
	local seen

	seen=$(frames)
	! wait_until 2 more_frames_than "$seen"
}
settles "nothing new is drawn" stalls
printf q >&7
watch_ends "a mount that hangs" 0
continue_daemon

watch_start "umount"
unmount_store
watch_ends "umount" 1
like "umount: it says why" "$(last_frame)" "'$MNT' is not mounted any more"

mount_only
watch_start "a killed daemon"
kill -KILL "$(daemon_pid)"
watch_ends "a killed daemon" 1
like "a killed daemon: it says why" "$(last_frame)" "the daemon of '$MNT' is dead"
"$PGBRANCHFS" umount "$MNT" || fail "umount"
done_testing
