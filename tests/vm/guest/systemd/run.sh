#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs the $CASES, CASE or CASE:ARGUMENT each. If all have passed, reboots with pages swapped out; the verdict is up to uzram-end.service then.
#
# What they say goes through the kernel's log, whose lines are not torn apart on the console.

exec > >(sed -u 's/^/<4>/' >/dev/kmsg) 2>&1
# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

wait_for 240 active || true
for case in ${CASES//,/ }; do
    CASE_BEGAN=$(date '+%F %T')
    export CASE_BEGAN
    say "case $case"
    [[ $case == *:* ]] || case+=:
    bash "/usr/lib/uzram-test/case_${case%%:*}.sh" "${case#*:}" && continue
    systemctl status --no-pager --full --lines=30 "$UNIT" || true
    say "verdict: failed"
    sleep 100 # tests/vm/lib.sh ends it when it has seen what everything is at
    systemctl poweroff --force --force
done

hog_swapped_out 80
say "rebooting"
touch /run/uzram-test.passed
systemctl reboot
