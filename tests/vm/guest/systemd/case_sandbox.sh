# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the unit and the daemon shut themselves off from, as the kernel sees it; and that they miss nothing.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

# status PID FIELD
status() { awk -v "field=$2:" '$1 == field { print $2 }' "/proc/$1/status"; }

# PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE are what PR_SET_IO_FLUSHER sets.
check_thread() {
    local flags
    flags=$(sed 's/.*) //' "$1/stat" 2>/dev/null | cut -d ' ' -f 7)
    [[ -n $flags ]] || return 0 # it has ended meanwhile
    (((flags & 0x180000) == 0x180000)) || fail "not an I/O flusher: $(cat "$1/stat")"
    threads=$((threads + 1))
}

# The memory reclaim waits for all of them: they must not wait for it, nor be its victims.
check_process() {
    local thread
    [[ $(cat "/proc/$1/oom_score_adj") == -1000 ]] || fail "the OOM killer may choose process $1"
    [[ $(status "$1" VmSwap) == 0 ]] || fail "process $1 is swapped out itself"
    [[ $(status "$1" Seccomp) == 2 && $(status "$1" NoNewPrivs) == 1 ]] || fail "process $1 may call what it likes"
    for thread in "/proc/$1"/task/*; do
        check_thread "$thread"
    done
}

check_server() {
    local set
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do
        [[ $(status "$1" $set) == 0000000000000000 ]] || fail "server $1 has capabilities: $set $(status "$1" $set)"
    done
    [[ $(status "$1" Uid) == "$(id -u uzram)" && $(status "$1" Gid) == "$(id -g uzram)" ]] || fail "server $1 is not uzram"
    [[ -z $(ls -A "/proc/$1/root/") ]] || fail "server $1 sees files: $(ls -A "/proc/$1/root/")"
    [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/1/ns/net)" ]] || fail "server $1 sees the network"
}

# in_its_cgroup COMMAND...: as the unit's own processes would.
in_its_cgroup() (
    echo "$BASHPID" >"/sys/fs/cgroup$(property "$UNIT" ControlGroup)/cgroup.procs"
    "$@"
)

threads=0
check_process "$(supervisor)"
for server in $(servers); do
    check_process "$server"
    check_server "$server"
done
say "$threads threads are I/O flushers"
[[ $(readlink "/proc/$(supervisor)/ns/mnt") == "$(readlink /proc/1/ns/mnt)" ]] || fail "nobody sees its mounts"

# What takes no time from others takes it when they have none to do: the drain.
policies=$(ps -eLo comm,cls | awk '$1 == "uz-drain" { print $2 }' | sort -u)
[[ $policies == B ]] || fail "the drain's scheduling policy is $policies"

in_its_cgroup head -c 1 /dev/zero >/dev/null # which every unit may
! in_its_cgroup head -c 1 /dev/vda >/dev/null 2>&1 || fail "it may read the disk"
! journalctl --quiet --boot --unit="$UNIT" | grep -Ei 'denied|not permitted|EPERM|refused' || fail "it misses something"
! dmesg | grep -Ei 'audit.*(type=1326|denied)' || fail "it misses something"
