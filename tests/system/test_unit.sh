#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The systemd unit: nothing in it that systemd doesn't like, as shut as it can be, and in the host's mount namespace.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need systemd-analyze
UNIT=${UNIT:-$BUILD/systemd/uzramd@.service}

# With the daemon where it is, not where it will be installed.
unit=$T/uzramd@.service
local_paths="s|=[^ ]*/uzramd |=$UZRAMD |; s|=[^ ]*/uzramctl |=$BUILD/daemon/uzramctl |"
sed "$local_paths" "$UNIT" >"$unit"
sed "$local_paths" "${UNIT%/*}/uzram-sleep.service" >"$T/uzram-sleep.service"
systemd-analyze verify --man=no "$unit" "$T/uzram-sleep.service" >"$T/verify" 2>&1 ||
    fail "verify: $(cat "$T/verify")"
[[ ! -s $T/verify ]] || fail "verify: $(cat "$T/verify")"

# 3.5 of 10, of which 0.5 are the capabilities that it takes to lose all capabilities; the unit has the other reasons.
systemd-analyze security --no-pager --offline=yes --threshold=35 "$unit" >"$T/security" ||
    fail "$(tail -n 1 "$T/security")"

# Each of these would hide the daemon's mounts from everybody else.
private='ProtectSystem|ProtectHome|ProtectProc|ProcSubset|ProtectKernel[A-Z][a-z]*|ProtectControlGroups|PrivateTmp|'
private+='PrivateDevices|PrivateIPC|Root[A-Z].*|Bind[A-Z].*|TemporaryFileSystem|MountFlags|.*Paths|DynamicUser'
! grep -E "^($private)=" "$unit" || fail "that takes a mount namespace of its own"
grep -qx 'PrivateMounts=no' "$unit"
