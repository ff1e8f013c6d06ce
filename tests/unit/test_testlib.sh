#!/bin/bash
# The shell tests' library: results, skips, and that nothing is left behind.
# shellcheck disable=SC2016 # the quoted lines are scripts of their own
. "$(dirname "$0")/../lib/testlib.sh"

# run_lib LINES: a test of these lines; its output in $out, exit code in $rc.
run_lib() {
	printf '. "%s/tests/lib/testlib.sh"\n%s\n' "$top_srcdir" "$1" >"$TMP/inner.sh"
	rc=0
	out=$(bash "$TMP/inner.sh" 2>&1) || rc=$?
}

unset PGBRANCHFS_REQUIRE

run_lib 'ok good true; is same a a; nok bad false; like some abc b; done_testing'
is "all pass: exit code" "$rc" 0
like "all pass: total" "$out" "4 checks, 0 failed"

run_lib 'ok bad false; done_testing'
is "a failure: exit code" "$rc" 1
like "a failure: its name" "$out" "FAILED: bad"

run_lib 'done_testing'
is "a test without a check fails" "$rc" 1

run_lib 'skip "no such thing"'
is "skip: exit code" "$rc" 77
like "skip: the reason" "$out" "skipped: no such thing"

PGBRANCHFS_REQUIRE=1 run_lib 'skip "no such thing"'
is "a required skip: exit code" "$rc" 1
like "a required skip: the reason" "$out" "no such thing"

run_lib 'wait_until 1 false || exit 5'
is "wait_until gives up" "$rc" 5

run_lib 'wait_until 5 test -d "$TMP" && exit 6'
is "wait_until sees success" "$rc" 6

run_lib 'sleep 600 & watch_pid $!; cleaner touch "'"$TMP"'/cleaned by"
	echo "$! $TMP" >"'"$TMP"'/who"; exit 3'
is "the exit code is kept" "$rc" 3
read -r pid dir <"$TMP/who"
settles "a watched process is gone" eval "! kill -0 $pid 2>/dev/null"
nok "the directory is gone" test -e "$dir"
ok "cleaners ran, words intact" test -e "$TMP/cleaned by"

run_lib 'tries=0; again() { tries=$((tries + 1)); [ "$tries" = 2 ] || return 1
	touch "'"$TMP"'/cleaned again"; }; cleaner again; exit 3'
ok "a cleaner that fails is run once more" test -e "$TMP/cleaned again"

PGBRANCHFS_SANITIZER=x run_lib 'echo "heap overflow" >"$TMP/sanitizer/ASAN.1"; exit 0'
is "a sanitizer's report fails the test" "$rc" 1
like "a sanitizer's report is shown" "$out" "heap overflow"

# What crashlib.sh takes for promised of a branch that is rolled back.
expected_of() { # LINES
	run_lib '. "'"$top_srcdir"'/tests/crash/crashlib.sh"
		printf "'"$1"'" >"$NOTES/roll"; roll_expected | sort | tr "\n" ","; exit 0'
}

expected_of 'write 1\n+\ntake k0\n+\nwrite 2\n+\nroll k0\n'
is "a rollback in flight" "$out" "must k0 1,value 1,value 2,"
expected_of 'write 1\n+\ntake k0\n+\nroll k1\n'
is "one to a checkpoint that is not there" "$out" "must k0 1,value 1,"
expected_of 'write 1\n+\ntake k0\n+\nmv k0 k1\n'
is "a rename in flight" "$out" "may k0 1,may k1 1,value 1,"

done_testing
