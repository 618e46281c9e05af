#!/bin/bash
# SPDX-License-Identifier: MIT
#
# 4 KiB reads and writes at random: uzram's disk file and its loop device, with and without the latency hold, the same
# front end with a store that keeps nothing, and zram.

LIMIT=${LIMIT:-900}
# shellcheck source=tests/bench/lib.sh
. "${0%/*}/lib.sh"

mib=$(full_or_quick 256 64)
options=(-m "$mib" -r "$(full_or_quick 7 3)" -t "$(full_or_quick 300 100)" -q "$(full_or_quick 1,4,16,64 1,4)")

# uzram_new NAME [TABLE...]: the default configuration but for what stands here.
uzram_new() {
    local name=$1
    shift
    { echo "size = \"${mib}M\""; printf '%s\n' "[swap]" "enabled = false" "$@"; } | start_daemon "$name"
}

arms=()
for algorithm in lz4 lzo-rle; do
    zram_new $algorithm $((mib << 20))
    arms+=("zram $algorithm=/dev/$ZRAM")
done
uzram_new "$DEV"
uzram_new "$DEV-never" "[latency]" 'hold = "never"'
UZRAMD=$BENCH/uzramd_null uzram_new "$DEV-null"
server=$(server_pid "$DEV")
never=$(server_pid "$DEV-never")
null=$(server_pid "$DEV-null")
arms+=(
    "disk=/run/uzram/$DEV/disk,$server" "disk, null store=/run/uzram/$DEV-null/disk,$null"
    "disk, no hold=/run/uzram/$DEV-never/disk,$never"
    "loop=/dev/uzram/$DEV,$server" "loop, null store=/dev/uzram/$DEV-null,$null"
    "loop, no hold=/dev/uzram/$DEV-never,$never"
)
"$BENCH/bench_disk" "${options[@]}" random "$CORPUS" "${arms[@]}"
assert_no_errors "$DEV"
