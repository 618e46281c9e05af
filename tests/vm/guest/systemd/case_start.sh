# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# It was started at boot, and says how it is.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

active || fail "not started"
in_use || fail "not in use as swap"
status=$(systemctl status --no-pager "$UNIT" | sed -n 's/^ *Status: //p')
say "$status"
[[ $status == *'swap0: '*' MiB stored, '*' restarts"' ]] || fail "that is no status line"
uzramctl list
cat /proc/swaps
