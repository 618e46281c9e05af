#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Two processes touch three times the memory they may have, so that their pages go to uzram and back, in several
# orders, some being freed in between: not one may come back wrong. Then the device must vanish without a trace.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt

start_daemon "$DEV" <<'EOT'
size = "2G"
[swap]
priority = 32767
EOT
swap=$(readlink -f "/dev/uzram/$DEV")
grep -E "^$swap +partition.*[[:space:]]32767$" /proc/swaps || fail "$swap is not in /proc/swaps: $(cat /proc/swaps)"

memcg_new 512
memcg_run "$CG" "$HOG" -m 1500 -p 3 -k 2 || fail "wrong pages; all swap: $(cat /proc/swaps)"
say "the hog is done; mm_stat: $(cat "/run/uzram/$DEV/mm_stat")"

# Was it uzram that was tested? At least 1500 - 512 MiB were out at the end of every pass, packed about 3:1.
used_max=$(mm_stat "$DEV" mem_used_max)
(($(mib "$used_max") > 200)) || fail "only $(mib "$used_max") MiB were ever used"
read -r failed_reads failed_writes _ <"/run/uzram/$DEV/io_stat"
((failed_reads + failed_writes == 0)) || fail "$failed_reads reads and $failed_writes writes failed"

stop_daemon "$DEV"
