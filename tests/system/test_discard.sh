#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Discarding a full device: mm_stat falls to nearly nothing and the memory goes back to the kernel, through the block
# device as through the file.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio blkdiscard fallocate

size=1G
start_daemon "$DEV" <<EOT
size = "$size"
[swap]
enabled = false
EOT

# Bytes that the arena's file has allocated: its share of Shmem, which is everybody's.
arena() {
    stat -L -c '%F %b' "/proc/$(daemon_pid "$DEV")/fd/"* 2>/dev/null |
        awk '/^regular/ && $NF > max { max = $NF } END { print max * 512 }'
}
shmem() { awk '/^Shmem:/ { print $2 * 1024 }' /proc/meminfo; }
memory_is_back() { (($(arena) <= full - (full - before) * 95 / 100)); }

# fill_and_discard COMMAND...
fill_and_discard() {
    local before full used start ended_at shmem_full
    before=$(arena)
    fio --name=fill --filename="/dev/uzram/$DEV" --rw=write --bs=1M --direct=1 --ioengine=psync --size=$size \
        --refill_buffers --buffer_compress_percentage=50 --buffer_compress_chunk=4k >/dev/null
    full=$(arena)
    shmem_full=$(shmem)
    used=$(mm_stat "$DEV" mem_used_total)
    (($(mm_stat "$DEV" orig_data_size) == 1 << 30)) || fail "not filled: $(cat "/run/uzram/$DEV/mm_stat")"
    ((full - before > used * 9 / 10)) || fail "the arena's file does not show the store's memory"

    start=$(now_ms)
    "$@"
    ended_at=$(now_ms)
    wait_for 60 memory_is_back ||
        fail "arena: $(mib "$before") MiB before, $(mib "$full") full, still $(mib "$(arena)") after 60 s"
    say "$1: took $((ended_at - start)) ms; $(($(now_ms) - start)) ms after its start the arena had gone from" \
        "$(mib "$full") to $(mib "$(arena)") MiB ($(mib "$before") before all), Shmem from" \
        "$(mib "$shmem_full") to $(mib "$(shmem)") MiB"
    say "mm_stat: $(cat "/run/uzram/$DEV/mm_stat")"
    (($(mm_stat "$DEV" orig_data_size) == 0)) || fail "pages are still stored"
    (($(mm_stat "$DEV" mem_used_total) <= used / 50)) || fail "the store still holds memory"
    cmp -n $((1 << 30)) "/dev/uzram/$DEV" /dev/zero
}

fill_and_discard blkdiscard "/dev/uzram/$DEV"
fill_and_discard fallocate --punch-hole --offset 0 --length $size "/run/uzram/$DEV/disk"
stop_daemon "$DEV"
