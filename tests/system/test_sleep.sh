#!/bin/bash
# SPDX-License-Identifier: MIT
#
# uzramctl sleep and wake, as uzram-sleep.service calls them: swap goes and comes back, of those devices that want it,
# also if the server dies or the daemon is upgraded meanwhile.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt

# The verbs act on all devices: show them ours only.
mkdir "$T/run"
ln -s "/run/uzram/$DEV" "/run/uzram/$DEV-awake" "$T/run"
ctl() { UZRAM_RUNDIR=$T/run timeout 60 "$BUILD/daemon/uzramctl" "$@"; }
is_swap() { grep -q "^$(readlink "/dev/uzram/$1") " /proc/swaps; }

start_daemon "$DEV" <<'EOT'
size = "512M"
[swap]
priority = 32767
EOT
start_daemon "$DEV-awake" <<'EOT'
size = "64M"
[swap]
priority = 0
off_for_sleep = false
EOT

memcg_new 64
mkfifo "$T/go"
memcg_run "$CG" "$HOG" -w -m 200 -p 1 <"$T/go" >"$T/hog" &
hog=$!
exec {go}>"$T/go"
wait_for 60 grep -q holding "$T/hog" || fail "the hog is not ready"
pages_stored "$DEV" 30000 || fail "nothing is swapped out"

# Its cgroup can't take the pages: swapoff fails rather than have the hog killed, and says so.
echo -1000 >"/proc/$(tail -n 1 "$CG/cgroup.procs")/oom_score_adj" 2>/dev/null || :
[[ ! -e $CG/memory.oom_control ]] || echo 1 >"$CG/memory.oom_control"
! ctl sleep 2>"$T/ctl" || fail "sleep succeeded without the memory for it"
say "$(cat "$T/ctl")"
is_swap "$DEV" || fail "swap is off"
memcg_limit "$CG" 400

ctl sleep || fail "sleep"
! is_swap "$DEV" || fail "still swap"
is_swap "$DEV-awake" || fail "a device that is not to be touched was"
[[ $(cat "/run/uzram/$DEV/sleep") == 1 && $(cat "/run/uzram/$DEV-awake/sleep") == 0 ]] || fail "what the files say"
ctl sleep || fail "sleep, once more"
kill -KILL "$(server_pid "$DEV")"
ctl upgrade "$DEV" || fail "upgrade"
! is_swap "$DEV" || fail "swap is on again too early"
ctl wake || fail "wake"
is_swap "$DEV" || fail "no swap after waking"
ctl wake || fail "wake, once more"

# It is used again.
written=$(metric "$DEV" written_pages_total)
memcg_limit "$CG" 64 || memcg_limit "$CG" 64 || : # the first attempts may find too much to swap out
swaps_out() { (($(metric "$DEV" written_pages_total) > written + 10000)); }
wait_for 60 swaps_out || fail "nothing is swapped out any more"
exec {go}>&-
wait "$hog" || fail "the hog was harmed: $(cat "$T/hog")"

# Stopped while it sleeps.
ctl sleep
stop_daemon "$DEV"
stop_daemon "$DEV-awake"
