#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the Debian package tells other packages: the initramfs never resumes from a uzram device, and needrestart never
# restarts one. With their own scripts, as far as they are installed.

set -euo pipefail
export LC_ALL=C

DEBIAN=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../config/debian")
[[ $EUID == 0 ]] || { echo "SKIP: needs root"; exit 77; }
[[ -n ${T-} ]] || {
    T=$(mktemp -d "${TMPDIR:-/tmp}/uzdebian.XXXXXX")
    trap 'rm -rf "$T"' EXIT
    export T
    unshare --mount "$BASH" "$0"
    exit
}
fail() { echo "FAIL: $*" >&2; exit 1; }

# ---- needrestart, whose configuration is Perl ----

# It asks the first pattern that the service's name matches.
cat >"$T/ask.pl" <<'EOT'
our %nrconf = (override_rc => {qr(^dbus) => 0});
defined(do $ARGV[0]) or die;
my @said = map { $nrconf{override_rc}->{$_} } grep { $ARGV[1] =~ /$_/ } keys %{$nrconf{override_rc}};
print @said ? "@said" : "restart";
EOT
ask() { perl "$T/ask.pl" "$DEBIAN/needrestart/uzram.conf" "$1"; }
[[ $(ask uzramd@swap0.service) == 0 ]] || fail "needrestart would restart it"
[[ $(ask cron.service) == restart ]] || fail "needrestart would not restart anything else"

# ---- the initramfs ----

theirs=/usr/share/initramfs-tools/hooks/resume
[[ -x $theirs ]] || { echo "SKIP: initramfs-tools-core is not installed (./dev deps test)"; exit 77; }
mkdir -p "$T/bin" "$T/dev/uzram"
mount -t tmpfs none "$T/dev"
cp -a /dev/null "$T/dev"
mkdir "$T/dev/uzram"
mount --bind "$T/dev" /dev
printf '#!/bin/sh\nexit 1\n' >"$T/bin/ischroot"
# shellcheck disable=SC2016 # the script's
printf '#!/bin/sh\nfor device; do :; done\necho "uuid-of-${device#/dev/}"\n' >"$T/bin/blkid"
chmod +x "$T"/bin/*
export PATH=$T/bin:$PATH DESTDIR=$T/initramfs verbose=n

# resume EXPECTED SWAP:KIB...: what it is to resume from where these are in use, after both hooks.
resume() {
    local expected=$1 found
    shift
    mkdir -p "$DESTDIR/conf/conf.d"
    {
        echo 'Filename Type Size Used Priority'
        printf '%s\n' "$@" | sed 's|\(.*\):\(.*\)|/dev/\1 partition \2 0 100|'
    } >"$T/swaps"
    mount --bind "$T/swaps" /proc/swaps
    "$theirs" >"$T/out" 2>&1
    "$DEBIAN/uzram.initramfs-hook" >>"$T/out" 2>&1 || fail "the hook: $(cat "$T/out")"
    umount /proc/swaps
    found=$(cat "$DESTDIR/conf/conf.d/zz-resume-auto" 2>/dev/null) || :
    [[ $found == "$expected" ]] || fail "'$found' instead of '$expected' with $*: $(cat "$T/out")"
    rm -r "$DESTDIR"
}

[[ $("$DEBIAN/uzram.initramfs-hook" prereqs) == resume ]] || fail "it must come after the hook that chooses"
resume RESUME=UUID=uuid-of-loop7 loop7:4096000 vdz1:1024000 # a loop device of somebody else's: theirs to choose
ln -s /dev/loop7 /dev/uzram/swap0
ln -s /dev/ublkb0 /dev/uzram/swap1
resume '' loop7:4096000
resume '' loop7:4096000 ublkb0:8192000
resume RESUME=UUID=uuid-of-vdz1 loop7:4096000 vdz1:1024000 ublkb0:8192000
resume RESUME=UUID=uuid-of-vdz1 vdz1:1024000
resume RESUME=UUID=uuid-of-loop71 loop71:1024000 loop7:4096000
export RESUME=auto
resume RESUME= loop7:4096000
