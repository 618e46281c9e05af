#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The machine has no memory for what it takes to make a server (refuse.c): each refusal ends in a message and another try,
# and meanwhile the device is served.

LIMIT=900
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need_resend
calls=(fork pidfd_open socketpair mmap pthread_create io_uring) # as refuse.c has them
disk=/run/uzram/$DEV/disk

export REFUSE=$T/refuse
head -c $((${#calls[@]} + 2)) /dev/zero >"$REFUSE"
LD_PRELOAD=$BUILD/tests/system/librefuse.so start_daemon "$DEV" <<'EOT'
size = "64M"
[swap]
enabled = false
EOT

# set_byte INDEX VALUE: of refuse.c's file.
set_byte() { printf '%b' "\\x$(printf %02x "$2")" | dd of="$REFUSE" bs=1 seek="$1" conv=notrunc status=none; }
# refuse CALL TIMES: the next ones of the daemon's fail.
refuse() {
    local i
    for i in "${!calls[@]}"; do
        [[ ${calls[i]} != "$1" ]] || set_byte "$i" "$2"
    done
}
none_left() { cmp -s -n ${#calls[@]} "$REFUSE" /dev/zero; }
said() { grep -Eq "$1" "$T/$DEV/log"; }
write_page() { dd if="$T/page" of="$disk" bs=4096 seek="$1" count=1 conv=notrunc status=none; }
read_page() { dd if="$disk" bs=4096 skip="$1" count=1 status=none | cmp - "$T/page"; }
all_well() {
    wait_for 60 none_left || fail "$1: not tried again"
    wait_for 60 stand_by "$DEV" || fail "$1: nobody stands by any more"
    if ! read_page 1 || ! write_page 2 || ! read_page 2; then
        fail "$1: lost a page"
    fi
}
head -c 4096 /dev/urandom >"$T/page"
write_page 1
wait_for 60 stand_by "$DEV" || fail "nobody stands by"

# ---- the server dies, and no other can be made to stand by ----

for call in "${calls[@]}"; do
    : >"$T/$DEV/log"
    refuse "$call" 2
    kill -KILL "$(server_pid "$DEV")"
    all_well "$call"
    said 'a server that was to stand by (can.t be started|exited)' || fail "$call: the log does not say so"
    case $call in
    mmap | pthread_create | io_uring) said "can't (open the store|serve|keep)" || fail "$call: it does not say what" ;;
    esac
    say "$call: $(grep -h 'was to stand by' "$T/$DEV/log" | head -n 1)"
done

# ---- the server dies while a stand-by waits for memory, to know the store as it is by now: the other one goes on ----

warm_waits=${#calls[@]}
somebody_waits() { (($(od -An -tu1 -j $((warm_waits + 1)) -N 1 "$REFUSE"))); }
set_byte "$warm_waits" 1
wait_for 60 somebody_waits || fail "no stand-by makes its store warm"
sleep 4 # the other would have begun to
kill -KILL "$(server_pid "$DEV")"
timeout 60 cat "/run/uzram/$DEV/initstate" >"$T/initstate" || fail "nobody goes on"
read_page 1 || fail "lost a page"
set_byte "$warm_waits" 0
all_well "a stand-by that waits"

# ---- all of them die: nobody serves until there is memory for one ----

for call in fork pidfd_open socketpair; do
    : >"$T/$DEV/log"
    refuse "$call" 8
    # shellcheck disable=SC2046 # several
    kill -KILL $(server_pids "$DEV")
    read_page 1 || fail "$call: lost a page"
    all_well "$call, all dead"
done

# ---- an upgrade ----

for call in "${calls[@]}"; do
    : >"$T/$DEV/log"
    before=$(cat "/run/uzram/$DEV/upgrade")
    server=$(server_pid "$DEV")
    refuse "$call" 1
    ! timeout 60 "$BUILD/daemon/uzramctl" upgrade --timeout 50 "$DEV" 2>"$T/ctl" || fail "$call: upgraded"
    grep -q refused "$T/ctl" || fail "$call: unclear: $(cat "$T/ctl")"
    said 'not upgrading: the server of the new uzramd' || fail "$call: the log does not say so"
    [[ $(cat "/run/uzram/$DEV/upgrade") == "$before" && $(server_pid "$DEV") == "$server" ]] || fail "$call: a change"
    all_well "$call, upgrade"
done
timeout 60 "$BUILD/daemon/uzramctl" upgrade "$DEV" || fail "no upgrade when nothing is refused"
(($(cat "/run/uzram/$DEV/upgrade") == before + 1)) || fail "not upgraded"
assert_no_errors "$DEV"
stop_daemon "$DEV"
