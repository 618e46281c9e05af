#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_swap.sh [ROUNDS]: the same hog over kernel zram (lz4) and uzram in turn: 1.5 GB in a 512 MB cgroup, three
# passes. Prints each run, then medians and ratios.
#
# Memory is read while the hog stands still with nearly the same pages swapped out on both. "memory" is all that the
# device takes; "per page" is that divided by the pages it stores, in bytes: it stores pages that are no longer in use,
# too, until swap tells it so: at once to zram, by discards to any other device. (Neither has the table of pages in it:
# zram's is 24 bytes a page, uzram's 8.)

LIMIT=${LIMIT:-1800}
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt
rounds=${1:-3}
seed=42
memcg_new 512

# A zram device of our own if the kernel can make one, else zram0 if nobody uses it.
zram_open() {
    local id
    if id=$(cat /sys/class/zram-control/hot_add 2>/dev/null); then
        at_exit "echo $id >/sys/class/zram-control/hot_remove"
    elif [[ $(cat /sys/block/zram0/initstate 2>/dev/null) == 0 ]]; then
        id=0
        at_exit "echo 1 >/sys/block/zram0/reset"
    else
        skip "there is no free zram device"
    fi
    zram=zram$id
    at_exit "! grep -q '^/dev/$zram ' /proc/swaps || swapoff /dev/$zram"
}

zram_on() {
    echo lz4 >"/sys/block/$zram/comp_algorithm"
    echo 2G >"/sys/block/$zram/disksize"
    mkswap -q "/dev/$zram"
    swapon --discard --priority 32767 "/dev/$zram"
}

zram_off() {
    swapoff "/dev/$zram"
    echo 1 >"/sys/block/$zram/reset"
}

uzram_on() {
    start_daemon "$DEV" <<'EOT'
size = "2G"
[compression]
algorithm = "lz4"
[swap]
priority = 32767
EOT
}

uzram_off() { stop_daemon "$DEV"; }

# run_hog ARM STAT: STAT is what mm_stat() takes. Appends "wall_ms munmap_ms memory_mib bytes_per_page" to $T/ARM.
run_hog() {
    local hog go orig used
    rm -f "$T/go"
    mkfifo "$T/go"
    memcg_run "$CG" "$HOG" -s "$seed" -m 1500 -p 3 -w <"$T/go" >"$T/hog" &
    hog=$!
    exec {go}>"$T/go"
    wait_for 300 grep -q holding "$T/hog" || fail "$1: the hog is not ready"
    orig=$(mm_stat "$2" orig_data_size)
    used=$(mm_stat "$2" mem_used_total)
    exec {go}>&-
    wait "$hog" || fail "$1: the hog was harmed"
    say "$1: $(tail -n 1 "$T/hog"); $(mib "$orig") MiB in $(mib "$used") MiB"
    sed -nE "s/.*munmap_ms=([0-9]+) run_ms=([0-9]+).*/\2 \1 $(mib "$used") $((used / (orig >> 12)))/p" \
        "$T/hog" >>"$T/$1"
}

# median ARM COLUMN
median() {
    awk -v c="$2" '{ print $c }' "$T/$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# compare WHAT COLUMN UNIT
compare() {
    local zram uzram
    zram=$(median zram "$2")
    uzram=$(median uzram "$2")
    printf '%-10s zram %6d %-5s  uzram %6d %-5s  ratio %s\n' "$1" "$zram" "$3" "$uzram" "$3" \
        "$(awk "BEGIN { printf \"%.2f\", $uzram / ($zram ? $zram : 1) }")"
}

zram_open
for ((round = 1; round <= rounds; round++)); do
    zram_on
    run_hog zram "/sys/block/$zram"
    zram_off
    uzram_on
    run_hog uzram "$DEV"
    uzram_off
done
echo "medians of $rounds rounds:"
compare "wall time" 1 ms
compare munmap 2 ms
compare memory 3 MiB
compare "per page" 4 bytes
