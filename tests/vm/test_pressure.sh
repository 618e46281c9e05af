#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_pressure.sh [MIB [SECONDS]]: kills of the server on a machine with 512 MiB of memory, while processes work on MIB
# of memory for at least so long.

# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"
need qemu-system-x86_64 busybox xz

mib=${1:-450}
seconds=${2:-1}
kernel=$("$HERE/kernel.sh" 6.12) || { echo "$kernel"; exit 77; }
make_initrd "$kernel" case_pressure.sh
# A pass over more than there is of memory takes long, here where all is emulated.
run_guest $((200 + seconds * 4)) "$kernel" 512 "MIB=$mib" "PRESSURE=$seconds"
