#!/bin/bash
# SPDX-License-Identifier: MIT
#
# uzramd has stopped because the machine goes down. It must have done so in good order, out of use before anything killed
# it, and a process that still lives must have all its pages.

exec > >(sed -u 's/^/<4>/' >/dev/kmsg) 2>&1
# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

[[ -e /run/uzram-test.passed ]] || fail "not all cases have passed"
gone
pkill --exact sleep
wait_for 120 grep ' wrong=0$' /run/hog || fail "the hog has not all its pages: $(cat /run/hog)"
echo '<0>verdict: passed' >/dev/kmsg
