# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Swap that nobody serves any more: supervisor and servers are stopped while a process needs it.

set -eu

printf 'size = "1G"\nfrontend = "%s"\n' "$FRONTEND" >/etc/swap0.toml
uzramd --config /etc/swap0.toml >/dev/kmsg 2>&1 &
supervisor=$!
until [ "$(wc -l </proc/swaps)" = 2 ]; do usleep 50000; done
hog -m 450 -p 1 &
until [ "$(sed -n 's/^pswpout //p' /proc/vmstat)" -gt 10000 ]; do usleep 50000; done
# shellcheck disable=SC2046 # a list
kill -STOP $supervisor $(cat "/proc/$supervisor/task/$supervisor/children")
wait
