#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The server has no privileges, and can't do what somebody who had taken it over would try.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"

UZRAMD=$BUILD/tests/system/uzramd_hooks
start_daemon "$DEV" <<'EOT'
size = "64M"
[swap]
enabled = false
EOT

# Of the first server, of one that has replaced another, and of one that stands by.
check_server() {
    local server=$1 task id
    id=$(id -u uzram 2>/dev/null || id -u nobody)
    for task in "/proc/$server/task"/*; do
        [[ $(cat "$task/comm") != iou-* ]] || continue # the kernel's
        grep -Eq "^Uid:(\s+$id){4}$" "$task/status" || fail "$task: $(grep Uid "$task/status")"
        (($(grep -Ec '^Cap(Inh|Prm|Eff|Bnd|Amb):\s+0+$' "$task/status") == 5)) ||
            fail "$task has capabilities: $(grep Cap "$task/status")"
        grep -Eq '^NoNewPrivs:\s+1$' "$task/status" || fail "$task can gain privileges"
        grep -Eq '^Seccomp:\s+2$' "$task/status" || fail "$task has no filter"
    done
    [[ -z $(ls -A "/proc/$server/root/") ]] || fail "its root: $(ls -A "/proc/$server/root/")"
    [[ $(readlink "/proc/$server/ns/net") != $(readlink /proc/self/ns/net) ]] || fail "it has our network"
    # What it has open: no device but these, no directory, nothing of ours.
    for id in "/proc/$server/fd"/*; do
        case $(readlink "$id") in
        /dev/fuse | /dev/null | /dev/cpu_dma_latency | "$T"/*/log | "/run/uzram/$DEV.lock" | socket:* | anon_inode:* | *deleted*) ;;
        *) fail "it has open: $(readlink "$id")" ;;
        esac
    done
}

# attempt WHAT: the server tries it, and fails with EPERM or EACCES.
attempt() {
    if (echo "$1" >"/run/uzram/$DEV/attempt") 2>"$T/attempt"; then
        fail "$1 succeeded"
    fi
    grep -Eq 'not permitted|denied' "$T/attempt" || fail "$1: $(cat "$T/attempt")"
    say "$1: $(sed 's/.*: //' "$T/attempt")"
}

check_servers() {
    local server
    wait_for 60 stand_by "$DEV" || fail "nobody stands by"
    for server in $(server_pids "$DEV"); do
        check_server "$server"
    done
}

check_servers
for what in open socket exec fork root kill trace state; do
    attempt $what
done
kill -KILL "$(server_pid "$DEV")"
wait_for 60 grep -q 1 "/run/uzram/$DEV/initstate"
check_servers
attempt open
[[ $(cat "/run/uzram/$DEV/pid") == "$(daemon_pid "$DEV")" ]] || fail "the supervisor has changed"
stop_daemon "$DEV"
