#!/bin/bash
# SPDX-License-Identifier: MIT
#
# uzramctl against a made-up tree of control files: what it prints, what it writes, how long it waits, and its exit
# status. (How it gets on with a real daemon, the other tests show.)

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
UZRAMCTL=${UZRAMCTL:-$BUILD/daemon/uzramctl}
export UZRAM_RUNDIR=$T/run

# device NAME: make the control files of one, as its daemon would show them.
device() {
    local dir=$UZRAM_RUNDIR/$1
    mkdir -p "$dir"
    echo 8589934592 >"$dir/disksize"
    echo '[lz4] zstd' >"$dir/comp_algorithm"
    echo 2 >"$dir/max_comp_streams"
    echo none >"$dir/block_device"
    echo 4711 >"$dir/pid"
    printf '%8llu %8llu %8llu %8llu %8llu %8llu %8llu %8llu %8llu\n' \
        1610612736 402653184 412090368 4294967296 536870912 11 22 33 44 >"$dir/mm_stat"
    printf '%8llu %8llu %8llu %8llu %8llu %8llu\n' 55 66 77 88 44 22 >"$dir/io_stat"
    echo '1000 900 7 100 12595 64 9' >"$dir/defer_stat"
    : >"$dir/compact"
    : >"$dir/flush"
}

# run ARGUMENT...: what uzramctl wrote is in $T/out and $T/err, its status in $status.
run() {
    status=0
    timeout 60 "$UZRAMCTL" "$@" >"$T/out" 2>"$T/err" || status=$?
}

# expect STATUS out|err TEXT: the last run ended so and wrote exactly that, and nothing to the other stream.
expect() {
    local other=err
    [[ $2 == out ]] || other=out
    ((status == $1)) || fail "status $status instead of $1: $(cat "$T/out" "$T/err")"
    diff <(printf '%s' "${3:+$3$'\n'}") "$T/$2" || fail "that is not what std$2 should be"
    [[ ! -s $T/$other ]] || fail "unexpected on std$other: $(cat "$T/$other")"
}

usage_error() { expect 2 err "uzramctl: $1"$'\n'"Try 'uzramctl --help'."; }

# ---- list ----

run list
expect 0 out ''
run list --json
expect 0 out "$(printf '{\n   "devices": [\n\n   ]\n}')"

device swap10
device swap9
mkdir "$UZRAM_RUNDIR/stale" # left behind by a dead daemon, like this:
touch "$UZRAM_RUNDIR/stale.lock"

# table STATUS TEXT: the last run ended so and printed this, however wide the columns.
table() {
    sed -i 's/  */ /g; s/ $//' "$T/out"
    expect "$1" out "$2"
}
two='swap9 lz4 8G 1.5G 384M 393M 2
swap10 lz4 8G 1.5G 384M 393M 2'
heading='NAME ALGORITHM DISKSIZE DATA COMPR TOTAL STREAMS MOUNTPOINT'

run
table 0 "$heading"$'\n'"$two"
run list
table 0 "$heading"$'\n'"$two"
run list --noheadings
table 0 "$two"
run -bn
table 0 'swap9 lz4 8589934592 1610612736 402653184 412090368 2
swap10 lz4 8589934592 1610612736 402653184 412090368 2'

run list --json --bytes
"$PYTHON" - "$T/out" <<'EOT'
import json, sys
one = dict(algorithm="lz4", disksize=8589934592, data=1610612736, compr=402653184, total=412090368, streams=2,
           mountpoint=None)
want = {"devices": [dict(one, name="swap9"), dict(one, name="swap10")]}
got = json.load(open(sys.argv[1]))
assert got == want, got
EOT

# size BYTES TEXT: how list writes it.
size() {
    echo "$1" >"$UZRAM_RUNDIR/swap9/disksize"
    run list --noheadings
    [[ $(awk '$1 == "swap9" { print $3 }' "$T/out") == "$2" ]] || fail "$1 is not $2: $(cat "$T/out")"
}
size 0 0B
size 1023 1023B
size 1024 1K
size 13722 13.4K
size 1572864000 1.5G
size 18446744073709551615 16E
size 8589934592 8G

# ---- what a device is used for ----

block=$(find /dev -maxdepth 1 -type b -print -quit)
[[ -n $block ]] || skip "there is no block device to name"
echo "$block" >"$UZRAM_RUNDIR/swap9/block_device"
# in_use MOUNT-COMMAND...: what swap9 is in use as, after that command in a mount namespace of its own.
# shellcheck disable=SC2016 # that is for the inner shell
in_use() {
    unshare -m bash -ec '"${@:2}"; "$1" --json' - "$UZRAMCTL" "$@" |
        "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["devices"][0]["mountpoint"])'
}
printf 'Filename\tType\tSize\tUsed\tPriority\n%s partition\t8388604\t1024000\t-2\n' "$block" >"$T/swaps"
[[ $(in_use mount --bind "$T/swaps" /proc/swaps) == '[SWAP]' ]] || fail "swap is not shown as such"
# A mount may name the device by a symbolic link, and its directory may have a blank in it.
ln -s "$block" "/dev/$DEV"
at_exit "rm -f /dev/$DEV"
mkdir "$T/m p"
[[ $(in_use mount -t tmpfs "/dev/$DEV" "$T/m p") == "$T/m p" ]] || fail "the mount point is not shown"

# ---- stat ----

unshare -m bash -ec "mount --bind $T/swaps /proc/swaps; $UZRAMCTL stat swap9" >"$T/out"
diff - "$T/out" <<EOT
Device:                swap9
Block device:          $block
In use as:             [SWAP]
Daemon's process:      4711
Workers:               2
Algorithm:             lz4
Size:                  8G
Used by swap:          1000M
Stored:                1.5G
Compressed:            384M
  ratio:               4.00
Memory used:           393M
  ratio:               3.91
  highest:             512M
  limit:               4G
Slot table:            16M
Same-filled pages:     11
Incompressible pages:  33
  since the start:     44
Compacted pages:       22
Deferred frees:        1000
  done:                900
  not deferred:        7
  pending:             100
  pending memory:      12.3K
  drain runs:          9
  spare buffers:       64
Failed reads:          55
Failed writes:         66
  for the limit:       44
  for memory:          22
Invalid requests:      77
Discarded pages:       88
EOT
run stat --bytes swap9
grep -Eq '^Stored: +1610612736$' "$T/out" || fail "--bytes is ignored: $(cat "$T/out")"
echo '0 0 0 0 0 0 0 0 0' >"$UZRAM_RUNDIR/swap9/mm_stat"
run stat swap9
[[ $(grep -Ec '^  ratio: +-$' "$T/out") == 2 ]] || fail "the ratio of nothing: $(cat "$T/out")"
grep -Eq '^  limit: +none$' "$T/out" || fail "no limit: $(cat "$T/out")"

# ---- compact, flush ----

for verb in compact flush; do
    run "$verb" swap9
    expect 0 out ''
    [[ $(cat "$UZRAM_RUNDIR/swap9/$verb") == 1 ]] || fail "$verb has written nothing"
done
ln -sf /dev/full "$UZRAM_RUNDIR/swap9/flush"
run flush swap9
expect 1 err 'uzramctl: swap9: cannot flush: No space left on device'

# ---- stop ----

stop=$UZRAM_RUNDIR/swap9/stop

# serve DELAY: a process that is swap9's; it ends DELAY seconds after it was asked to.
serve() {
    rm -f "$stop"
    mkfifo "$stop"
    bash -c 'read -rn 1 request <"$1"; [[ $request == 1 ]] && sleep "$2"' - "$stop" "$1" &
    echo $! >"$UZRAM_RUNDIR/swap9/pid"
}

serve 0.7
run stop swap9
expect 0 out ''
ended "$(cat "$UZRAM_RUNDIR/swap9/pid")" || fail "stop did not wait for the daemon's end"

late="uzramctl: swap9: not stopped yet: timed out; the request goes on: its log says how it ends, \
'uzramctl stop --cancel swap9' calls it off"
serve 30 # takes the request at once, but ends too late
start=$(now_ms)
run stop --timeout 1 swap9
expect 1 err "$late"
(($(now_ms) - start >= 1000)) || fail "--timeout 1 was less than a second"

rm "$stop"
mkfifo "$stop" # nobody reads it: the request itself lasts
run stop --timeout 1 swap9
expect 1 err "$late"

ln -sf /dev/full "$stop"
run stop swap9
expect 1 err 'uzramctl: swap9: not stopped, it goes on serving: No space left on device'

rm "$stop"
: >"$stop"
sleep 600 &
echo $! >"$UZRAM_RUNDIR/swap9/pid"
run stop --force --timeout 1 swap9
expect 1 err "$late"
[[ $(cat "$stop") == force ]] || fail "--force has written '$(cat "$stop")'"
run stop --cancel swap9
expect 0 out ''
[[ $(cat "$stop") == cancel ]] || fail "--cancel has written '$(cat "$stop")'"

sleep 0 &
wait $!
echo $! >"$UZRAM_RUNDIR/swap9/pid"
run stop swap9
expect 1 err 'uzramctl: swap9: cannot watch its daemon: No such process'

# ---- what is not there, or not right ----

for verb in stat compact flush stop; do
    for name in swap8 stale stale.lock ../run/swap9 .; do
        run "$verb" "$name"
        expect 3 err "uzramctl: $name: no such device (is uzramd@$name running?)"
    done
done

# One bad device doesn't hide the other.
for numbers in '1 2 3' '1 2 3 4 5 6 7 8 -9' '1 2 3 4 5 6 7 8 18446744073709551616'; do
    echo "$numbers" >"$UZRAM_RUNDIR/swap9/mm_stat"
    run list --noheadings
    ((status == 1)) || fail "status $status of a list with a bad device: $numbers"
    [[ $(cat "$T/err") == 'uzramctl: swap9: cannot read: its daemon is not of this version of uzram' ]]
    [[ $(awk '{ print $1 }' "$T/out") == swap10 ]] || fail "the other one is missing: $(cat "$T/out")"
done

# ---- a daemon that hangs: here, a file that nobody answers for ----

device swap9
rm "$UZRAM_RUNDIR/swap9/mm_stat"
mkfifo "$UZRAM_RUNDIR/swap9/mm_stat"
run list --noheadings
((status == 1)) || fail "status $status of a list with a hung device"
[[ $(cat "$T/err") == 'uzramctl: swap9: cannot read: timed out; its daemon does not answer' ]] || fail "$(cat "$T/err")"
table_names() { awk '{ print $1, $2 }' "$T/out"; }
[[ $(table_names) == $'swap9 \nswap10 lz4' ]] || fail "the list: $(cat "$T/out")"
run list --json --timeout 1
"$PYTHON" -c 'import json, sys
hung, good = json.load(open(sys.argv[1]))["devices"]
assert hung.pop("name") == "swap9" and not any(hung.values()), hung
assert good["name"] == "swap10" and good["data"] == "1.5G", good' "$T/out"
output=$(timeout 60 "$UZRAMCTL" stat --timeout 1 swap9 2>&1) && fail "stat of a hung device"
[[ $output == *'does not answer' ]] || fail "$output"
for verb in compact flush; do
    rm "$UZRAM_RUNDIR/swap9/$verb"
    mkfifo "$UZRAM_RUNDIR/swap9/$verb"
    run "$verb" --timeout 1 swap9
    ((status == 1)) || fail "status $status of $verb"
    grep -q "not $verb.* yet: timed out; the request goes on" "$T/err" || fail "$(cat "$T/err")"
done

# ---- what a server that was taken over, or a directory's name, says can't take hold of the terminal ----

rm -r "$UZRAM_RUNDIR/swap9"
hostile=$'\e]0;x\a\x9b31m\\"\r'
device "$hostile"
printf '/dev/\e[31m\x9bred\n' >"$UZRAM_RUNDIR/swap10/block_device"
printf '[lz4\e[2J"\\] \x00zstd\n' >"$UZRAM_RUNDIR/swap10/comp_algorithm"
run stat swap10
grep -Fqx 'Block device:          /dev/\x1b[31m\x9bred' "$T/out" || fail "$(cat -v "$T/out")"
grep -Fqx 'Algorithm:             lz4\x1b[2J"\x5c' "$T/out" || fail "$(cat -v "$T/out")"
mkdir "$T/m"$'\e[31m'
echo "$block" >"$UZRAM_RUNDIR/swap10/block_device"
# shellcheck disable=SC2016 # that is for the inner shell
unshare -m bash -ec 'mount -t tmpfs "$2" "$3"; "$1" stat swap10' - "$UZRAMCTL" "/dev/$DEV" "$T/m"$'\e[31m' >"$T/out"
grep -Fqx "In use as:             $T/m"'\x1b[31m' "$T/out" || fail "$(cat -v "$T/out")"
ln -sf /dev/full "$UZRAM_RUNDIR/$hostile/compact"
echo 'no number' >"$UZRAM_RUNDIR/$hostile/disksize"
for arguments in list 'list --json' 'list --json --bytes' 'stat swap10' sleep; do
    # shellcheck disable=SC2086 # these are words
    run $arguments
    ! LC_ALL=C grep -qP '[^\n\x20-\x7e]' "$T/out" "$T/err" || fail "$arguments: $(cat -v "$T/out" "$T/err")"
    [[ $arguments != *json* ]] || "$PYTHON" -m json.tool "$T/out" >/dev/null || fail "$(cat -v "$T/out")"
done
for verb in stat compact stop; do
    run "$verb" "$hostile"
    ((status == 1)) || fail "status $status of $verb"
    ! LC_ALL=C grep -qP '[^\n\x20-\x7e]' "$T/out" "$T/err" || fail "$verb: $(cat -v "$T/out" "$T/err")"
done
rm -r "${UZRAM_RUNDIR:?}/$hostile"

# A block device is one in /dev: no other path that a server names is looked at, nor what is here.
echo none >"$UZRAM_RUNDIR/swap10/block_device"
(cd "$T" && cp -a "$block" none && in_use mount -t tmpfs "/dev/$DEV" "$T/m p") >"$T/out"
[[ $(cat "$T/out") == None ]] || fail "a device without a block device is in use as $(cat "$T/out")"

# ---- the command line ----

run --version
grep -Eq '^uzramctl [0-9]+\.[0-9]+' "$T/out"
run --help
((status == 0)) || fail "--help ended with $status"
for word in list stat compact flush stop --bytes --json --noheadings --force --cancel --timeout --help --version; do
    grep -qe "$word" "$T/out" || fail "--help does not mention $word"
done
run format
usage_error 'unknown verb: format'
run stop
usage_error "the device's name is missing"
run stop swap9 swap10
usage_error 'one argument too many: swap10'
run list swap9
usage_error 'one argument too many: swap9'
run stat --json swap9
usage_error 'not an option of this verb: --json'
run upgrade --force swap9
usage_error 'not an option of this verb: --force'
run stop --force --cancel swap9
usage_error '--force and --cancel exclude each other'
for seconds in soon -1 '' 99999999999; do
    run stop --timeout "$seconds" swap9
    usage_error "not a number of seconds: $seconds"
done
run --nonsense
((status == 2)) || fail "an unknown option ended with $status"

# ---- a real daemon that does not answer ----

unset UZRAM_RUNDIR
start_daemon "$DEV" <<'EOT'
size = "64M"
EOT

# All of it is stopped, and reads no request: every verb comes back.
read -ra processes <<<"$(daemon_pid "$DEV") $(server_pids "$DEV")"
kill -STOP "${processes[@]}"
for arguments in list "stat $DEV --timeout 1" "flush $DEV --timeout 1" "stop $DEV --timeout 1" "upgrade $DEV --timeout 1"; do
    status=0
    # shellcheck disable=SC2086 # these are words
    output=$(timeout 60 "$UZRAMCTL" $arguments 2>&1) || status=$?
    ((status == 1)) || fail "$arguments: status $status: $output"
    [[ $output == *"$DEV: "*'timed out'* ]] || fail "$arguments: $output"
done
kill -CONT "${processes[@]}"
output=$("$UZRAMCTL" list -n) || fail "$output"

# Only the supervisor is: the server has read the request, and waits. No signal ends the process that has made it. But
# uzramctl comes back, and nobody waits for what it leaves behind: neither for the end of its output nor for a lock.
kill -STOP "$(daemon_pid "$DEV")"
exec {lock}>"$T/lock"
flock "$lock"
output=$(timeout 60 "$UZRAMCTL" stop --timeout 1 "$DEV" 2>&1) && fail "a stop that can't have been"
[[ $output == *'not stopped yet: timed out; the request goes on'* ]] || fail "$output"
exec {lock}>&-
flock --nonblock "$T/lock" true || fail "a lock of the caller's is still held"
kill -CONT "$(daemon_pid "$DEV")"
await_end "$DEV" # as it was asked to
