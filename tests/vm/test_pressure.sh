#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_pressure.sh [MIB [SECONDS [FRONTEND [double]]]]: kills of the server on a machine with 512 MiB of memory, while
# processes work on MIB of memory for at least so long. double: and each time the server that takes over dies, too, at the
# moment when only one other stands by, and the supervisor has just begun to make a third.

mib=${1:-450}
seconds=${2:-1}
frontend=${3:-fuse}
# A pass over more than there is of memory takes long, here where all is emulated.
LIMIT=$((1500 + seconds * 10))
program=uzramd crash=
[[ ${4:-} != double ]] || program=uzramd_hooks crash=take-over:1
# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"

cached kernel kernel.sh 6.12
for file in daemon/uzramd daemon/uzramctl tests/system/uzramd_hooks tests/system/hog; do
    add_program "$BUILD/$file"
done
cp "$VM/guest/case_pressure.sh" "$T/root/case"
make_initrd "$kernel" init loop ublk_drv
# As uzramd(8) advises, NOTES.
qemu_command "$kernel" 512 "MIB=$mib PRESSURE=$seconds FRONTEND=$frontend PROGRAM=$program CRASH=$crash
    sysctl.vm.watermark_scale_factor=200"
run_guest
