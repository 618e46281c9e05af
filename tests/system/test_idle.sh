#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A daemon that has nothing to do does nothing: none of its threads counts as waiting for I/O, and hardly any wakes up.

LIMIT=900
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"

SPAN=5          # seconds, or longer where this test gets little time itself
WAKEUPS=1600    # of a process in 1000 s: each makes its rounds once a second
CPU_TICKS=20    # of a hundredth of a second, of all threads in that time
WAIT_PERCENT=40 # of the time in which something waits for I/O

# ---- what others can't disturb: the daemon's own threads ----

pids() { echo "$(daemon_pid "$DEV") $(server_pids "$DEV")"; }

# tasks: the directories in /proc of the daemon's threads; but for the kernel's workers, which end by themselves.
tasks() {
    local pid task
    for pid in $(pids); do
        for task in "/proc/$pid/task"/*; do
            [[ $(<"$task/comm") == iou-* ]] || echo "$task"
        done
    done
}

# wakeups: of each thread, how often it has gone to sleep: "PID/task/TID COUNT".
wakeups() {
    local task
    for task in $(tasks); do
        echo "${task#/proc/} $(awk '/^voluntary_ctxt_switches/ { print $2 }' "$task/status")"
    done
}

# cpu_ticks: CPU time of all threads.
cpu_ticks() {
    local task stat total=0
    for task in $(tasks); do
        stat=$(<"$task/stat")
        # shellcheck disable=SC2086 # words
        set -- ${stat##*) }
        total=$((total + ${12} + ${13}))
    done
    echo $total
}

# rests: for a while the daemon's threads do hardly anything.
rests() {
    local start took ticks task before after total=0 most
    start=$(now_ms)
    wakeups >"$T/before"
    ticks=$(cpu_ticks)
    sleep $SPAN
    ticks=$(($(cpu_ticks) - ticks))
    wakeups >"$T/after"
    took=$(($(now_ms) - start))
    while read -r task before after; do
        ((after == before)) || say "$(<"/proc/$task/comm") ($task) woke up $((after - before)) times in $took ms"
        total=$((total + after - before))
    done < <(join <(sort "$T/before") <(sort "$T/after"))
    most=$((WAKEUPS * $(pids | wc -w) * took / 1000000))
    say "in all $total times ($most would be many), and $ticks ticks of CPU time"
    ((total <= most && ticks <= CPU_TICKS))
}

# none_in_ring: no thread sleeps in io_uring_enter(), which the kernel counts as waiting for I/O; else $sleeper does.
none_in_ring() {
    local task number
    for task in $(tasks); do
        read -r number _ <"$task/syscall"
        sleeper=$(<"$task/comm")
        [[ $number != 426 ]] || return 1
    done
}

# ---- what the machine shows ----

pressure_us() { sed -n 's/^some.*total=//p' /proc/pressure/io 2>/dev/null || echo 0; }
iowait_ticks() { awk '$1 == "cpu" { print $6 }' /proc/stat; }

# calm: for a while hardly anything on this machine waits for I/O.
calm() {
    local us ticks start took
    us=$(pressure_us) ticks=$(iowait_ticks) start=$(now_ms)
    sleep 1
    us=$(($(pressure_us) - us)) ticks=$(($(iowait_ticks) - ticks)) took=$(($(now_ms) - start))
    say "in $took ms: I/O pressure $((us / 1000)) ms, a CPU idle for I/O $((ticks * 10)) ms"
    ((us / 10 < WAIT_PERCENT * took && ticks * 1000 < WAIT_PERCENT * took))
}

# Another program may be waiting for I/O at any moment; but a daemon that does, does always.
calm_before=true
wait_for 20 calm || calm_before=false

start_daemon "$DEV" <<'EOT'
size = "256M"
[swap]
enabled = false
EOT
wait_for 60 stand_by "$DEV" || fail "nobody stands by"
wait_for 20 none_in_ring || fail "$sleeper sleeps in io_uring_enter()"
if $calm_before; then
    wait_for 300 calm || fail "an idle daemon waits for I/O"
else
    say "others wait for I/O all the time: no telling whether the daemon does, too"
fi
wait_for 20 rests || fail "an idle daemon does not rest"
none_in_ring || fail "$sleeper sleeps in io_uring_enter()"
stop_daemon "$DEV"
