# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A supervisor that does nothing any more is killed by systemd, and the next one takes over with what systemd kept.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

replaced() { [[ $(supervisor) != "$stuck" ]] && active; }

drop_ins=/run/systemd/system/$UNIT.d
mkdir -p "$drop_ins"
printf '[Service]\nWatchdogSec=10\n' >"$drop_ins/watchdog.conf"
systemctl daemon-reload
systemctl restart "$UNIT"
hog_swapped_out 80
kept=$(property "$UNIT" NFileDescriptorStore)
stuck=$(supervisor)
kill -STOP "$stuck"
wait_for 120 replaced || fail "nobody has taken over"
said 'Watchdog timeout' || fail "that was not the watchdog"
said 'this one goes on, nothing is lost' || fail "that was no taking over"
say "$kept descriptors kept"
in_use || fail "not in use as swap"
(($(stored_mib) > 40)) || fail "only $(stored_mib) MiB are stored"
hog_verifies

rm -r "$drop_ins"
systemctl daemon-reload
systemctl restart "$UNIT"
