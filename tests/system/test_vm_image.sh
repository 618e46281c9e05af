#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The disk file as a raw VM image under QEMU's block layer: with direct I/O, both asynchronous engines, and a guest's
# discards (discard=unmap) giving memory back.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need qemu-img qemu-io

start_daemon "$DEV" <<'EOT'
size = "512M"
[swap]
enabled = false
[loop]
enabled = false
EOT
disk=/run/uzram/$DEV/disk

# qemu_io COMMAND...: on the disk as QEMU opens it with cache=none, discard=unmap.
qemu_io() {
    local args=() command
    for command; do
        args+=(-c "$command")
    done
    qemu-io -f raw -t none -i "$engine" -d unmap "${args[@]}" "$disk" >"$T/qemu-io.txt" || {
        cat "$T/qemu-io.txt"
        return 1
    }
}

# An image of all sorts, written by qemu-img and compared by it.
head -c 5M /dev/urandom >"$T/random"
qemu-img create -q -f qcow2 "$T/source" 512M
qemu-io -c "write -s $T/random 1M 96M" -c "write -P 0x42 200M 64M" -c "write -P 7 511M 1M" "$T/source" >/dev/null
qemu-img convert -n -t none -T none -O raw "$T/source" "$disk"
qemu-img compare -f qcow2 -F raw "$T/source" "$disk"

for engine in threads native io_uring; do
    qemu_io "write -s $T/random 100M 64M" "write -P 0x5a 300M 1M" "write -P 0xa5 301M 512" \
        "aio_write -P 1 310M 1M" "aio_write -P 2 311M 1M" "aio_write -P 3 312M 1M" aio_flush flush
    qemu_io "read -P 0x5a 300M 1M" "read -P 0xa5 301M 512" "read -P 1 310M 1M" "read -P 2 311M 1M" "read -P 3 312M 1M"
    ! qemu_io "read -P 0x5b 300M 1M" >/dev/null || fail "qemu-io doesn't see a wrong pattern"

    before=$(mm_stat "$DEV" orig_data_size)
    used=$(mm_stat "$DEV" mem_used_total)
    qemu_io "discard 100M 64M" "write -z -u 300M 1M" "read -P 0 100M 64M" "read -P 0 300M 1M"
    echo 1 >"/run/uzram/$DEV/flush"
    freed=$((before - $(mm_stat "$DEV" orig_data_size)))
    back=$((used - $(mm_stat "$DEV" mem_used_total)))
    say "$engine: 65 MiB discarded: $(mib $freed) MiB of pages and $(mib $back) MiB of memory freed"
    ((freed == 65 << 20)) || fail "the discarded pages are still stored"
    (($(mib "$back") >= 60)) || fail "memory is not given back"
done

stop_daemon "$DEV"
