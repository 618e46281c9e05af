#!/bin/bash
# SPDX-License-Identifier: MIT
#
# root.sh: print a tar file of a small Debian, of the release that runs here: systemd, and what uzram needs at run time.
# It is made of Debian's packages once for each change of this script, in the user's cache. Exits with 77 and a reason
# if it can't be made.

set -euo pipefail

skip() { echo "SKIP: $*"; exit 77; }

packages=systemd,systemd-sysv,dbus,udev,kmod,util-linux,mount,procps
packages+=,libblkid1,libfuse3-3,liblz4-1,libseccomp2,libsmartcols1,libsystemd0,liburing2,libtomlplusplus3,libuuid1,libxxhash0,libzstd1

cache=${XDG_CACHE_HOME:-$HOME/.cache}/uzram
root=$cache/root-$(sha256sum <"$0" | cut -c 1-16).tar

if [[ ! -e $root ]]; then
    [[ $EUID == 0 ]] || skip "needs root"
    command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed (./dev deps test)"
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$cache"
    made=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    without=()
    for what in doc man locale zoneinfo; do
        without+=(--dpkgopt="path-exclude=/usr/share/$what/*")
    done
    mmdebstrap --quiet --mode=root --variant=essential --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt=force-unsafe-io "${without[@]}" "$release" "$made/root.tar" >&2 || skip "mmdebstrap failed"
    mv "$made/root.tar" "$root"
fi
echo "$root"
