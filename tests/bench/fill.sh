#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The corpus written and read in large requests: time, CPU time of all who take part, and what it takes in memory.
# zram, uzram through its disk file, the same front end with a store that keeps nothing, nbdkit through its socket.

LIMIT=${LIMIT:-900}
# shellcheck source=tests/bench/lib.sh
. "${0%/*}/lib.sh"
need nbdkit nbdcopy

mib=$(full_or_quick 2048 128) # or what there is
rounds=$(full_or_quick 5 3)
"$BENCH/bench_disk" -m "$mib" dump "$CORPUS" >"$T/sample"
size=$(stat -c %s "$T/sample")
arms=()

# The default configuration but for what stands here.
uzram_new() {
    start_daemon "$1" <<EOT
size = $size
[swap]
enabled = false
[loop]
enabled = false
[compression]
${2:-}
EOT
}

declare -A zrams
for algorithm in lz4 lzo-rle zstd; do
    if zram_new $algorithm "$size"; then
        zrams[$algorithm]=$ZRAM
        arms+=("zram $algorithm=/dev/$ZRAM")
    else
        echo "this kernel's zram has no $algorithm"
    fi
done
uzram_new "$DEV"
arms+=("uzram=/run/uzram/$DEV/disk,$(server_pid "$DEV")")
uzram_new "$DEV-lz4" 'algorithm = "lz4"'
uzram_new "$DEV-denser" 'level = 1'
arms+=("uzram lz4=/run/uzram/$DEV-lz4/disk,$(server_pid "$DEV-lz4")")
arms+=("uzram zstd 1=/run/uzram/$DEV-denser/disk,$(server_pid "$DEV-denser")")
UZRAMD=$BENCH/uzramd_null uzram_new "$DEV-null"
null="null=/run/uzram/$DEV-null/disk,$(server_pid "$DEV-null")"

# copied WHAT COMMAND...: run it and print the time and the CPU time of it and nbdkit together.
copied() {
    local what=$1 before wall own pages=$((size / 4096)) TIMEFORMAT='%R %U %S'
    shift
    before=$(process_ms "$nbdkit")
    { time "$@"; } 2>"$T/time"
    read -r wall own system <"$T/time"
    value "$what, wall" nbdkit us/page lower "$(ratio "$wall * 1e6" $pages)"
    own=$(awk "BEGIN { print ($own + $system) * 1e3 + $(process_ms "$nbdkit") - $before }")
    value "$what, CPU" nbdkit us/page lower "$(ratio "$own * 1e3" $pages)"
}

rss() { awk '$1 == "VmRSS:" { print $2 * 1024 }' "/proc/$1/status"; }

run_nbdkit() {
    local before
    nbdkit -f --no-sr -U "$T/socket" -P "$T/nbdkit.pid" memory size="$size" allocator=zstd &
    nbdkit=$!
    wait_for 5 test -s "$T/nbdkit.pid" || fail "nbdkit does not start"
    before=$(rss $nbdkit)
    copied write nbdcopy --synchronous --connections=1 --requests=1 --request-size=262144 "$T/sample" \
        "nbd+unix:///?socket=$T/socket"
    value "memory of a page, in all" nbdkit bytes lower "$(ratio "$(rss $nbdkit) - $before" $((size / 4096)))"
    copied read nbdcopy --synchronous --connections=1 --requests=1 --request-size=262144 \
        "nbd+unix:///?socket=$T/socket" null:
    kill $nbdkit
    wait $nbdkit || true
    rm -f "$T/socket" "$T/nbdkit.pid"
}

for ((round = 1; round <= rounds; round++)); do
    "$BENCH/bench_disk" -m "$mib" -r 1 fill "$CORPUS" "${arms[@]}" "$null"
    run_nbdkit
done
"$BENCH/bench_disk" -m "$mib" verify "$CORPUS" "${arms[@]}"

for algorithm in "${!zrams[@]}"; do
    device=${zrams[$algorithm]}
    memory_of "zram $algorithm" "/sys/block/$device" "$(zram_memory "$device")"
done
memory_of uzram "$DEV" "$(uzram_memory "$DEV")"
value "free memory in reserve" uzram MiB lower "$(ratio "$(metric "$DEV" memory_reserve_bytes)" 1048576)"
memory_of "uzram lz4" "$DEV-lz4" "$(uzram_memory "$DEV-lz4")"
memory_of "uzram zstd 1" "$DEV-denser" "$(uzram_memory "$DEV-denser")"
for name in "$DEV" "$DEV-lz4" "$DEV-denser"; do
    assert_no_errors "$name"
done
