#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The hold of the CPUs' wake-up latency, as the kernel has it: there while pages are read one after the other, gone soon
# after, and never left behind by a server that died.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio
need_resend
QOS=/dev/cpu_dma_latency
[[ -c $QOS ]] || skip "this kernel has no $QOS"

# The latency in us that the whole system may have now.
latency() { od -An -td4 -N4 "$QOS" | tr -d ' '; }
NONE=2000000000
[[ $(latency) == "$NONE" ]] || skip "somebody else asks for a latency of $(latency) us"
is_held() { (($(latency) == 0)); }
is_free() { [[ $(latency) == "$NONE" ]]; }

start() { # HOLD
    start_daemon "$DEV" <<EOT
size = "64M"
[latency]
hold = "$1"
[swap]
enabled = false
EOT
}

read_on() { # one after the other, in the background; one process, which can be stopped
    fio --thread --name=read --filename="/dev/uzram/$DEV" --direct=1 --rw=randread --bs=4k --time_based --runtime=600 \
        --output="$T/fio.txt" &
    reader=$!
    wait_for 60 is_held || fail "pages are read, and nothing is held"
}

read_no_more() {
    kill -INT "$reader"
    wait "$reader" || :
    grep -q 'err= 0' "$T/fio.txt" || fail "fio: $(cat "$T/fio.txt")"
    wait_for 60 is_free || fail "$1: it is still held"
}

start auto
sleep 0.2
is_free || fail "held while nothing is read"
for _ in {1..5}; do
    dd if="/dev/uzram/$DEV" of=/dev/null bs=4k count=1 iflag=direct status=none
    sleep 0.05
done
(($(metric "$DEV" latency_holds_total) == 0)) || fail "held for a read now and then"
read_on
read_no_more "nothing is read any more"
(($(metric "$DEV" latency_holds_total) > 0)) || fail "nothing was counted"
time_is_counted() { (($(metric "$DEV" latency_held_nanoseconds_total) > 0)); }
wait_for 60 time_is_counted || fail "no time was counted"

read_on
for _ in {1..5}; do
    kill -KILL "$(server_pid "$DEV")"
    sleep 0.3
    wait_for 60 is_held || fail "the server that goes on holds nothing"
done
read_no_more "after kills, nothing is read any more"

# Nobody reads when the next one comes; and there is no next one for some time.
for victims in server_pid server_pids; do
    wait_for 60 stand_by "$DEV" || fail "nobody stands by"
    read_on
    kill -STOP "$reader"
    # shellcheck disable=SC2046 # several
    kill -KILL $($victims "$DEV")
    wait_for 60 is_free || fail "held for nobody after the death of $victims"
    kill -CONT "$reader"
    wait_for 60 is_held || fail "the new server holds nothing"
    read_no_more "the reader has ended"
done

wait_for 60 stand_by "$DEV" || fail "nobody stands by"
read_on
echo 1 >"/run/uzram/$DEV/upgrade"
wait_for 60 grep -qx 1 "/run/uzram/$DEV/upgrade" || fail "there was no upgrade"
wait_for 60 is_held || fail "not held after an upgrade"
read_no_more "after an upgrade"
stop_daemon "$DEV"

start never
fio --name=read --filename="/dev/uzram/$DEV" --direct=1 --rw=randread --bs=4k --time_based --runtime=2 \
    --output="$T/fio.txt" &
reader=$!
for _ in {1..50}; do
    is_free || fail "held, against the configuration"
    sleep 0.02
done
wait "$reader" || fail "fio: $(cat "$T/fio.txt")"
stop_daemon "$DEV"

start always
is_held || fail "not always held"
kill -KILL "$(server_pid "$DEV")"
wait_for 60 grep -q 1 "/run/uzram/$DEV/initstate"
is_held || fail "not held by the next server"
stop_daemon "$DEV"
is_free || fail "left behind"

# A system that has no such device for us, as in many containers: a word about it, and no more.
cat >"$T/without" <<EOT
#!/bin/bash
exec unshare --mount --propagation private "\$BASH" -c "
    mount --bind $QOS $QOS && mount -o remount,bind,nodev $QOS && exec $UZRAMD \$*"
EOT
chmod +x "$T/without"
UZRAMD=$T/without
start_daemon "$DEV" <<'EOT'
size = "64M"
[swap]
enabled = false
[loop]
enabled = false
EOT
(($(grep -c "$QOS" "$T/$DEV/log") == 1)) || fail "the log says: $(cat "$T/$DEV/log")"
stop_daemon "$DEV"
