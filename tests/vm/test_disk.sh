#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A virtual machine whose disk is uzram, which runs on the host: the guest boots from it, writes, verifies, deletes,
# and discards what it has deleted, which gives the memory back.

# shellcheck source=tests/vm/lib.sh
. "${0%/*}/lib.sh"
need mke2fs e2fsck

start_daemon "$DEV" <<'EOT'
size = "512M"
[swap]
enabled = false
[loop]
enabled = false
[latency]
hold = "never" # tests/system/test_latency.sh may run at the same time
EOT
disk=/run/uzram/$DEV/disk

# The guest's root: busybox, and the case as what comes first.
mkdir -p "$T"/guest/{bin,dev,proc,sbin,sys}
cp "$(command -v busybox)" "$T/guest/bin/"
install "$VM/guest/case_disk.sh" "$T/guest/sbin/init"
mke2fs -q -t ext4 -d "$T/guest" "$T/image" 512M >/dev/null
dd if="$T/image" of="$disk" bs=1M oflag=direct conv=notrunc,sparse status=none
empty=$(mm_stat "$DEV" orig_data_size)

cached kernel kernel.sh 6.12
make_initrd "$kernel" init_disk virtio_pci virtio_blk ext4
qemu_command "$kernel" 256 "" -drive "file=$disk,format=raw,if=virtio,cache=none,aio=native,discard=unmap"
run_guest

written=$(metric "$DEV" written_pages_total)
left=$(mm_stat "$DEV" orig_data_size)
say "$((written >> 8)) MiB written in all; $(mib "$empty") MiB stored at first, $(mib "$left") MiB in the end"
((written >> 8 > 128)) || fail "the guest has not written what it should have"
(($(mib $((left - empty))) < 16)) || fail "what was discarded is still stored"
e2fsck -fn "$disk" >"$T/e2fsck" 2>&1 || fail "the file system: $(cat "$T/e2fsck")"
assert_no_errors "$DEV"
stop_daemon "$DEV"
