#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The rules of the I/O path: under load the workers touch no memory that is not there already (but for units that they
# populate themselves, where the refill thread gets no CPU), and what the server has mapped is locked.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio

start_daemon "$DEV" <<'EOT'
size = "512M"
[compression]
algorithm = "zstd"
[swap]
enabled = false
[loop]
enabled = false
EOT
disk=/run/uzram/$DEV/disk
server=$(server_pid "$DEV")

# Page faults of the worker threads so far: minor and major.
faults() {
    local task
    for task in "/proc/$server/task/"*; do
        [[ $(<"$task/comm") != uz-worker ]] || cut -d' ' -f10,12 "$task/stat"
    done | awk '{ sum += $1 + $2; n++ } END { if (!n) exit 1; print sum }'
}

# A unit has up to 8 pages; its private tables may take some more.
PAGES_A_UNIT=12
own_units() { metric "$DEV" reserve_self_total; }

# load RW COMPRESSIBLE-PERCENT
load() {
    fio --name=load --filename="$disk" --allow_file_create=0 --fallocate=none --direct=1 --rw="$1" --bsrange=512-256k \
        --size=400M --io_size=200M --ioengine=libaio --iodepth=32 --refill_buffers --buffer_compress_percentage="$2" \
        --output="$T/fio.txt"
}

cat "/run/uzram/$DEV/mm_stat" >/dev/null
before=$(faults) units=$(own_units)
load randwrite 50
load randrw 20
fallocate --punch-hole --offset 12345 --length 300M "$disk"
load randwrite 90
load randread 0
more=$(($(faults) - before)) units=$(($(own_units) - units))
say "page faults of the workers: $before before, $more more; units that they have populated: $units"
((more <= units * PAGES_A_UNIT)) || fail "the I/O path has touched fresh memory"

locked=$(awk '/^VmLck:/ { print $2 }' "/proc/$server/status")
resident=$(awk '/^VmRSS:/ { print $2 }' "/proc/$server/status")
((locked > resident)) || fail "$locked KiB locked, $resident KiB resident"
stop_daemon "$DEV"
