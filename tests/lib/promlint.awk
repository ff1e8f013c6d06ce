# promlint.awk - the rules of "promtool check metrics", and what a parser wants, for
# places where promtool is not to be had.  Prints what is wrong; exits 1 if anything is.
#
#   awk -f promlint.awk FILE

function bad(what) {
	printf "line %d: %s: %s\n", FNR, what, $0
	failed = 1
}

# The part of s that is a quoted value, with its quotes; "" if it has no end.
function quoted(s,    i, c) {
	for (i = 2; i <= length(s); i++) {
		c = substr(s, i, 1)
		if (c == "\\") {
			if (substr(s, i + 1, 1) !~ /^[\\"n]$/)
				return ""
			i++
		} else if (c == "\"") {
			return substr(s, 1, i)
		}
	}
	return ""
}

# Takes the labels in braces apart: le in LE, the others, in their order, in REST.
function labels_of(s,    name, value) {
	LE = ""
	REST = ""
	delete seen_label
	while (s != "") {
		if (!match(s, /^[a-zA-Z_][a-zA-Z0-9_]*=/))
			return 0
		name = substr(s, 1, RLENGTH - 1)
		s = substr(s, RLENGTH + 1)
		value = quoted(s)
		if (value == "")
			return 0
		s = substr(s, length(value) + 1)
		if (s != "" && s !~ /^,./)
			return 0
		s = substr(s, 2)
		if (name in seen_label)
			bad("label " name " twice")
		seen_label[name] = 1
		if (name ~ /[a-z][A-Z]/)
			bad("label " name " in camelCase")
		if (name == "quantile" || (name == "le" && type[family] != "histogram"))
			bad("label " name " is reserved")
		if (name == "le")
			LE = value
		else
			REST = REST "," name "=" value
	}
	return 1
}

function lint_name(name, kind,    parts, n, i) {
	if (name !~ /^[a-zA-Z_][a-zA-Z0-9_]*$/)
		bad("no name for a metric (':' is for rules)")
	if (name ~ /[a-z][A-Z]/)
		bad("camelCase")
	if (kind == "counter" && name !~ /_total$/)
		bad("a counter ends in _total")
	if (kind != "counter" && name ~ /_total$/)
		bad("only a counter ends in _total")
	if (name ~ /_(bucket|sum|count)$/)
		bad("a suffix of histograms")
	if (name ~ /_(counter|gauge|histogram|summary|untyped)(_|$)/)
		bad("its type is in its name")
	n = split(name, parts, "_")
	for (i = 1; i <= n; i++) {
		if (parts[i] ~ /^(s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)$/)
			bad("an abbreviated unit")
		if (parts[i] ~ /^(pico|nano|micro|milli|centi|deci|deca|hecto|kilo|kibi|mega|mibi|mebi|giga|gibi|tera|tebi|peta|pebi)(seconds?|bytes?|meters?|grams?|volts?|joules?|amperes?|celsius|kelvins?)$/ ||
		    parts[i] ~ /^(minutes?|hours?|days?|weeks?|bits?|fahrenheit|rankine)$/)
			bad("no base unit")
	}
}

# The histogram's series that was read last is complete.
function end_series() {
	if (series == "")
		return
	if (last_le != "\"+Inf\"" || !has_sum || !has_count)
		bad("the series before this line lacks +Inf, _sum or _count")
	else if (last_bucket != count)
		bad("_count is not the +Inf bucket")
	series = ""
}

function histogram_sample(suffix, value,    le) {
	if (suffix == "_bucket") {
		if (series != family REST || has_sum || has_count) {
			end_series()
			series = family REST
			last_le = ""
			last_bucket = 0
			has_sum = has_count = 0
		}
		if (LE !~ /^"(\+Inf|[0-9.e+-]+)"$/)
			bad("a bucket without a bound")
		le = substr(LE, 2, length(LE) - 2) + 0
		if (last_le == "\"+Inf\"" ||
		    (last_le != "" && LE != "\"+Inf\"" && le <= last_bound))
			bad("bounds do not rise")
		if (value < last_bucket)
			bad("buckets do not add up")
		last_le = LE
		last_bound = le
		last_bucket = value
		return
	}
	if (series != family REST)
		bad("not behind its buckets")
	if (suffix == "_sum")
		has_sum = 1
	if (suffix == "_count") {
		has_count = 1
		count = value
	}
}

function sample(    name, rest, labels, suffix) {
	if (!match($0, /^[a-zA-Z_:][a-zA-Z0-9_:]*/)) {
		bad("neither a comment nor a sample")
		return
	}
	name = substr($0, 1, RLENGTH)
	rest = substr($0, RLENGTH + 1)
	suffix = substr(name, length(family) + 1)
	if (substr(name, 1, length(family)) != family || !(family in type) ||
	    (type[family] == "histogram" ? suffix !~ /^_(bucket|sum|count)$/ : suffix != "")) {
		bad("a sample outside of its family")
		return
	}
	labels = ""
	if (rest ~ /^\{/) {
		# the brace that ends them is the last one
		match(rest, /^\{.*\}/)
		labels = substr(rest, 2, RLENGTH - 2)
		rest = substr(rest, RLENGTH + 1)
	}
	if (!labels_of(labels))
		bad("labels that cannot be read")
	if (rest !~ /^ (-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|\+Inf|-Inf|NaN)$/)
		bad("no value")
	if ((name, REST, LE) in seen)
		bad("twice")
	seen[name, REST, LE] = 1
	if (type[family] == "histogram")
		histogram_sample(suffix, substr(rest, 2) + 0)
	samples++
}

/^# HELP / {
	end_series()
	if ($3 in help)
		bad("a family in two places")
	if (NF < 4)
		bad("no help")
	family = $3
	help[family] = 1
	next
}
/^# TYPE / {
	if ($3 != family || $3 in type)
		bad("TYPE does not follow HELP")
	if ($4 !~ /^(counter|gauge|histogram)$/ || NF != 4)
		bad("no type")
	family = $3
	type[family] = $4
	lint_name(family, $4)
	next
}
/^#/ || /^$/ {
	next
}
{
	sample()
}
END {
	end_series()
	if (!samples) {
		print "there is no sample"
		failed = 1
	}
	exit failed
}
