# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# It was started at boot, with the front end that was asked for, and says how it is.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

active || fail "not started"
in_use || fail "not in use as swap"
frontend=$(sed -n 's/^frontend = "\(.*\)"/\1/p' /etc/uzram/swap0.toml)
[[ $frontend != auto ]] || frontend=$([[ -e /dev/ublk-control ]] && echo ublk || echo fuse)
case $frontend:$(device) in
fuse:/dev/loop* | ublk:/dev/ublkb*) ;;
*) fail "$(device) with $frontend" ;;
esac

# Of the machine's settings it has changed the one that this front end needs.
boost=$(cat /proc/sys/vm/watermark_boost_factor)
[[ $frontend == fuse ]] && wanted=0 || wanted=15000
((boost == wanted)) || fail "vm.watermark_boost_factor is $boost instead of $wanted"

# It warns of what is not safe here, and of nothing else.
expected=0
outlives_server || expected=$((expected + 1))
warnings=$(journalctl --quiet --boot --output=cat --unit="$UNIT" --priority=warning | grep -c . || :)
((warnings == expected)) || fail "$warnings warnings, where there should be $expected"

status=$(systemctl status --no-pager "$UNIT" | sed -n 's/^ *Status: //p')
say "$status"
[[ $status == *'swap0: '*' MiB stored, '*' restarts"' ]] || fail "that is no status line"
uzramctl list
cat /proc/swaps
