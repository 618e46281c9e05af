#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_pressure.sh [MIB [SECONDS [FRONTEND]]]: kills of the server on a machine with 512 MiB of memory, while processes
# work on MIB of memory for at least so long.

mib=${1:-450}
seconds=${2:-1}
frontend=${3:-fuse}
# A pass over more than there is of memory takes long, here where all is emulated.
LIMIT=$((200 + seconds * 4))
# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"

cached kernel kernel.sh 6.12
for program in daemon/uzramd daemon/uzramctl tests/system/hog; do
    add_program "$BUILD/$program"
done
cp "$VM/guest/case_pressure.sh" "$T/root/case"
make_initrd "$kernel" init loop ublk_drv
# As uzramd(8) advises, NOTES.
qemu_command "$kernel" 512 "MIB=$mib PRESSURE=$seconds FRONTEND=$frontend
    sysctl.vm.watermark_boost_factor=0 sysctl.vm.watermark_scale_factor=200"
run_guest
