#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# The init of a guest whose root is on a disk in uzram: files of bytes that don't compress, and of some that do, are as
# they were written; when they are deleted their room is discarded.

/bin/busybox --install -s /bin
export PATH=/bin

say() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }

end() {
    cd /
    sync
    mount -o remount,ro / || set -- failed
    echo "<0>verdict: $1" >/dev/kmsg
    [ "$1" = passed ] || sleep 100 # tests/vm/lib.sh ends it when it has seen what everything is at
    poweroff -f
}

fail() { say "FAIL: $*"; end failed; }

# verify FILE...: as they are on the disk.
verify() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    sha256sum -c "$@" >/dev/null || fail "the files are not as they were written"
}

mount -o remount,rw / || fail "can't write to the disk"
mkdir /files
cd /files || fail "no directory"
for n in 1 2 3 4; do
    dd if=/dev/urandom of=random$n bs=1M count=8 2>/dev/null
    cat random$n random$n >twice$n
    yes "line of text number $n" | head -c 16777216 >text$n
    sha256sum random$n twice$n text$n >sums$n
done
say "$(du -sm . | cut -f1) MiB of files"
verify sums1 sums2 sums3 sums4
rm ./*1 ./*3
fstrim -v / || fail "can't discard"
verify sums2 sums4
rm ./*
sync
fstrim -v / || fail "can't discard"
end passed
