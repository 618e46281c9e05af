#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kill -9 of the serving processes at random moments, 1 to 400 ms apart, loses nothing: of one device while a hog whose
# pages are mostly swapped out to it verifies them, and of another while fio does. No wrong page, no I/O error, and no
# process is harmed.
#
#   test_kill.sh [KILLS]    (of each device)

LIMIT=$((${1:-120} * 2 + 600))
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio findmnt
need_resend
kills=${1:-120}

start_daemon "$DEV" <<'EOT'
size = "1G"
[swap]
priority = 32767
EOT
start_daemon "$DEV-fio" <<'EOT'
size = "512M"
[swap]
enabled = false
EOT

# A tenth of the working set: nearly every access is a fault.
memcg_new 40
memcg_run "$CG" "$HOG" -m 400 -p 64 >"$T/hog" &
hog=$!
fio --name=verify --filename="/dev/uzram/$DEV-fio" --direct=1 --rw=randrw --bsrange=4k-256k --ioengine=libaio \
    --iodepth=32 --size=256M --time_based --runtime=100000 --verify=crc32c --verify_fatal=1 --verify_backlog=256 \
    --verify_state_save=0 --buffer_compress_percentage=60 --output="$T/fio.txt" &
fio=$!
wait_for 60 pages_stored "$DEV" 60000 || fail "the hog swaps too slowly: $(mm_stat "$DEV" orig_data_size) bytes"

"$KILLER" "/dev/uzram/$DEV" "$(daemon_pid "$DEV")" "$kills" >"$T/killer.swap" 2>&1 &
killer=$!
"$KILLER" "/dev/uzram/$DEV-fio" "$(daemon_pid "$DEV-fio")" "$kills" >"$T/killer.fio" 2>&1 ||
    fail "fio's device: $(cat "$T/killer.fio")"
wait $killer || fail "swap: $(cat "$T/killer.swap")"
say "swap: $(tail -n 1 "$T/killer.swap")"
say "fio:  $(tail -n 1 "$T/killer.fio")"

# They have been verifying all the time; now they are to say what they found.
! ended $hog || fail "the hog has ended: $(cat "$T/hog")"
! ended $fio || fail "fio has ended: $(cat "$T/fio.txt")"
kill -INT $fio
wait $fio || : # 128, even if it has found no error
grep -q 'err= 0' "$T/fio.txt" || fail "fio: $(cat "$T/fio.txt")"
xargs kill -TERM <"$CG/cgroup.procs"
wait $hog || fail "the hog: $(cat "$T/hog")"
say "$(grep -h 'hog child' "$T/hog")"
for name in "$DEV" "$DEV-fio"; do
    [[ $(cat "/run/uzram/$name/pid") == "$(daemon_pid "$name")" ]] || fail "the supervisor of $name has changed"
    assert_no_errors "$name"
    # On a busy machine a kill may hit the spare that was about to take over: that is one restart.
    (($(metric "$name" server_restarts_total) >= kills / 4)) || fail "too few restarts of $name"
    say "$name: $(metric "$name" server_restarts_total) restarts; longest recovery" \
        "$(($(metric "$name" recovery_max_nanoseconds) / 1000)) us, longest until the first answer" \
        "$(($(metric "$name" outage_max_nanoseconds) / 1000)) us"
    stop_daemon "$name"
done
