#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The Debian packages are built, and lintian has nothing to say. In a small Debian of its own: it is installed, stays where a
# device can't be stopped, and when it is purged nothing is left but what the administrator has written.

set -euo pipefail
export LC_ALL=C

TREE=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
[[ $EUID == 0 ]] || { echo "SKIP: needs root"; exit 77; }
[[ -n ${T-} ]] || {
    T=$(mktemp -d "${TMPDIR:-/tmp}/uzdeb.XXXXXX")
    trap 'rm -rf --one-file-system "$T"' EXIT
    export T
    unshare --mount "$BASH" "$0"
    exit
}
fail() { echo "FAIL: $*" >&2; exit 1; }

"$TREE/dev" deb >"$T/log" 2>&1 || fail "./dev deb: $(cat "$T/log")"
cmp -s <(sed -n 's/^ \(uz_[a-z_]*\)@.*/\1/p' "$TREE/config/debian/libuzram0.symbols") \
    <(nm -D --defined-only "$TREE/build/lib/libuzram.so" | cut -d ' ' -f 3 | sort) ||
    fail "config/debian/libuzram0.symbols does not list the library's functions"

status=0
tar=$("$TREE/tests/vm/root.sh") || status=$?
((status == 0)) || { echo "$tar"; exit $status; }
root=$T/root
mkdir "$root"
mount -t tmpfs none "$root"
tar -C "$root" -xf "$tar"
mount --bind /dev "$root/dev"
mount -t proc none "$root/proc"
cp "$TREE"/build/deb/uzram_*.deb "$root/tmp/uzram.deb"
in_root() { chroot "$root" "$@" >"$T/out" 2>&1; }
# files: all that the package could have made.
files() { (cd "$root" && find . -xdev -name '*uzram*' ! -path './tmp/*' ! -path './var/log/*' | sort); }

in_root dpkg --install /tmp/uzram.deb || fail "install: $(cat "$T/out")"
in_root getent passwd uzram || fail "there is no user uzram"
# (This Debian has no documentation.)
dpkg-deb --fsys-tarfile "$root/tmp/uzram.deb" | tar -xO ./usr/share/doc/uzram/examples/swap0.toml >"$root/tmp/swap0.toml"
in_root uzramd --check --config /tmp/swap0.toml || fail "the example: $(cat "$T/out")"
[[ -z $(ls "$root/etc/uzram") ]] || fail "in /etc/uzram: $(ls "$root/etc/uzram")"
echo 'size = "1G"' >"$root/etc/uzram/swap0.toml"
wants=$root/etc/systemd/system/swap.target.wants
mkdir -p "$wants"
ln -s /lib/systemd/system/uzramd@.service "$wants/uzramd@swap0.service"

# A device that doesn't stop: here one that there is no daemon of.
mkdir -p "$root/run/uzram/swap0"
! in_root dpkg --purge uzram || fail "removed while a device is there"
grep -q 'uzram stays installed: the device swap0 is in use' "$T/out" || fail "unclear: $(cat "$T/out")"
in_root uzramd --version || fail "it is gone"
rm -r "$root/run/uzram"

in_root dpkg --purge uzram || fail "purge: $(cat "$T/out")"
[[ $(files) == ./etc/uzram ]] || fail "left: $(files)"
[[ $(ls "$root/etc/uzram") == swap0.toml ]] || fail "in /etc/uzram: $(ls "$root/etc/uzram")"
! in_root getent passwd uzram || fail "left: the user"
! in_root getent group uzram || fail "left: the group"
