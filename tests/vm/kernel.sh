#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kernel.sh VERSION: print a directory that holds Debian's cloud kernel of that version (6.1 or 6.12), unpacked:
# boot/vmlinuz-* and lib/modules/*. It is downloaded from the suites that this machine's apt knows, once for each of its
# updates, into the user's cache; nothing is installed. Exits with 77 and a reason if it can't be had.

set -euo pipefail

skip() { echo "SKIP: $*"; exit 77; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/uzram
# A newer kernel's name has its version in it, the release's own has not.
package=$(apt-cache depends "linux-image-$1-cloud-amd64" linux-image-cloud-amd64 2>/dev/null |
    awk -v "prefix=linux-image-$1." '$1 == "Depends:" && index($2, prefix) == 1 { print $2; exit }')
[[ -n $package ]] || skip "apt knows no $1 kernel for the cloud (apt-get update)"
kernel=$cache/$package

if [[ ! -d $kernel ]]; then
    mkdir -p "$cache"
    unpacked=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$unpacked"' EXIT
    cd "$unpacked"
    # Nobody else may write here, so apt could not do it as its user _apt.
    apt-get download -qq -o APT::Sandbox::User=root "$package" >&2 || skip "$package can't be downloaded"
    dpkg-deb --extract ./*.deb .
    rm ./*.deb
    depmod --basedir "$unpacked" "$(ls lib/modules)" # as its installation would
    mv -T "$unpacked" "$kernel" 2>/dev/null || [[ -d $kernel ]] # another run may have been faster
fi
echo "$kernel"
