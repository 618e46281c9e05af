#!/bin/bash
# SPDX-License-Identifier: MIT
#
# munmap of memory that is swapped out to the last page, by one process and by three at the same time: on zram, on
# uzram, and on a uzram whose drain thread is held up.

LIMIT=${LIMIT:-1800}
# shellcheck source=tests/bench/lib.sh
. "${0%/*}/lib.sh"
need findmnt chrt

sizes=$(full_or_quick "64 128 256 512" 256)
counts=$(full_or_quick "1 3" 1)
rounds=$(full_or_quick 5 3)
swap_size=$(full_or_quick 2 1)G
memcg_new 3072 # room for all: they go out because they are told to
cat "$CORPUS"/*.pages >/dev/null # whoever reads it first is charged for it

zram_new lz4 "$swap_size"
declare -A devices=([zram lz4]=/dev/$ZRAM)
# uzram_new ARM NAME
uzram_new() {
    start_daemon "$2" <<EOT
size = "$swap_size"
[swap]
enabled = false
EOT
    devices[$1]=$(readlink -f "/dev/uzram/$2")
    at_exit "! grep -q '^${devices[$1]} ' /proc/swaps || swapoff ${devices[$1]}"
}

uzram_new uzram "$DEV"
uzram_new "uzram, drain held up" "$DEV-slow"
# A thousandth of a CPU: one deadline of 1 s, with 1 ms to run before it.
for task in "/proc/$(server_pid "$DEV-slow")/task/"*; do
    [[ $(<"$task/comm") == uz-drain ]] || continue
    at_exit "chrt --other --pid 0 ${task##*/}" # or it won't stop
    chrt --deadline --sched-runtime 1000000 --sched-deadline 1000000000 --sched-period 1000000000 --pid 0 "${task##*/}"
done

all_out() {
    memcg_reclaim "$CG"
    (($(memcg_swapcached "$CG") == 0))
}

# run ARM MIB PROCESSES
run() {
    local device=${devices[$1]} what="munmap of $2 MiB swapped out, processes: $3" pid go wall cpu
    mkswap -q "$device"
    swapon --discard --priority 32767 "$device"
    rm -f "$T/go"
    mkfifo "$T/go"
    memcg_run "$CG" "$BENCH/bench_munmap" "$2" "$3" "$CORPUS" <"$T/go" >"$T/out" &
    pid=$!
    exec {go}>"$T/go"
    wait_for 120 grep -q out "$T/out" || fail "$1: not paged out"
    wait_for 30 all_out || fail "$1: $(memcg_swapcached "$CG") bytes remain in the swap cache"
    exec {go}>&-
    wait $pid || fail "$1: bench_munmap failed"
    read -r wall cpu < <(tail -n 1 "$T/out")
    value "$what" "$1" ms lower "$wall"
    value "$what, CPU" "$1" ms lower "$cpu"
    swapoff "$device"
}

for ((round = 1; round <= rounds; round++)); do
    for mib in $sizes; do
        for processes in $counts; do
            run "zram lz4" "$mib" "$processes"
            run uzram "$mib" "$processes"
            run "uzram, drain held up" "$mib" "$processes"
        done
    done
done
