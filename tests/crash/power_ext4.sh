#!/bin/bash
# Power cuts with the store on ext4.
. "$(dirname "$0")/powerlib.sh"
power_test ext4
