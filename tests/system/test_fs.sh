#!/bin/bash
# SPDX-License-Identifier: MIT
#
# File systems on the block device: real files survive remounts, fstrim gives the memory of deleted ones back, and
# fsck is content.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need mkfs.ext4 mkfs.xfs fstrim e2fsck xfs_repair

start_daemon "$DEV" <<'EOT'
size = "1G"
[swap]
enabled = false
EOT
dev=/dev/uzram/$DEV
mnt=$T/mnt
mkdir "$mnt"
at_exit "! mountpoint -q $mnt || timeout 60 umount $mnt"

# Up to 200 MB of what this machine has, as paths below /; every second file will be deleted.
find /usr -xdev -type f -size +8k -size -4M -printf '%s %P\n' | sort -k2 | sed -n '1~8p' |
    awk '(sum += $1) < 200e6 { $1 = "usr"; sub(/ /, "/"); print }' >"$T/all"
sed -n '1~2p' "$T/all" >"$T/kept"
sed -n '2~2p' "$T/all" >"$T/deleted"
for list in all kept; do
    (cd / && xargs -d '\n' sha256sum) <"$T/$list" >"$T/$list.sums"
done

remount_and_verify() {
    umount "$mnt"
    mount "$dev" "$mnt"
    (cd "$mnt" && sha256sum --check --strict --quiet "$T/$1.sums")
}

# fstrim has given back most of what was deleted. (The file system may take its time to free it, and fstrim only finds what
# is free.)
trimmed() {
    sync -f "$mnt"
    fstrim "$mnt"
    left=$(mm_stat "$DEV" orig_data_size)
    ((full - left > deleted * 8 / 10))
}

exercise() {
    local fs=$1 full left deleted
    mkfs."$fs" -q "$dev"
    mount "$dev" "$mnt"
    (cd / && xargs -d '\n' cp --parents -t "$mnt") <"$T/all"
    remount_and_verify all
    full=$(mm_stat "$DEV" orig_data_size)

    (cd "$mnt" && xargs -d '\n' rm) <"$T/deleted"
    deleted=$( (cd / && xargs -d '\n' stat -c %s) <"$T/deleted" | awk '{ sum += $1 } END { print sum }')
    wait_for 60 trimmed || fail "fstrim gave too little back: of $(mib "$full") MiB there are still $(mib "$left")"
    say "$fs: $(wc -l <"$T/all") files stored in $(mib "$full") MiB;" \
        "fstrim after deleting $(mib "$deleted") MiB of them: $(mib "$left") MiB"
    remount_and_verify kept
    umount "$mnt"
}

exercise ext4
e2fsck -fn "$dev" >"$T/fsck" 2>&1 || fail "$(cat "$T/fsck")"
blkdiscard --force "$dev"

if grep -qw xfs /proc/filesystems || modprobe -q xfs; then
    exercise xfs
    xfs_repair -n "$dev" >"$T/fsck" 2>&1 || fail "$(cat "$T/fsck")"
else
    say "this kernel has no XFS: only mkfs.xfs and xfs_repair are tried"
    mkfs.xfs -q "$dev"
    xfs_repair -n "$dev" >"$T/fsck" 2>&1 || fail "$(cat "$T/fsck")"
fi

stop_daemon "$DEV"
