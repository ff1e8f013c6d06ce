#!/bin/bash
# Power cuts with the store on XFS.
. "$(dirname "$0")/powerlib.sh"
power_test xfs
