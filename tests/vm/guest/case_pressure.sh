# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Kills under memory shortage: processes that need more memory than the guest has, and whose every page must be right in
# the end, while the serving process is killed every second. They need $MIB, for at least $PRESSURE seconds, of a device
# with that $FRONTEND. $PROGRAM is the daemon, $CRASH the crash point of its servers, or empty.

set -eu

seconds() { cut -d. -f1 /proc/uptime; }
say() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }
fail() { say "FAIL: $*"; exit 1; }

# Children of $1.
children() { cat "/proc/$1/task/$1/children"; }
# The one that serves: it holds the first of the locks that they wait for.
server() {
    for pid in $(children "$1"); do
        if grep -q "^[0-9]*: POSIX  ADVISORY  WRITE $pid [0-9a-f:]* 0 0$" /proc/locks; then echo "$pid"; fi
    done
}
in_use() { device=$(readlink /dev/uzram/swap0) && grep -q "^$device " /proc/swaps; }
metric() { sed -n "s/^uzram_$1{[^}]*} //p" /run/uzram/swap0/metrics; }
vmstat() { sed -n "s/^$1 //p" /proc/vmstat; }

# The daemon's messages, among the kernel's.
start_daemon() {
    cat >/etc/swap0.toml <<EOT
size = "1G"
frontend = "$FRONTEND"
[memory]
limit = "320M"
reserve = "48M"
EOT
    [ -z "$CRASH" ] || export UZ_CRASH="$CRASH"
    $PROGRAM --config /etc/swap0.toml >/dev/kmsg 2>&1 &
    supervisor=$!
    until in_use; do
        kill -0 $supervisor || fail "uzramd has ended"
        usleep 50000
    done
}

# check_thread STAT-FILE: PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE are what PR_SET_IO_FLUSHER sets.
check_thread() {
    flags=$(sed 's/.*) //' "$1" 2>/dev/null | cut -d' ' -f7)
    [ -n "$flags" ] || return 0 # it has ended meanwhile
    [ $((flags & 0x180000)) = $((0x180000)) ] || fail "not an I/O flusher: $(cat "$1")"
}

# Memory reclaim waits for them: they must not wait for it, nor be its victims.
check_processes() {
    for pid in $supervisor $(children $supervisor); do
        [ "$(cat "/proc/$pid/oom_score_adj")" = -1000 ] || fail "the OOM killer may choose process $pid"
        for thread in "/proc/$pid"/task/*; do
            check_thread "$thread/stat"
        done
    done
}

# Let processes fill and compare their memory, once at least, until $1.
press_until() {
    hog -m "$MIB" -p 1 -k 2 || return 1
    while [ "$(seconds)" -lt "$1" ]; do
        hog -m "$MIB" -p 1 -k 2 || return 1
    done
}

# Whether $1 others have all they need to go on: each waits for a lock. (Where a server dies while none has, the next one
# must have memory that there may not be while nobody serves the swap.)
stand_by() {
    waiting=0
    for pid in $(children $supervisor); do
        ! grep -q -- "-> POSIX  ADVISORY  WRITE $pid " /proc/locks || waiting=$((waiting + 1))
    done
    [ $waiting -ge "$1" ]
}

# Kill the server every second while process $1 runs, if another one stands by, or two where the first is to die, too.
kill_during() {
    kills=0
    killed=
    needed=$([ -z "$CRASH" ] && echo 1 || echo 2)
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        server=$(server $supervisor)
        # There may be none yet, or still the one that is dead.
        if [ -n "$server" ] && [ "$server" != "$killed" ] && stand_by "$needed"; then
            kill -KILL "$server"
            killed=$server
            kills=$((kills + 1))
        fi
    done
}

check_log() {
    deaths=$(dmesg | grep -c -E 'the server was killed|stood by was killed') || true
    say "$kills kills, $deaths deaths, $(vmstat pswpin) pages swapped in, $(vmstat pswpout) out; longest until the next" \
        "server answered $(($(metric outage_max_nanoseconds) / 1000000)) ms"
    [ "$deaths" = $((kills * needed)) ] || fail "one is missing"
    [ $kills -gt 3 ] || fail "that was not enough"
    [ "$(vmstat pswpout)" -gt 10000 ] || fail "that was no shortage"
    ! dmesg | grep -E 'error, dev |-error on swap|page allocation failure|WARNING:|BUG:' || fail "the kernel complained"
}

start_daemon
until stand_by 2; do usleep 50000; done
check_processes
say "$MIB MiB, for at least $PRESSURE s"
press_until $(($(seconds) + PRESSURE)) &
kill_during $!
wait $! || fail "wrong pages, or a dead process"
until stand_by 2; do usleep 50000; done
check_processes
check_log
uzramctl stop swap0
wait $supervisor || fail "uzramd ended with status $?"
[ "$(wc -l </proc/swaps)" = 1 ] || fail "still in use"
say "stopped"
