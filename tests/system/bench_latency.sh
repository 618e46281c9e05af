#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_latency.sh [ROUNDS]: what the hold of the CPUs' wake-up latency gives and takes: reads through loop in several
# patterns, without it, with latency.hold = "auto", and with a hold that somebody else has all the time, in turn. Prints
# medians: a read's median and its 99th percentile in us; what the idle CPUs of the machine polled, and how idle they were
# at all, in per cent of one CPU; the ratio of the read's median to that without.
#
# It says nothing on a machine that does something else meanwhile: what is busy needs no waking. There "idle" is low.

LIMIT=${LIMIT:-600}
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio
rounds=${1:-7}
BURST=${BURST:-$BUILD/tests/system/burst}
arms=(never auto always)

# Reads in a burst, pause in us, ms for it.
patterns=("1 0 300" "8 1000 300" "8 5000 500" "8 10000 500" "1 1000 300" "1 10000 1000" "1 100000 1000" "0 100000 1000")

# device NAME HOLD
device() {
    start_daemon "$1" <<EOT
size = "64M"
[latency]
hold = "$2"
[swap]
enabled = false
EOT
    fio --name=fill --filename="/dev/uzram/$1" --direct=1 --rw=write --bs=256k --refill_buffers \
        --buffer_compress_percentage=65 --output="$T/fio.txt"
}

# measure ARM PATTERN...: appends "median p99 polled idle" to a file for both.
measure() {
    local arm=$1 device=$DEV-never
    shift
    sleep 0.01 # what the last one has held is dropped
    [[ $arm != auto ]] || device=$DEV-auto
    (
        if [[ $arm == always ]]; then
            exec {qos}>/dev/cpu_dma_latency
            printf '\0\0\0\0' >&"$qos" # until the shell ends
        fi
        "$BURST" "/dev/uzram/$device" "$@"
    ) | sed 's/[a-z0-9]*=//g' | cut -d ' ' -f 2- >>"$T/$arm-$*"
}

# median FILE COLUMN
median() { awk -v c="$2" '{ print $c }' "$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

device "$DEV-never" never
device "$DEV-auto" auto
for ((round = 0; round < rounds; round++)); do
    for pattern in "${patterns[@]}"; do
        for arm in "${arms[@]}"; do
            # shellcheck disable=SC2086 # three words
            measure "$arm" $pattern
        done
    done
done
printf '%-6s %8s  %-6s %8s %8s %9s %7s %6s\n' reads "pause us" hold median p99 "polled %" "idle %" ratio
for pattern in "${patterns[@]}"; do
    read -r reads pause _ <<<"$pattern"
    never=$(median "$T/never-$pattern" 1)
    for arm in "${arms[@]}"; do
        file=$T/$arm-$pattern
        printf '%-6s %8s  %-6s %8s %8s %9s %7s %6s\n' "$reads" "$pause" "$arm" "$(median "$file" 1)" \
            "$(median "$file" 2)" "$(median "$file" 3)" "$(median "$file" 4)" \
            "$(awk "BEGIN { printf \"%.2f\", $(median "$file" 1) / ($never ? $never : 1) }")"
    done
done
stop_daemon "$DEV-never"
stop_daemon "$DEV-auto"
