#!/bin/bash
# SPDX-License-Identifier: MIT
#
# shell.sh [KERNEL [FRONTEND]]: a shell in a Debian with systemd, in which swap0 has been started, on this terminal. The
# machine ends with the shell. (So it does with Ctrl-A X.)

T=$(mktemp -d "${TMPDIR:-/tmp}/uzvm.XXXXXX") # so that this is no test
trap 'rm -rf "$T"' EXIT
# shellcheck source=tests/vm/debian.sh
. "${0%/*}/debian.sh"

make_debian "${1:-6.12}" "${2:-auto}" "" uzram-shell
"${qemu[@]}"
