#!/bin/bash
# Hostile names: of branches, each refused with its errno and a sentence; of files in
# data/, where all that POSIX allows is kept through branches, renames and a remount;
# and nothing that is shown of them is malformed.
# shellcheck disable=SC2016,SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres
need_tool python3

# One python makes the system calls, as starting one for each would take longer than
# all else here.  It is asked for OPERATION ARGUMENT..., each with a NUL behind it.
cat >"$TMP/calls.py" <<'PY'
import errno, os, sys

def write(path, text):  # in one write, which a shell does not promise
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)

words, word = [], b""
while byte := os.read(0, 1):
    if byte != b"\0":
        word += byte
        continue
    words, word = words + [word], b""
    if words[-1]:
        continue
    if not words[0]:
        break
    try:
        name = words[0].decode()
        (write if name == "write" else getattr(os, name))(*words[1:-1])
        print("done", flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
    words = []
PY
coproc CALLS { exec python3 "$TMP/calls.py"; }
calls_pid=$! # CALLS_PID goes with the process
watch_pid "$calls_pid"
exec 7<&"${CALLS[0]}" 8>&"${CALLS[1]}" # those of a coproc are closed in $(...)

# errno_of OPERATION ARGUMENT...: the errno of one system call, by name
errno_of() {
	local answer

	printf '%s\0' "$@" '' >&8
	read -r -t "$DEADLINE" -u 7 answer
	printf %s "$answer"
}

# refused NAME ERRNO REGEX OPERATION ARGUMENT...
refused() {
	local name=$1 errno=$2 regex=$3

	shift 3
	is "$name: errno" "$(errno_of "$@")" "$errno"
	[ -z "$regex" ] || like "$name: .error" "$(cat "$MNT/.error")" "$regex"
	# the sentence, the hint, the time: a line break in a name makes no other
	is "$name: lines of .error" "$(grep -cvE '^(hint|time): ' "$MNT/.error")" 1
	is "$name: control bytes in .error" \
		"$(LC_ALL=C tr -d '\n\040-\176\200-\377' <"$MNT/.error" | wc -c)" 0
}

repeat() { # TEXT COUNT
	local i out=

	for ((i = 0; i < $2; i++)); do out+=$1; done
	printf %s "$out"
}

well_formed() { # ROW
	ok "$1: each status.json is JSON" python3 -c '
import json, sys
for path in sys.argv[1:]:
    with open(path) as f:
        json.load(f)' "$MNT"/*/status.json
	"$PGBRANCHFS" list --json "$MNT" >"$TMP/list.json" || fail "$1: list --json"
	ok "$1: list --json is JSON" python3 -m json.tool "$TMP/list.json" "$TMP/json"
	is "$1: status has lines of key and value" \
		"$(cat "$MNT"/*/status | grep -cvE '^[a-z_.]+( .*)?$')" 0
	is "$1: .tree has a line for each branch" "$(tail -n +2 "$MNT/.tree" | wc -l)" \
		"$(find "$MNT" -mindepth 1 -maxdepth 1 -type d | wc -l)"
	is "$1: nothing shows control bytes" \
		"$(cat "$MNT/.tree" "$MNT"/*/{status,status.json,url,parent} | LC_ALL=C tr -d '\n\t\040-\176\200-\377' | wc -c)" 0
}

# --- branches
mount_store
before=$(ls -A "$MNT")
for name in $'new\nline' $'\n' 'a ' ' a' ' ' .dot ... -dash --help _x '~' '*' '$(id)' \
	'%s%n' "'" '"' "\\" 'a\b' 'a|b' 'a:b' $'\x01' $'a\x7f' $'\t' $'a\x1b[31m' $'\xc3\xa4' \
	$'\xe2\x82\xac' $'\xff' $'\xc0\xaf' $'\xed\xa0\x80' $'\xe2\x80\xae' é 名前; do
	refused "mkdir $(printf %q "$name")" EINVAL "no name for a branch" mkdir "$MNT/$name"
done
n63=$(repeat n 63)
refused "64 bytes" ENAMETOOLONG "too long" mkdir "$MNT/${n63}n"
refused "255 bytes" ENAMETOOLONG "too long" mkdir "$MNT/$(repeat x 255)"
refused "255 bytes of UTF-8" EINVAL "no name" mkdir "$MNT/$(repeat ä 127)x"
refused "256 bytes" ENAMETOOLONG "" mkdir "$MNT/$(repeat x 256)"
refused "." EEXIST "" mkdir "$MNT/."
refused ".." EEXIST "" mkdir "$MNT/.."
refused "a/b" ENOENT "" mkdir "$MNT/a/b"
refused "main/b" EPERM "beside" mkdir "$MNT/main/b"
refused "README" EEXIST "" mkdir "$MNT/README"
refused ".error" EEXIST "" mkdir "$MNT/.error"
refused ".run" EINVAL "no name" mkdir "$MNT/.run@main"
refused "@" EINVAL "'' is no name of a parent" mkdir "$MNT/@"
refused "a@" EINVAL "'' is no name of a parent" mkdir "$MNT/a@"
refused "@main" EINVAL "'' is no name for a branch" mkdir "$MNT/@main"
refused "@@" EINVAL "'@' is no name of a parent" mkdir "$MNT/@@"
refused "a@b@c" EINVAL "'b@c' is no name of a parent" mkdir "$MNT/a@b@c"
refused "a@main " EINVAL "no name of a parent" mkdir "$MNT/a@main "
refused "a@.." EINVAL "no name of a parent" mkdir "$MNT/a@.."
refused "a@nobody" ENOENT "no branch named 'nobody'" mkdir "$MNT/a@nobody"
refused "a@64 bytes" EINVAL "no name of a parent" mkdir "$MNT/a@${n63}n"
refused "63@191 bytes" EINVAL "no name of a parent" mkdir "$MNT/$n63@$(repeat p 191)"
refused "a@b:c" ENOENT "no checkpoint 'c' of a branch 'b'" mkdir "$MNT/a@b:c"
refused "a@main:c" ENOENT "no checkpoint 'c' of a branch 'main'" mkdir "$MNT/a@main:c"
is "a refusal leaves nothing" "$(ls -A "$MNT")" "$before"

good=(a 0 a.b a..b A-_.z 1e9 null true NaN "$n63")
for name in "${good[@]}"; do
	ok "mkdir $name" mkdir "$MNT/$name"
done
refused "63 bytes of 63 bytes" EEXIST "already" mkdir "$MNT/$n63@$n63"
for name in $'new\nline' 'a ' .dot $'\xc3\xa4' "b@main"; do
	refused "mv to $(printf %q "$name")" EINVAL "no name" rename "$MNT/a" "$MNT/$name"
done
refused "mv to 64 bytes" ENAMETOOLONG "too long" rename "$MNT/a" "$MNT/${n63}n"
refused "mv to README" ENOTDIR "" rename "$MNT/0" "$MNT/README"
for word in $'running\nstopped' $'\xff' '%s%n' "$(repeat r 65)" $'st\x01opped'; do
	is "state $(printf %q "$word")" "$(errno_of write "$MNT/a/state" "$word")" EINVAL
done
well_formed "branches"
for name in "${good[@]}"; do
	is "$name is listed" "$(find "$MNT" -maxdepth 1 -name "$name" | wc -l)" 1
done

# --- files
# Not in the shell: it has no NUL, and no names of every byte.
cat >"$TMP/names.py" <<'PY'
import os, sys

def names():
    every = [bytes([b]) for b in range(1, 256) if b not in (ord("/"), ord("."))]
    every += [b"a" + bytes([b]) + b"z" for b in range(1, 256) if b != ord("/")]
    every += [b"...", b".hidden", b"-rf", b"--", b" ", b" a ", b"\n", b"\n\n", b"a\nb",
              b"x" * 255, b"\xff" * 255, "ä".encode() * 127 + b"x", "名".encode() * 85,
              b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3\xa9",
              b"e\xcc\x81", b".tmp-1", b"t.0", b"layer.ini", b"f1a3.00000000",
              b"postmaster.pid.x", b"%s%n", b"$(id)", b"`id`", b"\\", b"\\n", b"'", b'"']
    return sorted(set(every))

def check(top, suffix=b""):
    want = set(names())
    got = set(os.listdir(top))
    assert got == want, (sorted(got - want), sorted(want - got))
    for name in names():
        with open(os.path.join(top, name), "rb") as f:
            text = f.read()
        assert text == name + suffix, (name, text)

def make(top):
    os.mkdir(top)
    for name in names():
        with open(os.path.join(top, name), "wb") as f:
            f.write(name)

def change(top):
    for name in names():
        path = os.path.join(top, name)
        os.rename(path, path[: len(top) + 1] + b"..moving")
        os.rename(path[: len(top) + 1] + b"..moving", path)
        with open(path, "ab") as f:
            f.write(b"+")

def refuse(top):
    for name in (b"x" * 256, "ä".encode() * 128):
        try:
            open(os.path.join(top, name), "wb")
        except OSError as e:
            assert e.errno == 36, e
        else:
            raise AssertionError("a name of 256 bytes")

what, top = sys.argv[1], os.fsencode(sys.argv[2])
{"make": make, "check": check, "change": change, "refuse": refuse,
 "changed": lambda top: check(top, b"+")}[what](top)
print(len(names()))
PY
hostile() {
	python3 "$TMP/names.py" "$@" >"$TMP/count"
}
ok "names on a plain directory" hostile make "$TMP/plain"
ok "names in data" hostile make "$MNT/main/data/names"
ok "names too long" hostile refuse "$MNT/main/data/names"
ok "they are there" hostile check "$MNT/main/data/names"
ok "mkdir" mkdir "$MNT/b"
ok "a branch has them" hostile check "$MNT/b/data/names"
ok "renamed and written in the branch" hostile change "$MNT/b/data/names"
for round in 1 2; do
	ok "round $round: changed in the branch" hostile changed "$MNT/b/data/names"
	ok "round $round: not in main" hostile check "$MNT/main/data/names"
	is "round $round: find -print0" \
		"$(cd "$MNT/b/data/names" && find . -type f -print0 | sort -z | md5sum)" \
		"$(cd "$TMP/plain" && find . -type f -print0 | sort -z | md5sum)"
	is "round $round: ls" "$(ls -A --quoting-style=c "$MNT/main/data/names")" \
		"$(ls -A --quoting-style=c "$TMP/plain")"
	well_formed "round $round"
	unmount_store
	mount_only
done
say "$(cat "$TMP/count") names"
ok "rm -rf of them" rm -rf "$MNT/b/data/names"
nok "they are gone" test -e "$MNT/b/data/names"
unmount_store
printf '\0' >&8 # no call: it ends
wait "$calls_pid"
done_testing
