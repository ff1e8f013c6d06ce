#!/bin/bash
# The daemon is killed at each named fault point, which needs a build with
# --enable-fault-points.
#
# TORTURE_CYCLES: with it a later pass of each point is tried, too.
. "$(dirname "$0")/pointlib.sh"

at_point() { # NAME N
	mount_env PGBRANCHFS_FAULT="$1:$2" && workload
	after_workload "fault point $1, pass $2"
}

# named points, if this build has them
points=$(grep -rhoE --include='*.c' 'FAULT_POINT\("[a-z.-]+"\)' "$top_srcdir/src" |
	sed 's/.*("//; s/")//' | sort -u)
if grep -q 'define ENABLE_FAULT_POINTS' "$top_builddir/config.h"; then
	for point in $points; do
		at_point "$point" 1
	done
	# an error path, a file system without order, a cut in front of a growing file
	is 'most named points were reached' \
		"$((${figures[not_reached]:-0} * 3 <= $(wc -w <<<"$points")))" 1
	for point in $points; do
		[ -z "${TORTURE_CYCLES:-}" ] || at_point "$point" $((2 + RANDOM % 8))
	done
else
	say '# no fault points in this build'
fi

end_of_points
