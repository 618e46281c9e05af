# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# systemctl restart and stop, with pages swapped out: they go back into memory, and the daemon leaves nothing.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

hog_swapped_out 80
before=$(supervisor)
timeout 300 systemctl restart "$UNIT" || fail "restart"
[[ $(supervisor) != "$before" ]] || fail "still the same daemon"
in_use || fail "not in use as swap again"
hog_verifies

hog_swapped_out 80
timeout 300 systemctl stop "$UNIT" || fail "stop"
[[ $(property "$UNIT" ActiveState) == inactive && $(property "$UNIT" Result) == success ]] || fail "it has not ended well"
gone
hog_verifies

systemctl start "$UNIT" || fail "start"
in_use || fail "not in use as swap"
