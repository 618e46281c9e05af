# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# An administrator switches io_uring off (kernel.io_uring_disabled, Linux 6.6). The device that is there goes on: a reload is
# refused, and says why. None can be started.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

REASON='kernel.io_uring_disabled is 2'

[[ -e /proc/sys/kernel/io_uring_disabled ]] || exit 0

hog_swapped_out 80
sysctl -q kernel.io_uring_disabled=2
! systemctl reload "$UNIT" || fail "it was upgraded"
wait_for 120 said "$REASON" || fail "it does not say why not"
! said 'killed by signal' || fail "the new server has not ended by itself"
in_use || fail "the reload has stopped the device"
hog_verifies
sysctl -q kernel.io_uring_disabled=0
systemctl reload "$UNIT" || fail "reload"
in_use || fail "not in use as swap"

systemctl stop "$UNIT"
sysctl -q kernel.io_uring_disabled=2
CASE_BEGAN=$(date '+%F %T')
! systemctl start "$UNIT" || fail "it has started"
wait_for 120 said "$REASON" || fail "it does not say why not"
sysctl -q kernel.io_uring_disabled=0
systemctl reset-failed "$UNIT"
systemctl start "$UNIT" || fail "it does not start again"
