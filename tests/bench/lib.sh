# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the bench scripts share, on top of the system tests' library. run.py gives them CORPUS (a directory) and QUICK
# (empty, or not). They print figures, as README.md has it, among other lines.

CORPUS=${CORPUS:-${XDG_CACHE_HOME:-$HOME/.cache}/uzram/corpus}
QUICK=${QUICK-}

# full_or_quick FULL QUICK: the one that this run takes.
full_or_quick() { if [[ -n $QUICK ]]; then echo "$2"; else echo "$1"; fi; }

# value WHAT ARM UNIT lower|higher VALUE: a figure; the last but one says what is better.
value() { printf '{"what":"%s","arm":"%s","unit":"%s","better":"%s","values":[%s]}\n' "$@"; }

ratio() { awk "BEGIN { printf \"%.5g\", ($1) / ($2) }"; }

# ---- zram ----

# zram_new ALGORITHM BYTES: a device of our own; $ZRAM is its name. Fails if this kernel's zram doesn't know ALGORITHM.
zram_new() {
    local id
    id=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || skip "there is no zram, or none to spare"
    ZRAM=zram$id
    at_exit "zram_end $ZRAM"
    grep -qw -e "$1" "/sys/block/$ZRAM/comp_algorithm" || return 1
    echo "$1" >"/sys/block/$ZRAM/comp_algorithm"
    echo "$2" >"/sys/block/$ZRAM/disksize"
}

zram_end() {
    ! grep -q "^/dev/$1 " /proc/swaps || swapoff "/dev/$1"
    echo "${1#zram}" >/sys/class/zram-control/hot_remove
}

# ---- memory ----

# zram_memory NAME, uzram_memory NAME: what it takes, bytes. zram doesn't count its table (16 bytes a page of the
# device) and zsmalloc's handles (8 bytes an object); uzram's metrics have all. uzram's reserve of free memory is not
# in it.
zram_memory() {
    local dir=/sys/block/$1 pages stored
    pages=$(($(cat "$dir/disksize") / 4096))
    stored=$(($(mm_stat "$dir" orig_data_size) / 4096))
    echo $(($(mm_stat "$dir" mem_used_total) + 16 * pages + 8 * stored))
}

uzram_memory() {
    echo $(($(metric "$1" memory_used_bytes) + $(metric "$1" slot_table_bytes) + $(metric "$1" allocator_bytes)))
}

# memory_of ARM MM_STAT MEMORY: figures of density. MM_STAT is what mm_stat() takes.
memory_of() {
    local pages compressed
    pages=$(($(mm_stat "$2" orig_data_size) / 4096))
    compressed=$(mm_stat "$2" compr_data_size)
    value "memory of a page, in all" "$1" bytes lower "$(ratio "$3" $pages)"
    value "memory of a page, compressed data" "$1" bytes lower "$(ratio "$compressed" $pages)"
    value "memory over compressed data" "$1" ratio lower "$(ratio "$3" "$compressed")"
}

# ---- processes ----

# process_ms PID: its CPU time, with that of threads that have ended; in ticks of 10 ms.
process_ms() { awk '{ print ($14 + $15) * 1000 / '"$(getconf CLK_TCK)"' }' "/proc/$1/stat"; }

# memcg_reclaim CGROUP: swap out what can be, and drop it from the swap cache.
memcg_reclaim() {
    if [[ -e $1/memory.force_empty ]]; then
        echo 0 >"$1/memory.force_empty" || true
    else
        echo 1G >"$1/memory.reclaim" || true
    fi 2>/dev/null
}

# memcg_swapcached CGROUP: bytes.
memcg_swapcached() { awk '$1 == "swapcached" { print $2 }' "$1/memory.stat"; }

# Last, since its first run stops in there, and needs the clean-ups.
# shellcheck source=tests/system/lib.sh
. "${BASH_SOURCE[0]%/*}/../system/lib.sh"
export BENCH=$BUILD/tests/bench
compgen -G "$CORPUS/*.pages" >/dev/null || skip "there is no corpus in $CORPUS (tests/bench/corpus makes it)"
