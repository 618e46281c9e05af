# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The server is killed. Before Linux 6.9 that is the end of the device: whoever needs a page of it is killed, but nobody
# waits for ever, and it can be started again. (Else that is no case of its own.)

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

! outlives_server || exit 0

# failed UNIT
failed() { [[ $(property "$1" ActiveState) == failed ]]; }

hog_swapped_out 80
kill -KILL "$(server)"
wait_for 120 failed "$UNIT" || fail "the unit has not failed"
said 'fails from now on' || fail "it doesn't say so"
pkill --exact sleep
wait_for 120 failed hog || fail "the hog hangs: $(cat /run/hog)"
! grep ' wrong=' /run/hog || fail "the hog lives on without the pages that were lost"
systemctl reset-failed hog
gone
systemctl start "$UNIT" || fail "it does not start again"
