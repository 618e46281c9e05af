#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What udev makes of our block devices and of others by the rule, with no udevd: "udevadm test" carries out what one would.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need udevadm losetup

# udev DEVICE: in a /run/udev that has our rule and no database, and in a /dev of its own, for the links.
udev() {
    # shellcheck disable=SC2016 # the inner shell's
    unshare --mount bash -ec 'mkdir -p /run/udev "$3"; mount -t tmpfs none /run/udev; mount -t tmpfs none "$3"
        cp -a /dev/null "/dev/$2" "$3"; [[ ! -d /dev/uzram ]] || cp -a /dev/uzram "$3"; mount --bind "$3" /dev
        mkdir /run/udev/rules.d; cp "$1" /run/udev/rules.d/; udevadm test --action=change "/sys/block/$2" 2>&1' - \
        "$HERE/../../systemd/59-uzram.rules" "$(basename "$1")" "$T/dev" >"$T/udev"
}
# property NAME VALUE
property() { grep -qx "$1=$2" "$T/udev" || fail "$1 is not $2: $(cat "$T/udev")"; }
no_property() { ! grep -q "^$1=" "$T/udev" || fail "$1 is there: $(cat "$T/udev")"; }

start_daemon "$DEV" <<'EOT'
size = "64M"
[swap]
enabled = false
EOT
loop=$(loops_of "$DEV")
udev "$loop"
property UZRAM_NAME "$DEV"
property SYSTEMD_ALIAS "/dev/uzram/$DEV"
no_property DEVLINKS

# Before the name is there systemd is not to know it: it would go on to mount what it can't find.
mv "/dev/uzram/$DEV" "$T/link"
udev "$loop"
no_property SYSTEMD_ALIAS
no_property DEVLINKS
mv "$T/link" "/dev/uzram/$DEV"
stop_daemon "$DEV"
[[ ! -e /run/uzram/.${loop#/dev/} ]] || fail "left behind: $(ls -A /run/uzram)"

truncate -s 1M "$T/image"
loop=$(losetup -f --show "$T/image")
at_exit "losetup -d $loop"
udev "$loop"
no_property UZRAM_NAME
no_property SYSTEMD_ALIAS
property DEVLINKS '/dev/disk/by-.*'
