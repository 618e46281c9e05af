#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Stopping, refusing to stop, and starting where a dead daemon has left its things.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt
dir=/run/uzram/$DEV

start() {
    start_daemon "$DEV" <<'EOT'
size = "1G"
[swap]
priority = 32767
EOT
    swap=$(readlink -f "/dev/uzram/$DEV")
    grep -q "^$swap " /proc/swaps || fail "$swap is not in /proc/swaps"
}

swap_used() { awk -v dev="$swap" '$1 == dev { print $4 }' /proc/swaps; }

# log_has REGEX: the daemon has said so.
log_has() { grep -Eqi "$1" "$T/$DEV/log"; }

# ---- a second daemon of the same name is refused and disturbs nothing ----

start
status=0
timeout 60 "$UZRAMD" --config "$T/$DEV/config.toml" >"$T/second" 2>&1 || status=$?
((status != 0 && status != 124)) || fail "the second daemon: status $status"
grep -Eq "$DEV.*(already|running|in use)" "$T/second" || fail "unclear: $(cat "$T/second")"
say "second daemon: $(cat "$T/second")"
[[ $(cat "$dir/pid") == $(daemon_pid "$DEV") ]] || fail "the first daemon was disturbed"
grep -q "^$swap " /proc/swaps || fail "the first daemon's swap is gone"

# ---- a working directory in the mount, an open control file: nobody's but the device's users hold a stop up ----

mkfifo "$T/leave"
(cd "$dir" && exec setpriv --reuid=65534 --clear-groups cat <"$T/leave") >"$T/left" &
visitor=$!
exec {leave}>"$T/leave" {open}<"$dir/mm_stat"
stop_daemon "$DEV"
exec {open}<&- {leave}>&-
wait $visitor || fail "the visitor was harmed"

# ---- SIGTERM is the supervisor's to give: at shutdown every process gets one ----

start
server=$(server_pid "$DEV")
kill -TERM "$server"
sleep 2
[[ $(server_pid "$DEV") == "$server" && $(cat "$dir/initstate") == 1 ]] || fail "SIGTERM ended a server"

# ---- while swapoff can't succeed, it says so and goes on serving; once it can, it stops, and nobody is harmed ----

# A hog has most of its memory swapped out, in a cgroup too small to take it back. swapoff would get it killed for want
# of memory, unless that is forbidden; then swapoff fails with ENOMEM.
spare_from_oom_killer() {
    local pid
    if [[ -e $CG/memory.oom_control ]]; then
        echo 1 >"$CG/memory.oom_control"
    else
        while read -r pid; do
            echo -1000 >"/proc/$pid/oom_score_adj"
        done <"$CG/cgroup.procs"
    fi
}

memcg_new 128
mkfifo "$T/go"
memcg_run "$CG" "$HOG" -w -m 400 -p 1 <"$T/go" >"$T/hog" &
hog=$!
exec {go}>"$T/go"
wait_for 60 grep -q holding "$T/hog" || fail "the hog is not ready"
spare_from_oom_killer
(($(swap_used) > 150 << 10)) || fail "only $(swap_used) KiB are swapped out"

still_serving() {
    ! ended "$(daemon_pid "$DEV")" || fail "the daemon ended although swapoff had failed"
    (($(swap_used) > 0)) || fail "swap is off"
    [[ $(timeout 60 cat "$dir/initstate") == 1 ]] || fail "the device is not served"
}

! timeout 60 bash -c "echo 1 >$dir/stop" 2>"$T/stop" || fail "writing to stop succeeded"
say "stop: $(cat "$T/stop")"
grep -qi 'cannot allocate memory' "$T/stop" || fail "$(cat "$T/stop")"
log_has "not stopping: $DEV" || fail "the log does not say so"
still_serving

: >"$T/$DEV/log"
kill -TERM "$(daemon_pid "$DEV")"
wait_for 60 log_has "not stopping: $DEV" || fail "no message about the refused stop"
say "SIGTERM: $(tail -n 1 "$T/$DEV/log")"
still_serving

# A stop that was asked for by signal is tried again.
memcg_limit "$CG" 1024
start=$(now_ms)
await_end "$DEV"
say "stopped with swap in use, $(($(now_ms) - start)) ms after it could"
exec {go}>&-
wait "$hog" || fail "the hog was harmed"

# ---- a daemon of which all is killed leaves a dead mount, a loop device, swap and a link: the next start tidies up ----

start
# Nobody else's pages are to be lost with it, and some machines swap out whatever is idle.
swapoff "$swap"
swapon --priority 0 "$swap"
wait_for 60 stand_by "$DEV" || fail "nobody stands by" # no other one is on its way
read -ra servers <<<"$(server_pids "$DEV")"
kill -KILL "$(daemon_pid "$DEV")" "${servers[@]}"
wait "$(daemon_pid "$DEV")" 2>/dev/null || :
say "after SIGKILL: $(residue "$DEV" | tr '\n' ';')"
start
[[ $(cat "$dir/pid") == $(daemon_pid "$DEV") ]] || fail "not served by the new daemon"
(($(loops_of "$DEV" | wc -l) == 1)) || fail "loop devices: $(loops_of "$DEV")"
(($(grep -c " /run/uzram/$DEV " /proc/self/mountinfo) == 1)) || fail "more than one mount"
dd if=/dev/urandom of="$dir/disk" bs=1M seek=900 count=1 conv=notrunc status=none
stop_daemon "$DEV"
