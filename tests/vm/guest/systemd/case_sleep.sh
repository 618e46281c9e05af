# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# uzram-sleep.service: no swap while the machine sleeps. (It doesn't really: what would make it sleep looks at the swaps.)

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

awake() { ! systemctl is-active --quiet uzram-sleep && in_use; }

suspend=/run/systemd/system/systemd-suspend.service.d
mkdir -p $suspend
printf '[Service]\nExecStart=\nExecStart=/bin/cp /proc/swaps /run/asleep\n' >$suspend/look.conf
systemctl enable --runtime uzram-sleep
systemctl daemon-reload
hog_swapped_out 80
systemctl start suspend.target || fail "suspend.target"
wait_for 120 awake || fail "not in use again after sleep"
[[ $(wc -l </run/asleep) == 1 ]] || fail "in use during sleep: $(cat /run/asleep)"
hog_verifies
rm -r $suspend
systemctl disable --runtime uzram-sleep
systemctl daemon-reload
