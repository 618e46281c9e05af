# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the cases under systemd share. Each finds the device in use as swap, and leaves it so.

set -euo pipefail

UNIT=uzramd@swap0.service

say() { echo "$(cut -d ' ' -f 1 /proc/uptime) $*"; }
fail() { say "FAIL: $*"; exit 1; }

# wait_for SECONDS COMMAND...: try it until it succeeds; fails after SECONDS, which only end a test that would wait for ever.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# What a case says that ends before it should have.
set -E
trap 'echo "FAIL: ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR

# property UNIT NAME
property() { systemctl show --property="$2" --value "$1"; }

active() { systemctl is-active --quiet "$UNIT"; }
device() { readlink --canonicalize-existing /dev/uzram/swap0; }
in_use() { grep -q "^$(device) " /proc/swaps; }
supervisor() { property "$UNIT" MainPID; }

# The one that serves: it holds the first of the locks that they wait for.
server() {
    local pid
    for pid in $(servers); do
        ! grep -q "^[0-9]*: POSIX  ADVISORY  WRITE $pid [0-9a-f:]* 0 0$" /proc/locks || { echo "$pid"; return; }
    done
}

# Those that serve and stand by.
servers() {
    local supervisor
    supervisor=$(supervisor)
    cat "/proc/$supervisor/task/$supervisor/children"
}

# Before 6.9 the kernel can't send again what a dead server had not answered, and the device ends with its server.
outlives_server() { [[ $(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1) == 6.9 || $(device) == /dev/ublk* ]]; }

# metric METRIC: the value of uzram_METRIC.
metric() { sed -n "s/^uzram_$1{[^}]*} //p" /run/uzram/swap0/metrics; }

stored_mib() {
    local orig_data_size
    read -r orig_data_size _ </run/uzram/swap0/mm_stat
    echo $((orig_data_size >> 20))
}

# said TEXT: by the unit, or by systemd of it, since this case began.
said() { journalctl --quiet --boot --output=cat --since="$CASE_BEGAN" --unit="$UNIT" | grep -q "$1"; }

# The device is stopped, and nothing is left of it.
gone() {
    ! pgrep uzramd || fail "still running"
    [[ $(wc -l </proc/swaps) == 1 ]] || fail "still in use: $(tail -n 1 /proc/swaps)"
    [[ ! -e /run/uzram && ! -e /dev/uzram/swap0 ]] || fail "left behind: $(ls -d /run/uzram/* /dev/uzram/*)"
}

# hog_swapped_out MIB: have a process with so much memory, most of which is swapped out. It outlives everything, a shutdown
# too, until hog_verifies.
hog_swapped_out() {
    rm -f /run/hog
    systemd-run --quiet --unit=hog --property=DefaultDependencies=no --property=RemainAfterExit=yes \
        --property=MemoryHigh=24M --property=StandardOutput=file:/run/hog \
        bash -c "sleep infinity | exec hog -w -m $1 -p 1"
    wait_for 240 grep -q holding /run/hog || fail "the hog is not ready: $(cat /run/hog)"
    (($(stored_mib) > $1 / 2)) || fail "only $(stored_mib) MiB are swapped out"
    systemctl set-property --runtime hog.service MemoryHigh=infinity # swapoff is to find room
}

# All its memory must be as it was.
hog_verifies() {
    pkill --exact sleep
    wait_for 240 grep -q ' wrong=' /run/hog || fail "the hog is stuck, or dead"
    say "$(tail -n 1 /run/hog)"
    grep -q ' wrong=0$' /run/hog || fail "the hog has found wrong pages"
    wait_for 120 hog_ended || fail "the hog has not ended"
    systemctl stop hog
}

hog_ended() { [[ $(property hog SubState) == exited ]]; }
