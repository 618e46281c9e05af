#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_ublk.sh [SECONDS [KILLS]]: the ublk front end on a kernel that has it: what the devices are like, that a server has
# nothing of the supervisor's, what is done about a driver that does not answer, and that nothing is lost when the server
# dies at each crash point for so many seconds, and is killed so often.

seconds=${1:-3}
kills=${2:-60}
LIMIT=$((1000 + seconds * 60 + kills * 5))
# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"
need blkdiscard

cached kernel kernel.sh 6.12
for program in "$BUILD"/daemon/{uzramd,uzramctl} "$BUILD"/tests/system/{uzramd_hooks,diskx,killer} \
    "$(command -v blkdiscard)"; do
    add_program "$program"
done
cp "$VM/guest/case_ublk.sh" "$T/root/case"
cp "$VM/../system/shared_memory.sh" "$T/root/"
make_initrd "$kernel" init loop ublk_drv
qemu_command "$kernel" 512 "POINT_SECONDS=$seconds KILLS=$kills"
run_guest
