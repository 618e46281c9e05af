# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# The ublk front end. Needs $POINT_SECONDS for each crash point, and $KILLS of a server.

set -eu

seconds() { cut -d. -f1 /proc/uptime; }
say() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }
fail() { say "FAIL: $*"; exit 1; }

children() { cat "/proc/$1/task/$1/children"; }
metric() { sed -n "s/^uzram_$2{[^}]*} //p" "/run/uzram/$1/metrics"; }
stored_kib() { awk '{ print $1 / 1024 }' "/run/uzram/$1/mm_stat"; }
device() { readlink "/dev/uzram/$1"; }
queue() { cat "/sys/block/$(basename "$(device "$1")")/queue/$2"; }
discard() { /bin/blkdiscard --force "$@"; } # not busybox's own
nodes() { find /dev -name 'ublk[bc]*'; }

# start PROGRAM NAME [TOML-LINE...]: a device of 64 MiB, not in use as swap unless a line says so; $supervisor is its.
start() {
    program=$1 name=$2
    shift 2
    mkdir -p /etc/uzram
    {
        printf '%s\n' "name = \"$name\"" 'size = "64M"' 'frontend = "auto"' 'memory.reserve = "1M"' "$@"
        case "$*" in *swap*) ;; *) echo 'swap.enabled = false' ;; esac
    } >"/etc/uzram/$name.toml"
    "$program" --config "/etc/uzram/$name.toml" >/dev/kmsg 2>&1 &
    supervisor=$!
    give_up=$(($(seconds) + 120))
    until uzramctl list --noheadings | grep -q "^$name .*" && [ -e "/dev/uzram/$name" ]; do
        [ "$(seconds)" -lt $give_up ] || fail "$name has not started"
        kill -0 $supervisor || fail "$name has ended"
        usleep 50000
    done
}

# stop NAME SUPERVISOR
stop() {
    uzramctl stop "$1" || fail "$1 can't be stopped"
    wait "$2" || fail "uzramd $1 ended with status $?"
}

# shellcheck source=tests/system/shared_memory.sh
. /shared_memory.sh

# Two more than serve, with all they need.
has_servers() { [ "$(children "$1" | wc -w)" -eq 3 ]; }
stand_by() { has_servers "$1" && [ "$(grep -c -- '-> POSIX  ADVISORY  WRITE' /proc/locks)" -ge 2 ]; }

# await COMMAND...: until it succeeds.
await() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || fail "waited in vain for: $*"
        usleep 100000
    done
}

# check_memory SUPERVISOR: none of its servers has memory of the supervisor's.
check_memory() {
    await stand_by "$1"
    for server in $(children "$1"); do
        # shellcheck disable=SC2046 # several
        foreign=$(not_its_own "$server" "$1" $(children "$1"))
        [ -z "$foreign" ] || fail "server $server has what is not its own: $foreign"
    done
}

# The one that serves: it holds the first of the locks that they wait for.
server() {
    for pid in $(children "$1"); do
        if grep -q "^[0-9]*: POSIX  ADVISORY  WRITE $pid [0-9a-f:]* 0 0$" /proc/locks; then echo "$pid"; fi
    done
}
kill_server() { kill -KILL "$(server "$1")" 2>/dev/null || true; }

# ---- what the devices are like: two at once, one with small blocks and the commands of Linux 6.3 ----

start uzramd first
first=$supervisor
UZ_UBLK_LEGACY=1 start uzramd_hooks second 'block_size = 512'
second=$supervisor
[ "$(device first) $(device second)" = '/dev/ublkb0 /dev/ublkb1' ] || fail "$(ls -l /dev/uzram)"
[ "$(queue first logical_block_size) $(queue second logical_block_size)" = '4096 512' ] || fail "block sizes"
[ "$(queue first discard_granularity)" = 4096 ] || fail "discards"
[ "$(queue first nr_requests) $(queue first scheduler)" = '63 [none] ' ] || fail "a server's death might go unnoticed"
check_memory "$first"
diskx -t 3 -n 400 -l 16777216 /dev/uzram/first >/run/first 2>&1 &
diskx=$!
diskx -t 3 -n 400 -l 16777216 /dev/uzram/second || fail "second"
wait $diskx || fail "first: $(cat /run/first)"

discard /dev/uzram/first
dd if=/dev/urandom of=/dev/uzram/first bs=1M count=8 oflag=direct 2>/dev/null
[ "$(stored_kib first)" = 8192 ] || fail "$(stored_kib first) KiB are stored, not 8192"
discard --offset 1M --length 2M /dev/uzram/first
[ "$(stored_kib first)" = 6144 ] || fail "a discard has left $(stored_kib first) KiB"
discard --zeroout --offset 4M --length 2M /dev/uzram/first
[ "$(stored_kib first)" = 4096 ] || fail "write-zeroes has left $(stored_kib first) KiB"
[ "$(cut -c 1-26 /run/uzram/first/io_stat)" = '       0        0        0' ] || fail "$(cat /run/uzram/first/io_stat)"

# in_ring SUPERVISOR: the threads that sleep in io_uring_enter(), which the kernel counts as waiting for I/O; but for the
# kernel's own.
in_ring() {
    for process in "$1" $(children "$1"); do
        grep -ls '^426 ' "/proc/$process/task"/*/syscall | while read -r file; do
            grep -v '^iou-' "${file%syscall}comm" || true
        done
    done
}
tries=0
until [ -z "$(in_ring "$first")" ]; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || fail "idle, and sleep in a ring: $(in_ring "$first" | xargs)"
    usleep 100000
done

exec 3</dev/uzram/first # which is no reason not to stop
stop first "$first"
exec 3<&-
[ "$(nodes | sort | xargs)" = '/dev/ublkb1 /dev/ublkc1' ] || fail "left: $(nodes)"
stop second "$second"

# ---- a server that has replaced another has nothing of the supervisor's either ----

start uzramd swap0
kill_server "$supervisor"
await [ "$(metric swap0 server_restarts_total)" = 1 ]
check_memory "$supervisor"
stop swap0 "$supervisor"

# ---- nor can it have all the memory that there is ----

# attempt WHAT MESSAGE
attempt() {
    if (echo "$1" >/run/uzram/swap0/attempt) 2>/run/attempt; then
        fail "$1 succeeded"
    fi
    grep -q "$2" /run/attempt || fail "$1: $(cat /run/attempt)"
}
arena_mib() { stat -Lc %b "/proc/$supervisor/fd"/* | sort -n | tail -n 1 | awk '{ print int($1 / 2048) }'; }

start uzramd_hooks swap0 'memory.limit = "64M"'
attempt memory 'Cannot allocate memory'
attempt shared-memory 'not permitted'
attempt arena 'Bad address'
[ "$(arena_mib)" -lt 200 ] || fail "with a limit of 64 MiB the arena has $(arena_mib) MiB"
attempt ring 'denied'
kill_server "$supervisor"
await [ "$(metric swap0 server_restarts_total)" = 1 ]
stop swap0 "$supervisor"

# ---- a driver that does not answer ----

UZ_UBLK_SILENT=1 start uzramd_hooks swap0
case $(device swap0) in /dev/loop*) ;; *) fail "no device by way of FUSE: $(ls -l /dev/uzram)" ;; esac
stop swap0 "$supervisor"
sed -i 's/"auto"/"ublk"/' /etc/uzram/swap0.toml
if UZ_UBLK_SILENT=1 uzramd_hooks --config /etc/uzram/swap0.toml >/run/silent 2>&1; then
    fail "started"
fi
grep -q 'has not made a device.*frontend = "fuse"' /run/silent || fail "unclear: $(cat /run/silent)"
[ ! -e /run/uzram ] || fail "left: $(find /run/uzram)"

# ---- the child that stops the device is killed before it can say that it is gone ----

touch /run/once
UZ_UBLK_STOP_DIES=/run/once start uzramd_hooks swap0
! uzramctl stop swap0 2>/dev/null || fail "stopped"
[ -z "$(find /dev -name 'ublkb*')" ] || fail "the block device is there"
kill_server "$supervisor" # which the next one replaces, though there is no block device to recover
await [ "$(cat /run/uzram/swap0/initstate)" = 1 ]
stop swap0 "$supervisor"
[ -z "$(nodes)" ] || fail "left: $(nodes)"

# ---- a device whose processes are all dead ----

start uzramd dead swap.enabled=true
until grep -q "^$(device dead) " /proc/swaps; do usleep 50000; done
kill -STOP "$supervisor" # it makes no more
# shellcheck disable=SC2046 # several
kill -KILL "$supervisor" $(children "$supervisor")
wait "$supervisor" 2>/dev/null || true
swapoff "$(device dead)" # nothing is in it
start uzramd dead
stop dead "$supervisor"
[ -z "$(nodes)" ] || fail "left: $(nodes)"

# ---- nothing is lost, wherever it dies ----

too_few() { [ "$(metric swap0 server_restarts_total)" -lt "$POINT_SECONDS" ]; }

# try POINT:PASSES: as UZ_CRASH has it; many threads, so that the server has all requests in its hands.
try() {
    UZ_CRASH=$1 start uzramd_hooks swap0
    diskx -t 64 -n 1000000 /dev/uzram/swap0 >/run/diskx 2>&1 &
    diskx=$!
    usleep 300000
    kill_server "$supervisor" # the first one has no crash points
    until=$(($(seconds) + POINT_SECONDS))
    while [ "$(seconds)" -lt $until ] || { too_few && [ "$(seconds)" -lt $((until + 120)) ]; }; do
        case $1 in ublk-given* | ublk-fetched* | recover-*) kill_server "$supervisor" ;; esac
        usleep 200000
    done
    kill -0 $diskx || fail "$1: $(cat /run/diskx)"
    kill $diskx
    wait $diskx 2>/dev/null || true
    longest=$(($(metric swap0 outage_max_nanoseconds) / 1000000))
    say "$1: $(metric swap0 server_restarts_total) restarts, longest until an answer $longest ms"
    ! too_few || fail "too few"
    [ "$(metric swap0 corruptions_total)" = 0 ] || fail "damaged pages"
    stop swap0 "$supervisor"
}

for point in ublk-given:2 ublk-fetched:2 ublk-commit-before:100 ublk-commit-after:100 write-published:300 \
    recover-restored:2; do
    try $point
done

# ---- ... nor whenever it is killed ----

start uzramd swap0
diskx -t 64 -n 1000000 /dev/uzram/swap0 >/run/diskx 2>&1 &
diskx=$!
killer /dev/uzram/swap0 "$supervisor" "$KILLS" >/run/killer || fail "$(cat /run/killer)"
kill -0 $diskx || fail "$(cat /run/diskx)"
kill $diskx
wait $diskx 2>/dev/null || true
say "$(tail -n 1 /run/killer)"
# Before all, not the 30 s after which the kernel gives up requests.
sed 's/.*outage_max=//' /run/killer | tail -n 1 | { read -r longest; [ "${longest%.*}" -lt 20000 ]; } || fail "too long"
stop swap0 "$supervisor"
[ -z "$(nodes)" ] || fail "left: $(nodes)"
! dmesg | grep "can't be given" || fail "a device was not recovered at once"
