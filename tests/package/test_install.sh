#!/bin/bash
# SPDX-License-Identifier: MIT
#
# meson install, as a distribution's package does it: everything is where it belongs, and a program can be built with
# what is there and nothing else. meson dist: what is committed can be built without the rest of this directory.

set -euo pipefail
export LC_ALL=C

HERE=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
TREE=$(realpath "$HERE/../..")
T=$(mktemp -d "${TMPDIR:-/tmp}/uzpackage.XXXXXX")
trap 'rm -rf "$T"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
quietly() { "$@" >"$T/log" 2>&1 || { cat "$T/log"; fail "$*"; }; }

# A build of its own: in a build directory, "ninja uninstall" removes what was last installed from there.
root=$T/root
quietly meson setup "$T/build" "$TREE" --prefix=/usr --libdir=lib
# Only what is installed is built: the tests would take longer than all of it.
targets=()
for file in $(meson introspect --installed "$T/build" | grep -o '"/[^"]*":' | tr -d '":'); do
    [[ -e $file ]] || targets+=("${file#"$T/build/"}")
done
quietly ninja -C "$T/build" "${targets[@]}"
quietly meson install -C "$T/build" --no-rebuild --destdir "$root"

export PKG_CONFIG_SYSROOT_DIR=$root
PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig:$(pkg-config --variable pc_path pkg-config)
export PKG_CONFIG_LIBDIR
version=$(pkg-config --modversion uzram)

# Debian 12 still has systemd's and udev's directories in /lib.
find "$root" ! -type d -printf '/%P\n' | sed "s|^/lib/|/usr/lib/|; s|$version$|VERSION|" | sort |
    diff "$HERE/installed" - || fail "not what is expected (<), but (>)"

# Nothing is outside of another prefix, and what must be: the unit finds the program there.
quietly meson setup --reconfigure "$T/build" "$TREE" --prefix="$T/prefix"
quietly ninja -C "$T/build" "${targets[@]}"
quietly meson install -C "$T/build" --no-rebuild --destdir "$T/other"
outside=$(find "$T/other" ! -type d ! -path "$T/other$T/prefix/*")
[[ -z $outside ]] || fail "outside of the prefix: $outside"
grep -q "^ExecStart=$T/prefix/sbin/uzramd " "$T/other$T/prefix/lib/systemd/system/uzramd@.service" ||
    fail "the unit is not where it should be, or doesn't find the program"

# The library has the functions of its headers and no others, and the man page tells of each. (Statistics are had by inline
# functions, which pass the size of their struct to one that users don't call.)
nm -D --defined-only "$root/usr/lib/libuzram.so" | cut -d ' ' -f 3 | sort >"$T/functions"
grep -oh '\<uz_[a-z_]*(' "$root"/usr/include/uzram/*.h | tr -d '(' | sed 's/\(_get\)*_stat$/_get_stat/' | sort -u |
    diff - "$T/functions" ||
    fail "the headers' functions (<) are not the library's (>)"
grep -oP 'uz_[a-z_]*(?=\\fR\(\))' "$root/usr/share/man/man3/libuzram.3" | sort -u |
    diff - <(sed 's/_get_stat$/_stat/' "$T/functions" | sort) || fail "libuzram(3) doesn't explain (<) the library's functions (>)"

consumer=$TREE/tests/unit/consumer.c
# shellcheck disable=SC2046 # lists
{
    cc -o "$T/shared" "$consumer" $(pkg-config --cflags --libs uzram)
    cc -o "$T/static" "$consumer" -static $(pkg-config --cflags --libs --static uzram)
}
LD_LIBRARY_PATH=$root/usr/lib "$T/shared"
"$T/static"

head -n 1 "$TREE/config/debian/changelog" | grep -qF "uzram ($version)" ||
    fail "$version is not the first version in config/debian/changelog"

[[ -e $TREE/.git ]] || exit 0 # this is such a tarball
quietly meson dist -C "$T/build" --no-tests --allow-dirty
tar -C "$T" -xf "$T/build/meson-dist/uzram-$version.tar.xz"
quietly meson setup "$T/dist" "$T/uzram-$version"
