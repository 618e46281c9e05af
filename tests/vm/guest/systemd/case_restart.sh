# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# systemctl restart and stop, with pages swapped out: they go back into memory, and the daemon leaves nothing.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

hog_swapped_out 80
before=$(supervisor)
timeout 60 systemctl restart "$UNIT" || fail "restart"
[[ $(supervisor) != "$before" ]] || fail "still the same daemon"
in_use || fail "not in use as swap again"
hog_verifies

hog_swapped_out 80
timeout 60 systemctl stop "$UNIT" || fail "stop"
[[ $(systemctl show --property=ActiveState,Result --value "$UNIT" | xargs) == *inactive* ]] || fail "not stopped"
[[ $(systemctl show --property=Result --value "$UNIT") == success ]] || fail "it has not ended well"
! pgrep uzramd || fail "still running"
[[ $(wc -l </proc/swaps) == 1 ]] || fail "still in use: $(cat /proc/swaps)"
[[ ! -e /run/uzram && ! -e /dev/uzram/swap0 ]] || fail "left behind: $(ls -d /run/uzram/* /dev/uzram/*)"
hog_verifies

systemctl start "$UNIT" || fail "start"
in_use || fail "not in use as swap"
