#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Killing the serving process again and again, while a hog has most of its memory swapped out, loses nothing: no page,
# no process, no request.

LIMIT=110
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt pgrep

# FUSE_NOTIFY_RESEND, without which the kernel does not repeat what a dead server had not answered.
kernel=$(uname -r)
[[ $(printf '%s\n' 6.9 "$kernel" | sort -V | head -n 1) == 6.9 ]] || skip "Linux $kernel; this takes 6.9"

start_daemon "$DEV" <<'EOT'
size = "1G"
[swap]
priority = 32767
EOT
server() { pgrep -P "$(daemon_pid "$DEV")"; }

memcg_new 256
memcg_run "$CG" "$HOG" -m 800 -p 3 -k 2 &
hog=$!
kills=0
while sleep 0.7 && ! ended "$hog"; do
    kill -KILL "$(server)"
    kills=$((kills + 1))
done
wait "$hog" || fail "the hog was harmed by one of $kills kills"
say "$kills kills of the server; mm_stat: $(cat "/run/uzram/$DEV/mm_stat")"
((kills >= 5)) || fail "the hog was too quick for a test"
stop_daemon "$DEV"
