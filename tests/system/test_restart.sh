#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kill -9 of the server, again and again, while fio verifies what it writes: no error, no lost page. (Linux 6.9 and later:
# before that the kernel can't send again what was not answered.)

LIMIT=90
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio pgrep

# resend: whether this kernel answers FUSE_NOTIFY_RESEND. It has no flag that user space can ask for.
[[ $(printf '%s\n6.9\n' "$(uname -r)" | sort -V | head -n 1) == 6.9 ]] || skip "Linux $(uname -r) can't resend FUSE requests"

start_daemon "$DEV" <<'EOT'
size = "512M"
[swap]
enabled = false
EOT
supervisor=$(daemon_pid "$DEV")

fio --name=verify --filename="/dev/uzram/$DEV" --direct=1 --rw=randrw --bsrange=4k-256k --ioengine=libaio --iodepth=32 \
    --size=256M --time_based --runtime=15 --verify=crc32c --verify_fatal=1 --verify_backlog=256 --verify_state_save=0 \
    --buffer_compress_percentage=60 --output="$T/fio.txt" &
fio=$!
kills=0
while kill -0 $fio 2>/dev/null; do
    sleep "0.$((RANDOM % 30 + 10))"
    pkill -KILL -P "$supervisor" && kills=$((kills + 1))
done
wait $fio || fail "fio: $(cat "$T/fio.txt")"
say "$kills servers killed"
((kills > 20)) || fail "only $kills kills"
[[ $(cat "/run/uzram/$DEV/pid") == "$supervisor" ]] || fail "the supervisor has changed"
grep -q 'corruptions_total.* 0$' "/run/uzram/$DEV/metrics" || fail "damaged pages"
read -r failed_reads failed_writes invalid _ <"/run/uzram/$DEV/io_stat"
[[ "$failed_reads $failed_writes $invalid" == "0 0 0" ]] || fail "io_stat: $(cat "/run/uzram/$DEV/io_stat")"
stop_daemon "$DEV"
