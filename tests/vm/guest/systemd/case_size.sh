# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A size whose table takes more memory than there is to spare, 2 GiB for 1 TiB: it is refused, with the figures, and nobody is
# killed for it. The table of the largest size that is named can be had.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

config=/etc/uzram/swap0.toml
cp $config /run/swap0.toml
sed -i 's/^size = .*/size = "1T"/' $config

systemctl stop "$UNIT"
kills=$(awk '$1 == "oom_kill" { print $2 }' /proc/vmstat)
! uzramd --check --config $config 2>/run/said || fail "--check says nothing"
cat /run/said
grep -q 'swap0.toml:1: size: .* 2048 MiB, .* at most .* MiB of this machine' /run/said || fail "it does not say what it takes"
! systemd-run --quiet --pipe --wait --property=MemoryMax=64M uzramd --check --config $config 2>/run/said.cgroup ||
    fail "--check says nothing in a cgroup"
grep '64 MiB of the memory cgroup' /run/said.cgroup || fail "its cgroup has no say"
! systemctl start "$UNIT" || fail "it has started"
said 'swap0.toml:1: size: ' || fail "it does not say why not"
[[ $(awk '$1 == "oom_kill" { print $2 }' /proc/vmstat) == "$kills" ]] || fail "somebody was killed for it"

largest=$(sed 's/.*at most \([0-9]*M\).*/\1/' /run/said)
sed -i "s/^size = .*/size = \"$largest\"/" $config
systemctl reset-failed "$UNIT"
systemctl start "$UNIT" || fail "no $largest either"
in_use || fail "not in use as swap"

cp /run/swap0.toml $config
systemctl restart "$UNIT"
