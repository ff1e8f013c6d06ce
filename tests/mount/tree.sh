#!/bin/bash
# The virtual part of the tree: what is shown, what mkdir, rmdir and mv accept, that
# each refusal leaves a sentence, and that looking never starts a server.
# shellcheck disable=SC2119,SC2317 # functions called by name and without arguments
. "$(dirname "$0")/../lib/testlib.sh"
need_fuse
need_postgres

mount_store
is "the root" "$(ls -A "$MNT")" ".error
.metrics
.tree
README
main"
is "the root's mode" "$(stat -c %a "$MNT")" 1777
like "README" "$(cat "$MNT/README")" "mkdir"
is "no error yet" "$(cat "$MNT/.error")" ""
like ".tree" "$(cat "$MNT/.tree")" "main"
is "files of a branch" "$(ls -A "$MNT/main")" ".s.PGSQL.5432
checkpoints
data
expires
log
owner
parent
protected
reset
rollback
state
status
status.json
url"
is "data's mode" "$(stat -c %a "$MNT/main/data")" 700
if [ "$(id -u)" = 0 ]; then
	is "data's owner" "$(stat -c %U "$MNT/main/data")" postgres
	is "the branch's owner" "$(stat -c %U "$MNT/main")" root
fi
is "state" "$(cat "$MNT/main/state")" stopped
is "parent of main" "$(cat "$MNT/main/parent")" ""
like "url" "$(cat "$MNT/main/url")" "^postgres.*$(basename "$MNT")"
for f in README .error .tree main/status main/url main/owner; do
	refused "write to $f" "not permitted" "can only be read" \
		bash -c "echo x >'$MNT/$f'"
	is "size of $f is that of its text" "$(stat -c %s "$MNT/$f")" \
		"$(wc -c <"$MNT/$f")"
done

# --- making
ok "mkdir" mkdir "$MNT/a"
is "its parent" "$(cat "$MNT/a/parent")" main
ok "mkdir NAME@PARENT" mkdir "$MNT/b@a"
is "shows NAME only" "$(ls "$MNT")" "README
a
b
main"
nok "NAME@PARENT is no name" test -e "$MNT/b@a"
is "its parent" "$(cat "$MNT/b/parent")" a
is "a branch's mode" "$(stat -c %A "$MNT/b" | cut -c1-7)" "drwx---"
like ".tree shows both" "$(cat "$MNT/.tree")" "a.*b"
refused "a name that is taken" "File exists" "" mkdir "$MNT/a"
refused "NAME@PARENT that is taken" "File exists" "a branch named 'a'" mkdir "$MNT/a@main"
refused "a file's name" "File exists" "" mkdir "$MNT/README@main"
refused "no such parent" "No such file" "no branch named 'nobody'" mkdir "$MNT/c@nobody"
refused "an empty parent" "Invalid" "parent" mkdir "$MNT/c@"
refused "an empty name" "Invalid" "no name" mkdir "$MNT/@main"
refused "two parents" "Invalid" "parent" mkdir "$MNT/c@a@b"
for name in -dash .dot $'new\nline' 'blank blank' $'\xc3\xa4' $'\xff' 'a:b' 'a;b' "_x"; do
	refused "name $(printf %q "$name")" "Invalid" "no name" mkdir -- "$MNT/$name"
done
n63=$(printf 'n%.0s' {1..63})
ok "63 bytes" mkdir "$MNT/$n63"
ok "and away" rmdir "$MNT/$n63"
refused "64 bytes" "too long" "too long" mkdir "$MNT/n$n63"
refused "255 bytes" "too long" "too long" mkdir "$MNT/$n63$n63$n63${n63}nnn"
nok "256 bytes" mkdir "$MNT/$n63$n63$n63${n63}nnnn"
refused "creat in the root" "not permitted" "mkdir" bash -c ": >'$MNT/file'"
refused "creat in a branch" "not permitted" "beside" bash -c ": >'$MNT/a/file'"
refused "mkdir in a branch" "not permitted" "beside" mkdir "$MNT/a/dir"
refused "symlink in the root" "not permitted" "mkdir" ln -s x "$MNT/link"
refused "fifo in a branch" "not permitted" "beside" mkfifo "$MNT/a/fifo"
refused "link out of data" "not permitted|cross-device|Invalid cross" "" \
	ln "$MNT/a/data/PG_VERSION" "$MNT/a/link"
refused "a word that state does not know" "Invalid" "state" \
	bash -c "echo sideways >'$MNT/a/state'"

# --- renaming and removing
ok "mv" mv "$MNT/a" "$MNT/z"
is "children follow" "$(cat "$MNT/b/parent")" z
refused "mv onto a branch" "File exists|cannot (move|overwrite)|not empty" "" \
	mv -T "$MNT/z" "$MNT/b"
refused "mv to a bad name" "subdirectory of itself|Invalid" "no name" mv -T "$MNT/z" "$MNT/-z"
refused "mv out of data" "not permitted|cross-device" "" \
	mv "$MNT/z/data/PG_VERSION" "$MNT/z/x"
refused "mv of main" "not permitted" "main|base" mv "$MNT/main" "$MNT/m"
ok "rmdir" rmdir "$MNT/b"
nok "it is gone" test -e "$MNT/b"
refused "rmdir of what is not there" "No such file" "" rmdir "$MNT/b"
refused "rmdir of .run" "not permitted" "" rmdir "$MNT/.run"

# --- main is protected, to the last byte
bytes_of() {
	(cd "$MNT/main/data" && find . -type f -exec md5sum {} + | sort && find . | sort)
}
bytes_of >"$TMP/before"
refused "rmdir main" "not permitted" "protected" rmdir "$MNT/main"
refused "rm -rf main" "not permitted" "protected" rm -rf "$MNT/main"
bytes_of >"$TMP/after"
ok "rm -rf main took nothing" cmp "$TMP/before" "$TMP/after"

# --- looking starts nothing
for _ in 1 2; do
	ok "find -mtime" find "$MNT" -mtime +7
	ok "du" du -s "$MNT/main" "$MNT/z"
	ok "df" df "$MNT"
	ok "ls -lR" ls -lR "$MNT"
	ok "stat of everything" bash -c "find '$MNT' -print0 | xargs -0 stat"
	ok "cat of every file" bash -c "cat '$MNT'/*/{status,status.json,url,log,owner}"
	ok "stat of the socket" stat "$MNT/z/.s.PGSQL.5432"
done >/dev/null
for b in main z; do
	is "$b is still stopped" "$(cat "$MNT/$b/state")" stopped
done
is "no server ran" "$(servers_here)" ""
is "a new branch holds next to nothing" "$(($(du -sk "$MNT/z" | cut -f1) < 100))" 1
unmount_store
done_testing
