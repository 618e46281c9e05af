# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the system tests share.
#
# A test sets KERNEL_MAY_SAY (a regular expression of the kernel's complaints that are right) if it provokes any, and LIMIT
# (seconds) if it may take longer than others, and sources this file, which runs it twice. The first run stops in here: it makes the
# scratch directory $T, runs the test again as a child under the time limit, and then carries out the clean-ups that the
# child registered, newest first. So they happen however the child ended, even by SIGKILL, and nothing that is stuck in
# the kernel holds them up. The second run is the test: it fails by ending non-zero (errexit is on), or is skipped (77).

set -euo pipefail
export LC_ALL=C

HERE=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
BUILD=${BUILD:-$(realpath "$HERE/../..")/build}
UZRAMD=${UZRAMD:-$BUILD/daemon/uzramd}
HOG=${HOG:-$BUILD/tests/system/hog}
DISKX=${DISKX:-$BUILD/tests/system/diskx}
KILLER=${KILLER:-$BUILD/tests/system/killer}
: "${LIMIT:=600}"
PYTHON=/usr/bin/python3 # Debian's, which sees Debian's modules, whatever else is in PATH

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
say() { printf '%7d ms  %s\n' $(($(now_ms) - T_START)) "$*"; }
fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# need COMMAND...: skip unless all are installed.
need() {
    local command
    for command; do
        command -v "$command" >/dev/null || skip "$command is not installed (./dev deps)"
    done
}

# wait_for SECONDS COMMAND...: try it until it succeeds; fails after SECONDS. These only end a test that would wait for ever:
# they are many times what it takes, also on a machine that is busy with other things.
wait_for() {
    local deadline=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        (($(now_ms) < deadline)) || return 1
        sleep 0.05
    done
}

# need_resend: skip where the kernel can't send again what a dead server had not answered. It has no flag to ask for.
need_resend() {
    [[ $(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1) == 6.9 ]] || skip "Linux $(uname -r); this takes 6.9"
}

# ended PID: it is no more, or a zombie that nobody fetches.
ended() { ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

# at_exit 'COMMAND': evaluated, as it stands, by the first run when the test is over. (Background jobs need none: they
# are in the test's process group, which is killed first.)
at_exit() { echo "$*" >>"$T/cleanups"; }

mib() { echo $(($1 >> 20)); }

# ---- a device ----

# start_daemon NAME <TOML: run uzramd with that config, to which "name" is added, until it reports READY=1. Its files
# are in $T/NAME. These tests are of FUSE; tests/vm has others.
start_daemon() {
    local name=$1 dir=$T/$1 pid listener
    mkdir -p "$dir"
    { printf '%s\n' "name = \"$name\"" 'frontend = "fuse"'; cat; } >"$dir/config.toml"
    rm -f "$dir/notify"
    "$PYTHON" "$HERE/await_ready.py" "$dir/notify" 60 &
    listener=$!
    wait_for 60 test -S "$dir/notify" || fail "no notify socket"

    # In a session of its own, so that it outlives the test's process group and serves the clean-ups.
    NOTIFY_SOCKET=$dir/notify setsid "$UZRAMD" --config "$dir/config.toml" >>"$dir/log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    at_exit "end_device $name"
    until ended "$listener"; do
        ! ended "$pid" || fail "uzramd $name ended before it was ready"
        sleep 0.02
    done
    wait "$listener" || fail "uzramd $name was not ready within 60 s"
}

daemon_pid() { cat "$T/$1/pid"; }

# stop_daemon NAME: stop it as systemd would; it must end well and leave nothing.
stop_daemon() {
    kill -TERM "$(daemon_pid "$1")"
    await_end "$1"
}

# await_end NAME: it has been told to stop: see it end well and leave nothing.
await_end() {
    local pid
    pid=$(daemon_pid "$1")
    wait_for 60 ended "$pid" || fail "uzramd $1 still runs 60 s after it was told to stop"
    wait "$pid" || fail "uzramd $1 ended with status $?"
    assert_nothing_left "$1"
    rm "$T/$1/pid"
}

# mm_stat NAME FIELD: a field by zram's name for it. A directory such as /sys/block/zram0 may stand for NAME.
mm_stat() {
    local dir=/run/uzram/$1
    local orig_data_size compr_data_size mem_used_total mem_limit mem_used_max
    local same_pages pages_compacted huge_pages huge_pages_since
    [[ $1 != /* ]] || dir=$1
    # shellcheck disable=SC2034 # they are read through ${!2}
    read -r orig_data_size compr_data_size mem_used_total mem_limit mem_used_max \
        same_pages pages_compacted huge_pages huge_pages_since <"$dir/mm_stat"
    echo "${!2}"
}

# metric NAME METRIC: the value of uzram_METRIC.
metric() { sed -n "s/^uzram_$2{[^}]*} //p" "/run/uzram/$1/metrics"; }

# pages_stored NAME PAGES: at least so many are.
pages_stored() { (($(mm_stat "$1" orig_data_size) >> 12 >= $2)); }

# No request to NAME has failed, and nothing was found damaged.
assert_no_errors() {
    local failed_reads failed_writes invalid
    (($(metric "$1" corruptions_total) == 0)) || fail "$1: damaged pages"
    read -r failed_reads failed_writes invalid _ <"/run/uzram/$1/io_stat"
    [[ "$failed_reads $failed_writes $invalid" == "0 0 0" ]] || fail "io_stat of $1: $(cat "/run/uzram/$1/io_stat")"
}

# The processes that serve NAME, and stand by to.
server_pids() { cat "/proc/$(daemon_pid "$1")/task/$(daemon_pid "$1")/children"; }

# Two servers stand by, with all they need: each waits for a lock.
stand_by() {
    local pid waiting=0
    for pid in $(server_pids "$1"); do
        ! grep -q -- "-> POSIX  ADVISORY  WRITE $pid " /proc/locks || waiting=$((waiting + 1))
    done
    ((waiting == 2))
}

# The one that serves: it holds the first of the locks that they wait for.
server_pid() {
    local pid
    for pid in $(server_pids "$1"); do
        ! grep -q "^[0-9]*: POSIX  ADVISORY  WRITE $pid [0-9a-f:]* 0 0$" /proc/locks || { echo "$pid"; return; }
    done
}

# The loop devices that stand on NAME's disk.
loops_of() {
    local backing
    for backing in /sys/block/loop*/loop/backing_file; do
        [[ $(cat "$backing" 2>/dev/null) == */"$1"/disk* ]] || continue
        backing=${backing#/sys/block/}
        echo "/dev/${backing%%/*}"
    done
}

# The number of NAME's FUSE connection. (From mountinfo, since stat would ask a daemon that may be stuck.)
fuse_connection() {
    awk -v mount="/run/uzram/$1" '$5 == mount { split($3, dev, ":"); print dev[2] }' /proc/self/mountinfo
}

# What there still is of NAME, one thing a line.
residue() {
    local name=$1 loop
    [[ -z $(fuse_connection "$name") ]] || echo "mount /run/uzram/$name"
    [[ ! -d /run/uzram/$name ]] || echo "directory /run/uzram/$name"
    [[ ! -e /run/uzram/$name.lock ]] || echo "file /run/uzram/$name.lock"
    [[ ! -L /dev/uzram/$name ]] || echo "link /dev/uzram/$name"
    for loop in $(loops_of "$name"); do
        echo "loop device $loop"
        ! grep "^$loop " /proc/swaps || echo "swap on $loop"
    done
    ended "$(daemon_pid "$name")" || echo "process $(daemon_pid "$name")"
}

assert_nothing_left() {
    local left
    left=$(residue "$1")
    [[ -z $left ]] || fail "left behind: $left"
}

# Make every request to NAME fail, waiting ones included, so that whatever hangs on a stuck daemon goes on.
abort_fuse() {
    local connection
    connection=$(fuse_connection "$1")
    [[ -n $connection ]] || return 0
    mkdir -p "$T/fusectl"
    mount -t fusectl fusectl "$T/fusectl"
    echo 1 >"$T/fusectl/$connection/abort"
    umount "$T/fusectl"
}

# Take NAME's swap away. In the background: on a stuck daemon swapoff hangs, and no signal ends it.
swapoff_device() {
    local loop
    for loop in $(loops_of "$1"); do
        swapoff "$loop" 2>/dev/null &
    done
    wait_for 60 not_swap "$1"
}

not_swap() {
    local loop
    for loop in $(loops_of "$1"); do
        ! grep -q "^$loop " /proc/swaps || return 1
    done
}

# Clean-up: make NAME go away, whatever state it is in: politely, then by force.
end_device() {
    local name=$1 pid loop
    [[ -e $T/$name/pid ]] || return 0
    pid=$(daemon_pid "$name")
    kill -TERM "$pid" 2>/dev/null
    wait_for 60 ended "$pid"
    [[ -n $(residue "$name") ]] || return 0
    echo "uzramd $name did not stop or did not tidy up: using force" >&2
    swapoff_device "$name" # while it may still be served
    abort_fuse "$name" # a server that has lost its supervisor ends with this
    kill -KILL "$pid" 2>/dev/null
    swapoff_device "$name"
    for loop in $(loops_of "$name"); do
        losetup -d "$loop"
    done
    rm -f "/dev/uzram/$name" "/run/uzram/$name.lock"
    [[ -z $(fuse_connection "$name") ]] || umount -l "/run/uzram/$name"
    rmdir "/run/uzram/$name" /run/uzram /dev/uzram 2>/dev/null # the last two if they are empty
    wait_for 60 ended "$pid"
    [[ -z $(residue "$name") ]]
}

# ---- memory cgroups, version 1 or 2 ----

# memcg_new MIB: make a cgroup whose processes may have MIB of memory; $CG is its directory.
memcg_new() {
    local root
    if root=$(findmnt -nfo TARGET -t cgroup -O memory); then
        CG=$root/$DEV
    elif root=$(findmnt -nfo TARGET -t cgroup2) && grep -qw memory "$root/cgroup.controllers"; then
        echo +memory >"$root/cgroup.subtree_control"
        CG=$root/$DEV
    else
        skip "there is no memory cgroup controller"
    fi
    mkdir "$CG"
    at_exit "memcg_end '$CG'"
    memcg_limit "$CG" "$1"
}

# memcg_limit CGROUP MIB
memcg_limit() {
    local file=$1/memory.limit_in_bytes
    [[ -e $file ]] || file=$1/memory.max
    echo $(($2 << 20)) >"$file"
}

# memcg_run CGROUP COMMAND...
memcg_run() (
    echo "$BASHPID" >"$1/cgroup.procs"
    shift
    exec "$@"
)

memcg_end() {
    xargs -r kill -KILL <"$1/cgroup.procs" 2>/dev/null
    wait_for 60 rmdir "$1" 2>/dev/null
}

# ---- the first run ----

# What fails is tried once more at the end: it may have waited for something that came after it.
clean_up() {
    local command failed=()
    touch "$T/cleanups"
    while read -r command; do
        eval "$command" || failed+=("$command")
    done < <(tac "$T/cleanups")
    for command in "${failed[@]}"; do
        eval "$command" || { echo "FAIL: clean-up: $command" >&2; STATUS=1; }
    done
}

# The kernel must not have complained about itself meanwhile.
check_kernel_log() {
    local complaints='BUG:|WARNING: CPU|Oops|blocked for more than|possible data corruption|I/O error'
    if dmesg | sed "1,/$DEV begins/d" | grep -Ei "$complaints" | grep -Ev "${KERNEL_MAY_SAY:-^$}"; then
        echo "FAIL: the kernel complained" >&2
        STATUS=1
    fi
}

show_logs() {
    local log
    for log in "$T"/*/log; do
        [[ ! -f $log ]] || { echo "---- ${log#"$T"/}"; tail -n 100 "$log"; } >&2
    done
}

first_run() {
    local child
    T=$(mktemp -d "${TMPDIR:-/tmp}/uztest.XXXXXX")
    DEV=uztest-${T##*.} # what the test may call its device, cgroup, ...
    T_START=$(now_ms)
    STATUS=0
    export T DEV T_START
    set +eu # whatever goes wrong from here on, go on cleaning up
    echo "$DEV begins" >/dev/kmsg
    timeout --kill-after=5 "$LIMIT" "$BASH" "$0" "$@" & # timeout makes a process group
    child=$!
    trap 'kill $child' INT TERM HUP
    wait "$child" || STATUS=$?
    trap '' INT TERM HUP
    wait "$child" 2>/dev/null # again, as a trapped signal ends it early
    kill -KILL -- "-$child" 2>/dev/null
    [[ $STATUS != 124 ]] || echo "FAIL: the time limit of $LIMIT s is over" >&2
    clean_up
    check_kernel_log
    [[ $STATUS == 0 || $STATUS == 77 ]] || show_logs
    rm -rf "$T"
    exit "$STATUS"
}

[[ $EUID == 0 ]] || skip "needs root"
[[ -n ${T-} ]] || first_run "$@"
set -E
trap 'echo "FAIL: ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR
