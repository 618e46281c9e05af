#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the supervisor does about servers that hang, that die as soon as they start, and whose requests the kernel can't
# send again.

KERNEL_MAY_SAY='I/O error, dev loop' # when the connection is aborted
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"

plain() {
    cat <<'EOT'
size = "64M"
server.hang_timeout = "2s"
[swap]
enabled = false
EOT
}
answers() { timeout 60 cat "/run/uzram/$DEV/initstate" >/dev/null; }
restarts() { metric "$DEV" server_restarts_total; }
has_restarts() { (($(restarts) == $1)); }
in_flight() { ! grep -Eq '^ *0 +0$' "/sys/block/$(basename "$(readlink "/dev/uzram/$DEV")")/inflight"; }
has_server() { [[ -n $(server_pid "$DEV") ]]; }
has_other_server() { [[ $(server_pid "$DEV") != "$1" ]]; }

# ---- one that hangs, wholly or in one request, is replaced ----

UZRAMD=$BUILD/tests/system/uzramd_hooks start_daemon "$DEV" < <(plain)
server=$(server_pid "$DEV")
kill -STOP "$server"
start=$(now_ms)
answers || fail "a stopped server is not replaced"
say "a stopped server was replaced after $(($(now_ms) - start)) ms"
grep -q 'hangs: killing it' "$T/$DEV/log" || fail "the log does not say so"
wait_for 60 has_restarts 1 || fail "$(restarts) restarts" # the next one may answer before it is counted
start=$(now_ms)
(echo hang >"/run/uzram/$DEV/attempt") & # sent again to the next server, and in that one it hangs again
writer=$!
sleep 1.5
(($(restarts) == 1 || $(now_ms) >= start + 2000)) || fail "a request of a second is taken for a hang"
wait_for 60 has_restarts 3 || fail "a request that hangs is not noticed"
wait $writer || fail "the third server did not answer it"
stop_daemon "$DEV"

# ---- one that had no time to run, as the supervisor had none, is no server that hangs ----

start_daemon "$DEV" < <(plain)
wait_for 60 stand_by "$DEV" || fail "nobody stands by"
# shellcheck disable=SC2046 # several
kill -STOP $(server_pids "$DEV") "$(daemon_pid "$DEV")"
sleep 6 # three times the time after which a server hangs
# shellcheck disable=SC2046
kill -CONT "$(daemon_pid "$DEV")" $(server_pids "$DEV") # which looks at an old heartbeat first
sleep 3
(($(restarts) == 0)) || fail "a server was killed for the time in which all were frozen"
stop_daemon "$DEV"

# ---- a crash loop: more and more slowly, but for ever ----

start_daemon "$DEV" < <(plain)
for ((i = 0; i < 12; i++)); do
    wait_for 60 has_server || fail "no other server is started"
    server=$(server_pid "$DEV")
    kill -KILL "$server"
    wait_for 60 has_other_server "$server" || fail "the server is not reaped"
done
grep -Eq '1[0-9] in a row have not answered' "$T/$DEV/log" || fail "no crash loop is seen"
say "$(grep 'in a row' "$T/$DEV/log" | tail -n 1)"
answers || fail "the supervisor has given up"
stop_daemon "$DEV"

# ---- a service manager that is stuck, on a page of ours perhaps: servers are replaced all the same ----

start_daemon "$DEV" < <(plain)
rm "$T/$DEV/notify"
length=$(</proc/sys/net/unix/max_dgram_qlen)
at_exit "echo $length >/proc/sys/net/unix/max_dgram_qlen"
echo 1 >/proc/sys/net/unix/max_dgram_qlen
"$PYTHON" -c "import socket, sys, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); c.setblocking(False)
try:
    while True: c.sendto(b'X=1', sys.argv[1])
except BlockingIOError: print('full', flush=True)
time.sleep(600)" "$T/$DEV/notify" >"$T/manager" &
manager=$!
wait_for 60 grep -q full "$T/manager" || fail "the manager's queue is not full"
kill -KILL "$(server_pid "$DEV")"
answers || fail "the supervisor waits for its manager"
stop_daemon "$DEV"
kill $manager

# ---- and so is a journal ----

mkdir -p "$T/$DEV"
rm "$T/$DEV/log"
mkfifo "$T/$DEV/log"
exec {log}<>"$T/$DEV/log" # nobody reads it
start_daemon "$DEV" < <(plain)
dd if=/dev/zero of="$T/$DEV/log" bs=4k count=100 oflag=nonblock status=none 2>/dev/null || : # until it is full
for i in 1 2 3; do
    server=$(server_pid "$DEV")
    kill -KILL "$server"
    answers || fail "the supervisor waits for its log"
    wait_for 60 has_other_server "$server" || fail "the server is not reaped"
done
stop_daemon "$DEV"
exec {log}<&-
rm "$T/$DEV/log"

# ---- a kernel that can't send again: rather errors than waiting for ever ----

UZ_NO_RESEND=1 UZRAMD=$BUILD/tests/system/uzramd_hooks start_daemon "$DEV" < <(plain)
(($(grep -c "can't send FUSE requests again" "$T/$DEV/log") == 1)) || fail "it does not say so, once"
answers
timeout 60 "$BUILD/daemon/uzramctl" upgrade "$DEV" || fail "an orderly change of servers needs no resend"
answers
server=$(server_pid "$DEV")
kill -STOP "$server"
! timeout 60 dd if="/dev/uzram/$DEV" of=/dev/null bs=4k count=1 iflag=direct status=none 2>"$T/dd" &
reader=$!
is_read() {
    local reads
    read -r reads _ <"/sys/block/$(basename "$(readlink "/dev/uzram/$DEV")")/inflight"
    ((reads))
}
wait_for 60 is_read || fail "there is no reader"
kill -KILL "$server"
wait_for 60 ended $reader || fail "a request hangs"
say "the reader: $(cat "$T/dd")"
grep -q 'error' "$T/dd" || fail "the reader got no error"
wait_for 60 ended "$(daemon_pid "$DEV")" || fail "the daemon runs on without a device"
grep -q "fails from now on" "$T/$DEV/log" || fail "the log does not say so"
say "$(grep 'fails from now on' "$T/$DEV/log")"
assert_nothing_left "$DEV"
rm "$T/$DEV/pid"
