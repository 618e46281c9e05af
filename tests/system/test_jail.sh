#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The server has no privileges, and can't do what an attacker that had taken it over would try: by system calls, and by the
# memory that it shares with the supervisor and with other servers.

LIMIT=900
KERNEL_MAY_SAY='I/O error, dev loop' # of requests that such a server does not answer
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
# shellcheck source=tests/system/shared_memory.sh
. "${0%/*}/shared_memory.sh"
need_resend

disk=/run/uzram/$DEV/disk
export UZRAMD=$BUILD/tests/system/uzramd_hooks
start_daemon "$DEV" <<'EOT'
size = "64M"
server.hang_timeout = "2s"
[memory]
limit = "64M"
reserve = "1M"
[swap]
enabled = false
EOT
supervisor=$(daemon_pid "$DEV")
log=$T/$DEV/log

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
    # shellcheck disable=SC2046 # several
    id=$(not_its_own "$server" "$supervisor" $(server_pids "$DEV"))
    [[ -z $id ]] || fail "it has memory that is not its own: $id"
}

# attempt WHAT [MESSAGE]: the server tries it, and fails with EPERM or EACCES, or with that message.
attempt() {
    if (echo "$1" >"/run/uzram/$DEV/attempt") 2>"$T/attempt"; then
        fail "$1 succeeded"
    fi
    grep -Eq "${2:-not permitted|denied}" "$T/attempt" || fail "$1: $(cat "$T/attempt")"
    say "$1: $(sed 's/.*: //' "$T/attempt")"
}

check_servers() {
    local server
    wait_for 60 stand_by "$DEV" || fail "nobody stands by"
    for server in $(server_pids "$DEV"); do
        check_server "$server"
    done
}

# fresh_server: the one that serves has tried enough; end it.
fresh_server() {
    local server
    wait_for 60 stand_by "$DEV" || fail "nobody stands by"
    server=$(server_pid "$DEV")
    kill -KILL "$server"
    wait_for 60 has_other "$server" || fail "the server is not replaced"
    wait_for 60 grep -q 1 "/run/uzram/$DEV/initstate"
}
has_other() { [[ $(server_pid "$DEV") != "$1" ]]; }

# No server dies for three times the time after which one hangs.
quiet() {
    local restarts
    restarts=$(metric "$DEV" server_restarts_total)
    sleep 6
    [[ $(metric "$DEV" server_restarts_total) == "$restarts" ]]
}

# all_well WHAT: the device works, its supervisor is what it was, and does not kill healthy servers for ever.
all_well() {
    wait_for 60 stand_by "$DEV" || fail "$1: nobody stands by"
    dd if="$T/page" of="$disk" bs=4096 seek=7 count=1 conv=notrunc,nocreat status=none || fail "$1: can't write"
    dd if="$disk" bs=4096 skip=7 count=1 status=none | cmp - "$T/page" || fail "$1: wrong data"
    wait_for 120 quiet || fail "$1: healthy servers are killed"
    [[ $(cat "/run/uzram/$DEV/pid") == "$supervisor" ]] || fail "$1: the supervisor has changed"
    ! ended "$supervisor" || fail "$1: the supervisor has ended"
    ! grep -aqP '[^\x20-\x7e]' "$log" || fail "$1: in the log: $(grep -aP '[^\x20-\x7e]' "$log" | cat -v | head)"
}
head -c 4096 /dev/urandom >"$T/page"

# ---- system calls ----

check_servers
for what in open socket exec fork root kill trace state; do
    attempt $what
done
fresh_server
check_servers
attempt open

# ---- memory: what it maps itself, and the arena ----

arena_mib() {
    local fd
    for fd in "/proc/$supervisor/fd"/*; do
        [[ $(readlink "$fd") != /#*deleted* ]] || echo $(($(stat -Lc %b "$fd") >> 11))
    done
}
mem_available() { awk '/^MemAvailable:/ { print $2 >> 10 }' /proc/meminfo; }
is_trimmed() { (($(arena_mib) < 32)); }

attempt memory 'Cannot allocate memory|temporarily unavailable' # the latter where RLIMIT_MEMLOCK can't be lifted
attempt shared-memory
attempt arena 'Bad address'
(($(arena_mib) < 160)) || fail "with a limit of 64 MiB the arena has $(arena_mib) MiB"
say "with a limit of 64 MiB it got $(arena_mib) MiB"
fresh_server
wait_for 60 is_trimmed || fail "$(arena_mib) MiB stay"
all_well memory

# The bound goes by the configuration, not by what is written to mem_limit.
if (echo 96M >"/run/uzram/$DEV/mem_limit") 2>"$T/attempt"; then
    fail "the limit was raised beyond what the configuration says"
fi
grep -q 'Invalid argument' "$T/attempt" || fail "mem_limit: $(cat "$T/attempt")"
sed -i 's/^limit = .*/limit = "96M"/' "$T/$DEV/config.toml"
timeout 60 "$BUILD/daemon/uzramctl" upgrade "$DEV" || fail "no reload"
attempt arena 'Bad address'
(($(arena_mib) > 160 && $(arena_mib) < 200)) || fail "with a limit of 96 MiB the arena has $(arena_mib) MiB"
say "with a limit of 96 MiB it got $(arena_mib) MiB"
fresh_server
wait_for 60 is_trimmed || fail "$(arena_mib) MiB stay"

# ---- what the supervisor reads: the status, at every extreme, while a server does as it should ----

"$PYTHON" - "$supervisor" <<'EOT'
import os, random, sys, time
fds = "/proc/%s/fd/" % sys.argv[1]
path = next(fds + fd for fd in os.listdir(fds) if "uzram-status" in os.readlink(fds + fd))
status = os.open(path, os.O_RDWR)
words = os.fstat(status).st_size // 8
extremes = [0, 1, 0x7f, 0xff, 2**31, 2**32 - 1, 2**52, 2**63 - 1, 2**63, 2**64 - 1]
random.seed(1)
end = time.monotonic() + 15
while time.monotonic() < end:
    for extreme in extremes:
        for word in random.sample(range(words), words):
            os.pwrite(status, extreme.to_bytes(8, "little"), 8 * word)
            time.sleep(0.0005)
EOT
all_well status

# A heartbeat that is held still costs servers, but no more once that has ended.
"$PYTHON" - "$supervisor" <<'EOT'
import os, sys, time
fds = "/proc/%s/fd/" % sys.argv[1]
path = next(fds + fd for fd in os.listdir(fds) if "uzram-status" in os.readlink(fds + fd))
status = os.open(path, os.O_RDWR)
end = time.monotonic() + 15
while time.monotonic() < end:
    os.pwrite(status, (1).to_bytes(8, "little") * 2, 0) # heartbeat_ns, serving_ns
    time.sleep(0.0002)
EOT
say "$(grep -c 'hangs' "$log" || :) servers were taken for hanging ones meanwhile"
all_well heartbeat

# ---- ... and what it is asked, and what the kernel is told ----

attempt requests 'Bad message'
all_well requests
attempt replies 'No such file or directory'
all_well replies

# ---- its own ring ----

attempt ring
fresh_server
all_well ring

# ---- the arena's superblock: no other server can start, and each says so; those that are there serve on ----

echo superblock >"/run/uzram/$DEV/attempt" || fail "can't spoil the superblock"
: >"$log"
kill -KILL "$(server_pids "$DEV" | cut -d' ' -f3)"
wait_for 60 grep -q "can't open the store" "$log" || fail "a server starts with any superblock"
! grep -q 'killed by signal [^9]' "$log" || fail "a server has crashed"
dd if="$disk" bs=4096 skip=7 count=1 status=none | cmp - "$T/page" || fail "superblock: wrong data"
stop_daemon "$DEV"
