#!/bin/bash
# The lint of metrics finds what promtool finds: a row a rule.  Where promtool is
# installed, it must say the same.
. "$(dirname "$0")/../lib/testlib.sh"

lint() {
	awk -f "$top_srcdir/tests/lib/promlint.awk" "$1"
}

good='# HELP a_total Help.
# TYPE a_total counter
a_total{x="1",y="b\"\\\n} 2"} 3
a_total{x="2",y=""} 4
# HELP mem_bytes Help.
# TYPE mem_bytes gauge
mem_bytes 1.5e+06
# HELP c_seconds Help.
# TYPE c_seconds histogram
c_seconds_bucket{op="r",le="0.5"} 1
c_seconds_bucket{op="r",le="1"} 1
c_seconds_bucket{op="r",le="+Inf"} 2
c_seconds_sum{op="r"} 7
c_seconds_count{op="r"} 2
c_seconds_bucket{op="w",le="0.5"} 0
c_seconds_bucket{op="w",le="1"} 0
c_seconds_bucket{op="w",le="+Inf"} 0
c_seconds_sum{op="w"} 0
c_seconds_count{op="w"} 0'

printf '%s\n' "$good" >"$TMP/good"
ok "a good text" lint "$TMP/good"
if command -v promtool >/dev/null; then
	ok "promtool takes it" promtool check metrics <"$TMP/good"
fi

# bad WHAT WORDS SED [no-promtool]: the good text, changed so, is refused with these words.
bad() {
	local out

	sed -e "$3" "$TMP/good" >"$TMP/bad"
	! cmp -s "$TMP/good" "$TMP/bad" || fail "$1: nothing was changed"
	if out=$(lint "$TMP/bad"); then
		fail "$1: not found"
	else
		like "$1" "$out" "$2"
	fi
	if [ -z "${4:-}" ] && command -v promtool >/dev/null; then
		nok "$1: promtool" promtool check metrics <"$TMP/bad" 2>/dev/null
	fi
}

bad "no help" "no help" 's/^# HELP mem_bytes.*/# HELP mem_bytes/'
bad "no type" "outside of its family" '/^# TYPE mem_bytes/d' no-promtool
bad "an odd type" "no type" 's/mem_bytes gauge/mem_bytes thing/'
bad "type before help" "TYPE does not follow" '/^# HELP mem_bytes/d'
bad "a counter without _total" "ends in _total" 's/a_total/a/'
bad "a gauge with _total" "only a counter" 's/mem_bytes/mem_bytes_total/'
bad "a gauge with _count" "suffix of histograms" 's/mem_bytes/mem_count/'
bad "a type in a name" "type is in its name" 's/mem_bytes/mem_gauge_bytes/'
bad "a short unit" "abbreviated" 's/mem_bytes/mem_ms/'
bad "no base unit" "no base unit" 's/mem_bytes/mem_megabytes/'
bad "minutes" "no base unit" 's/mem_bytes/mem_minutes/'
bad "a colon" "no name" 's/mem_bytes/mem:bytes/'
bad "camelCase" "camelCase" 's/mem_bytes/memBytes/'
bad "a label in camelCase" "camelCase" 's/x="/xY="/'
bad "le outside of a histogram" "reserved" 's/^a_total{x=/a_total{le=/'
bad "a label twice" "twice" 's/^a_total{x=/a_total{y=/'
bad "a series twice" "twice" 's/^a_total{x="2".*/a_total{x="1",y="b\\"\\\\\\n} 2"} 3/' no-promtool
bad "families mixed" "outside of its family" 's/^mem_bytes 1.*/&\na_total 1/' no-promtool
bad "a family in two places" "two places" 's/mem_bytes/a_total/'
bad "a bad escape" "cannot be read" 's/x="1"/x="\\t"/'
bad "an open label" "cannot be read" 's/x="2"/x="2/'
bad "no value" "no value" 's/^mem_bytes 1.*/mem_bytes/'
bad "a word as a value" "no value" 's/^mem_bytes 1.*/mem_bytes many/'
bad "no +Inf" "lacks" '/r",le="+Inf/d' no-promtool
bad "no sum" "lacks" '/_sum{op="r/d' no-promtool
bad "no count" "lacks" '/_count{op="r/d' no-promtool
bad "no count at the end" "lacks" '/_count{op="w/d' no-promtool
bad "a count of its own" "not the .Inf bucket" 's/_count{op="r"} 2/_count{op="r"} 3/' no-promtool
bad "bounds that fall" "do not rise" 's/r",le="0.5"/r",le="1.5"/' no-promtool
bad "buckets that fall" "do not add up" 's/r",le="0.5"} 1/r",le="0.5"} 2/' no-promtool
bad "a comment only" "no sample" '/^[^#]/d' no-promtool
done_testing
