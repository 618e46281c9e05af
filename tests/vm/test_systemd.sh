#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_systemd.sh [KERNEL [FRONTEND [CASE[:ARGUMENT]...]]]: cases of guest/systemd, or all of them, on that kernel (6.1 or
# 6.12), in a Debian with systemd; the last is a reboot with pages swapped out.

# shellcheck source=tests/vm/debian.sh
. "${0%/*}/debian.sh"

version=${1:-6.12} frontend=${2:-auto}
set -- "${@:3}"
# Of case_limit.
export GUEST_MAY_SAY='[Oo]ut of memory: Killed process [0-9]+ \(oom-victim\)'
(($#)) || set -- start sandbox boot package restart size ring overcommit limit pressure watchdog sleep death
# The cases are words, and end up in the environment of the service.
make_debian "$version" "$frontend" "systemd.setenv=CASES=$(IFS=, && echo "$*")
    systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info" uzram-test uzram-end
run_guest
! grep -E 'Failed (un)?mounting' "$T/console" || fail "systemd has meddled with the daemon's mount"
