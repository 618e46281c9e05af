#!/bin/bash
# SPDX-License-Identifier: MIT
#
# vm.watermark_boost_factor is 0 while there is swap over FUSE, and then what it was: with several devices, after a
# supervisor that died, and after a whole daemon that did.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
setting=/proc/sys/vm/watermark_boost_factor
saved=/run/uzram/.watermark_boost_factor
[[ -e $setting ]] || skip "there is no $setting"
[[ ! -e $saved ]] || skip "another device is in use"
found=$(cat $setting)
at_exit "rm -f $saved; echo $found >$setting"
echo 12345 >$setting

# boost VALUE WHEN
boost() { [[ $(cat $setting) == "$1" ]] || fail "$2: $(cat $setting) instead of $1"; }
boost_is() { [[ $(cat $setting) == "$1" ]]; }
# start NAME [TOML-LINE...]
start() {
    local name=$1
    shift
    start_daemon "$name" < <(printf '%s\n' 'size = "64M"' "$@" '[swap]' 'priority = 0')
}

start "$DEV-1"
boost 0 "one device"
start "$DEV-2"
stop_daemon "$DEV-1"
boost 0 "one of two devices is gone"
# A live upgrade is one supervisor that leaves and another one that comes.
"$BUILD/daemon/uzramctl" upgrade --timeout 60 "$DEV-2"
boost 0 "an upgrade"
stop_daemon "$DEV-2"
boost 12345 "both are gone"
[[ ! -e $saved ]] || fail "left behind: $saved"

# Devices that have no need of it.
start_daemon "$DEV-1" <<<'size = "64M"
swap.enabled = false'
boost 12345 "no swap"
stop_daemon "$DEV-1"
start_daemon "$DEV-1" <<<'size = "64M"
swap = {priority = 0, watermark_boost = "keep"}'
boost 12345 "keep"
# A changed configuration counts.
sed -i 's/"keep"/"off"/' "$T/$DEV-1/config.toml"
"$BUILD/daemon/uzramctl" upgrade --timeout 60 "$DEV-1"
boost 0 "off instead of keep"
sed -i 's/"off"/"keep"/' "$T/$DEV-1/config.toml"
"$BUILD/daemon/uzramctl" upgrade --timeout 60 "$DEV-1"
boost 12345 "keep instead of off"
stop_daemon "$DEV-1"

# What has been set meanwhile stays.
start "$DEV-1"
echo 777 >$setting
stop_daemon "$DEV-1"
boost 777 "set by somebody else"
echo 12345 >$setting

# A supervisor that dies: the next one goes on, and still knows the value.
printf '%s\n' "name = \"$DEV-1\"" 'frontend = "fuse"' 'size = "64M"' 'swap.priority = 0' >"$T/$DEV-1/config.toml"
"$PYTHON" "$HERE/manager.py" "$T/manager" "$UZRAMD" --config "$T/$DEV-1/config.toml" >"$T/out" 2>"$T/$DEV-1/log" &
manager=$!
at_exit "wait_for 60 ended $manager"
at_exit "kill -TERM $manager 2>/dev/null || :"
main_pid() { sed -n 's/^main //p' "$T/out" | tail -n 1; }
has_new_main() { [[ $(main_pid) != "$1" ]] && timeout 10 grep -q "$(main_pid)" "/run/uzram/$DEV-1/pid" 2>/dev/null; }
wait_for 60 grep -q READY "$T/out" || fail "not ready"
main_pid >"$T/$DEV-1/pid" # for the clean-up
wait_for 60 stand_by "$DEV-1" || fail "nobody stands by"
boost 0 "under a manager"
before=$(main_pid)
kill -KILL "$before"
wait_for 60 has_new_main "$before" || fail "no new supervisor"
main_pid >"$T/$DEV-1/pid"
wait_for 60 boost_is 0 || fail "another supervisor has not turned it off"
wait_for 60 stand_by "$DEV-1" || fail "nobody stands by"
"$BUILD/daemon/uzramctl" stop "$DEV-1"
wait_for 60 ended $manager || fail "the manager runs on"
boost 12345 "the next supervisor has stopped"

# A daemon of which nothing is left: the next device on the machine knows the value, also one that has no need of it.
rm "$T/$DEV-1/pid"
start "$DEV-1"
# shellcheck disable=SC2046 # several
kill -KILL "$(daemon_pid "$DEV-1")" $(server_pids "$DEV-1")
end_device "$DEV-1" 2>/dev/null || fail "can't be cleared away"
rm -f "$T/$DEV-1/pid"
start_daemon "$DEV-2" <<<'size = "64M"
swap.enabled = false'
boost 12345 "the next device"
stop_daemon "$DEV-2"
[[ ! -e $saved ]] || fail "left behind: $saved"
