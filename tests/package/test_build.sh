#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds other than the usual one, without a warning: the other compiler, without assertions, and where neither systemd nor
# udev says where its files go.

set -euo pipefail
export LC_ALL=C

TREE=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
T=$(mktemp -d "${TMPDIR:-/tmp}/uzbuild.XXXXXX")
trap 'rm -rf "$T"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }
quietly() { "$@" >"$T/log" 2>&1 || { cat "$T/log"; fail "$*"; }; }
command -v clang++ >/dev/null || { echo "SKIP: clang is not installed (./dev deps test)"; exit 77; }

mkdir "$T/pkgconfig"
IFS=: read -ra dirs <<<"$(pkg-config --variable pc_path pkg-config)"
for dir in "${dirs[@]}"; do
    [[ ! -d $dir ]] || ln -sf "$dir"/*.pc "$T/pkgconfig/"
done
rm -f "$T/pkgconfig/systemd.pc" "$T/pkgconfig/udev.pc"
PKG_CONFIG_LIBDIR=$T/pkgconfig CC=clang CXX=clang++ \
    quietly meson setup "$T/build" "$TREE" --prefix=/usr --buildtype=release --werror
targets=()
for file in $(meson introspect --installed "$T/build" | grep -o '"/[^"]*":' | tr -d '":'); do
    [[ -e $file ]] || targets+=("${file#"$T/build/"}")
done
quietly ninja -C "$T/build" "${targets[@]}" tests/unit/test_store tests/unit/test_config
quietly "$T/build/tests/unit/test_store"
quietly "$T/build/tests/unit/test_config" "$TREE"
DESTDIR=$T/root quietly meson install -C "$T/build" --no-rebuild
[[ -e $T/root/usr/lib/systemd/system/uzramd@.service ]] || fail "the unit is elsewhere"
