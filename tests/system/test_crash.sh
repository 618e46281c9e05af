#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The server dies at each crash point (lib/base/crash.h), again and again, while diskx, which knows what every byte must
# be, reads, writes and discards: no error, no wrong byte. tests/model --crash does the same to the library alone, and
# tests/vm/test_ublk.sh to the other front end.
#
#   test_crash.sh [SECONDS [POINT...]]    (of each point)

LIMIT=$((${1:-2} * 60 + 600))
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need_resend
seconds=${1:-2}
shift || :
UZRAMD=$BUILD/tests/system/uzramd_hooks

# Of how many passes of a point the server survives at most all but one. Points that are passed only when a server
# starts need the help of kills from outside.
declare -A passes=(
    [write-copied]=500 [write-published]=500 [slot-locked]=200 [detached]=500 [pushed]=500 [push-full]=3
    [drain-run]=100 [compact-copied]=30 [compact-published]=30 [trim-submitted]=2 [trim-end]=2 [refill-populated]=10
    [recover-claim]=60000 [recover-restored]=2 [take-over]=1 [init-replayed]=3 [resend-before]=2 [resend-after]=2
    [reply-before]=300 [reply-after]=300)
points=("$@")
((${#points[@]})) || mapfile -t points < <(sed -n 's/.*X([A-Z_]*, "\([a-z-]*\)").*/\1/p' "$HERE/../../lib/base/crash.h" |
    grep -v '^ublk-')
((${#points[@]} == $# || ${#points[@]} == ${#passes[@]})) || fail "${#points[@]} points, but ${#passes[@]} in this test"

traps() { grep -Ec 'killed by signal [45]' "$T/$DEV/log" || :; }

for point in "${points[@]}"; do
    export UZ_CRASH=$point:${passes[$point]}
    start_daemon "$DEV" <<'EOT'
size = "256M"
memory.reserve = "1M"
[swap]
enabled = false
[loop]
enabled = false
EOT
    supervisor=$(daemon_pid "$DEV")
    timeout "$((seconds + 120))" "$DISKX" -u -t 8 -n 1000000 "/run/uzram/$DEV/disk" >"$T/diskx" 2>&1 &
    diskx=$!
    sleep 0.1
    kill -KILL "$(server_pid "$DEV")" # the first server has no crash point
    began=$(now_ms)
    while (($(now_ms) < began + seconds * 1000 || ($(traps) < seconds && $(now_ms) < began + (seconds + 60) * 1000))); do
        case $point in
        take-over) ! stand_by "$DEV" || kill -KILL "$(server_pid "$DEV")" 2>/dev/null || : ;;
        recover-* | init-* | resend-*) kill -KILL "$(server_pid "$DEV")" 2>/dev/null || : ;;
        compact-*) timeout 60 "$BUILD/daemon/uzramctl" compact "$DEV" ;;
        esac
        sleep 0.03
    done
    ! ended $diskx || fail "$point: $(cat "$T/diskx")"
    kill -TERM $diskx
    wait $diskx 2>/dev/null || :
    say "$(printf '%-18s %4d crashes, %4d restarts' "$point" "$(traps)" "$(metric "$DEV" server_restarts_total)")"
    (($(traps) >= seconds)) || fail "$point: too few crashes"
    [[ $(cat "/run/uzram/$DEV/pid") == "$supervisor" ]] || fail "the supervisor has changed"
    assert_no_errors "$DEV"
    stop_daemon "$DEV"
    rm "$T/$DEV/log"
done
