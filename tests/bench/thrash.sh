#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A process that walks over three times the memory it may have, its pages being the corpus's, on zram and uzram in turn.
#
# Memory is read while it stands still with nearly the same pages swapped out on both. A device stores pages that are no
# longer in use, too, until swap tells it so: at once to zram, by discards to any other device.

LIMIT=${LIMIT:-1800}
# shellcheck source=tests/bench/lib.sh
. "${0%/*}/lib.sh"
need findmnt

limit=$(full_or_quick 512 64) # MiB
passes=$(full_or_quick 3 2)
rounds=$(full_or_quick 3 2)
algorithms=$(full_or_quick "lz4 lzo-rle" lz4)
swap_size=$((4 * limit << 20))
memcg_new "$limit"
cat "$CORPUS"/*.pages >/dev/null # whoever reads it first is charged for it

# run_hog ARM MM_STAT MEMORY-COMMAND...
run_hog() {
    local arm=$1 stat=$2 hog go memory stored
    shift 2
    rm -f "$T/go"
    mkfifo "$T/go"
    memcg_run "$CG" "$HOG" -s 42 -m $((limit * 3)) -p "$passes" -c "$CORPUS" -w <"$T/go" >"$T/hog" &
    hog=$!
    exec {go}>"$T/go"
    wait_for 300 grep -q holding "$T/hog" || fail "$arm: the hog is not ready"
    memory=$("$@")
    stored=$(($(mm_stat "$stat" orig_data_size) / 4096))
    exec {go}>&-
    wait "$hog" || fail "$arm: the hog was harmed"
    value "thrash, wall" "$arm" ms lower "$(sed -nE 's/.* run_ms=([0-9]+).*/\1/p' "$T/hog")"
    value "thrash, memory" "$arm" MiB lower "$(ratio "$memory" 1048576)"
    value "thrash, memory of a stored page" "$arm" bytes lower "$(ratio "$memory" $stored)"
}

on_zram() {
    local device=${zrams[$1]}
    mkswap -q "/dev/$device"
    swapon --discard --priority 32767 "/dev/$device"
    run_hog "zram $1" "/sys/block/$device" zram_memory "$device"
    swapoff "/dev/$device"
}

on_uzram() {
    start_daemon "$DEV" <<EOT
size = $swap_size
[swap]
priority = 32767
EOT
    run_hog uzram "$DEV" uzram_memory "$DEV"
    stop_daemon "$DEV"
}

declare -A zrams
for algorithm in $algorithms; do
    zram_new "$algorithm" $swap_size
    zrams[$algorithm]=$ZRAM
done
for ((round = 1; round <= rounds; round++)); do
    for algorithm in $algorithms; do
        on_zram "$algorithm"
    done
    on_uzram
done
