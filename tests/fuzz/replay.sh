#!/bin/bash
# Every input of every corpus through its fuzz target, without a fuzzer: what was found
# once stays fixed.
set -u
top_srcdir=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
top_builddir=${top_builddir:-$top_srcdir}
failed=0
total=0

for corpus in "$top_srcdir"/tests/corpus/*/; do
	target=$(basename "$corpus")
	program=$top_builddir/tests/fuzz/fuzz_$target
	inputs=("$corpus"*)
	if [ ! -x "$program" ]; then
		echo "FAILED: $corpus has no target $program"
		failed=1
		continue
	fi
	# each as a file: a directory would make libFuzzer start to search
	if ! out=$(timeout 300 "$program" "${inputs[@]}" 2>&1); then
		echo "FAILED: fuzz_$target"
		tail -n 60 <<<"$out"
		failed=1
		continue
	fi
	echo "ok: fuzz_$target, ${#inputs[@]} inputs"
	total=$((total + ${#inputs[@]}))
done
for source in "$top_srcdir"/tests/fuzz/fuzz_*.c; do
	target=$(basename "$source" .c)
	if [ ! -d "$top_srcdir/tests/corpus/${target#fuzz_}" ]; then
		echo "FAILED: $target has no corpus"
		failed=1
	fi
done
echo "$total inputs"
[ "$total" -gt 0 ] || failed=1
exit "$failed"
