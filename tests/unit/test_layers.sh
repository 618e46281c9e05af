#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A file's path tells the privilege that it runs with: what supervisor/ (root), server/ (the jail) and shared/ (both) may
# include of each other.

set -euo pipefail
cd "${0%/*}/../../daemon"
failed=0

# may_not FOLDER PATTERN: none of its files includes what matches that, but for lines that EXCEPT matches.
may_not() {
    local found
    found=$(grep -rnE --include='*.[ch]' "^#include \"($2)" "$1" | grep -vE "${EXCEPT:-^$}") || return 0
    printf 'FAIL: %s includes what it may not:\n%s\n' "$1" "$found"
    failed=1
}

# The supervisor forks, and its child becomes a server: that is the only way from one side to the other.
EXCEPT='#include "server/server\.h"' may_not supervisor/ 'server/'
may_not server/ 'supervisor/|ctl/'
may_not shared/ 'server/|supervisor/|ctl/'
may_not config/ 'server/|supervisor/|shared/|ctl/'
exit $failed
