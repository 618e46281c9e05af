#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_hang.sh [FRONTEND]: a test of the tests: when nobody serves the swap any more, the output says where supervisor and
# servers are, what waits for them, and how the memory is.

SILENCE=60
# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"

cached kernel kernel.sh 6.12
for program in daemon/uzramd tests/system/hog; do
    add_program "$BUILD/$program"
done
cp "$VM/guest/case_hang.sh" "$T/root/case"
make_initrd "$kernel" init loop ublk_drv
qemu_command "$kernel" 384 "FRONTEND=${1:-ublk}"
! (run_guest) 2>&1 | tee "$T/out" || fail "a hang was not noticed"

# said REGEX TIMES: it is in so many lines at least.
said() { (($(grep -Ec "$1" "$T/out") >= $2)) || fail "'$1' is not $2 times in the output"; }
said 'the guest is in trouble' 1
said 'Mem-Info:' 1
said 'task:uzramd ' 3
said 'do_signal_stop' 3
said 'task:uz-worker ' 1
said 'task:hog .*state:D' 2
said 'task:kswapd0 .*state:D' 2
