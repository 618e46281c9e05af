#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The disk file under deep queues: fio writes and verifies blocks of all sizes in two regions, while a third is
# written and discarded at once, and diskx does everything at any byte offset in a fourth, its threads sharing pages.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio

start_daemon "$DEV" <<'EOT'
size = "1G"
[swap]
enabled = false
[loop]
enabled = false
EOT
disk=/run/uzram/$DEV/disk

engine=io_uring
fio --name=probe --filename="$disk" --rw=read --bs=4k --size=4k --direct=1 --ioengine=io_uring >/dev/null 2>&1 ||
    engine=libaio
say "ioengine $engine, random seed ${seed:=$RANDOM}"

"$DISKX" -s "$seed" -t 4 -n 3000 -u -o $((768 << 20)) -l $((64 << 20)) "$disk" &
diskx=$!

fio --output="$T/fio.txt" - <<EOT
[global]
filename=$disk
allow_file_create=0
fallocate=none
direct=1
randseed=$seed
bsrange=512-1M
verify_fatal=1
verify_state_save=0

[write-then-verify]
ioengine=$engine
iodepth=32
rw=randwrite
verify=crc32c
size=256M

[read-and-write]
ioengine=$engine
iodepth=32
rw=randrw
verify=crc32c
offset=256M
size=256M

[writes-among-discards]
ioengine=$engine
iodepth=32
rw=randwrite
offset=512M
size=256M
time_based=1
runtime=10

[discards]
ioengine=falloc
rw=randtrim
offset=512M
size=256M
time_based=1
runtime=10
EOT
grep -E '^ *(READ|WRITE|TRIM):|err=' "$T/fio.txt"
wait "$diskx"

# No page is half discarded, or discarded and still stored.
fallocate --punch-hole --offset 512M --length 256M "$disk"
cmp -n $((256 << 20)) "$disk" /dev/zero -i $((512 << 20)):0
blocks=$(stat -c '%b' "$disk")
((blocks * 512 == $(mm_stat "$DEV" orig_data_size))) ||
    fail "fstat: $blocks blocks; mm_stat: $(cat "/run/uzram/$DEV/mm_stat")"

# Alone, on few pages: whatever sizes and offsets diskx can think of.
"$DISKX" -s "$seed" -t 1 -n 2000 -u -l $((4 << 20)) "$disk"
# Since Linux 6.6 it can be mapped, too, and shows the same as reads and writes do.
if [[ $(printf '%s\n' 6.6 "$(uname -r)" | sort -V | head -n 1) == 6.6 ]]; then
    "$PYTHON" - "$disk" <<'EOT'
import mmap, os, sys
disk = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(disk, 1 << 20)
mapping[4096:8192] = b"m" * 4096
assert os.pread(disk, 4096, 4096) == b"m" * 4096, "a read does not see what was written to the mapping"
os.pwrite(disk, b"w" * 4096, 4096)
assert mapping[4096:8192] == b"w" * 4096, "the mapping does not show what was written"
mapping[100:103] = b"end"
mapping.flush()
assert os.pread(os.open(sys.argv[1], os.O_RDONLY), 3, 100) == b"end", "not flushed"
EOT
    fio --name=mapped --filename="$disk" --allow_file_create=0 --fallocate=none --ioengine=mmap --rw=randwrite \
        --bs=4k --size=64M --verify=crc32c --randseed="$seed" --verify_state_save=0 >"$T/fio.txt" || fail "$(cat "$T/fio.txt")"
fi

stop_daemon "$DEV"
