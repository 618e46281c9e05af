# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the boot and other units see of a device: a start that hangs doesn't hold them up, a stop that takes its time is not
# cut short, and a unit that needs /dev/uzram/NAME goes on when it is there.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

# drop_in INSTANCE LINE...: for its [Service].
drop_in() {
    local dir=/run/systemd/system/uzramd@$1.service.d
    shift
    mkdir -p "$dir"
    printf '%s\n' '[Service]' "$@" >"$dir/test.conf"
    systemctl daemon-reload
}
state() { systemctl is-active "$1" || :; }
state_is() { [[ $(state "$1") == "$2" ]]; }

# A start that hangs and can't be told to end, with shorter times.
for limit in TimeoutStartUSec TimeoutStopUSec; do
    [[ $(property "$UNIT" $limit) != infinity ]] || fail "$limit is infinite"
done
drop_in hang 'ExecStart=' "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'" TimeoutStartSec=3 TimeoutStopSec=3
status=0
timeout 120 systemctl start uzramd@hang || status=$?
((status != 0 && status != 124)) || fail "a start that hangs: status $status"
state_is uzramd@hang failed || fail "a start that hangs is $(state uzramd@hang)"
systemctl kill --signal=KILL uzramd@hang || :
rm -r /run/systemd/system/uzramd@hang.service.d

# A unit that needs the device.
printf '%s\n' 'size = "64M"' "$(grep ^frontend /etc/uzram/swap0.toml)" 'swap.enabled = false' >/etc/uzram/vm0.toml
drop_in vm0 TimeoutStopSec=5
systemctl start uzramd@vm0 || fail "start"
mkswap --quiet /dev/uzram/vm0
printf '%s\n' '[Unit]' 'Requires=uzramd@vm0.service' 'After=uzramd@vm0.service' '[Swap]' 'What=/dev/uzram/vm0' \
    >/run/systemd/system/dev-uzram-vm0.swap
systemctl daemon-reload
timeout 80 systemctl start dev-uzram-vm0.swap || fail "a unit waits for /dev/uzram/vm0 in vain"
systemctl stop dev-uzram-vm0.swap || fail "swapoff"
rm /run/systemd/system/dev-uzram-vm0.swap
for name in swap0 vm0; do
    numbers=$(cat "/sys/class/block/$(basename "$(readlink /dev/uzram/$name)")/dev")
    [[ ! -L /run/udev/watch/b$numbers ]] || fail "udev watches $name"
    links=$(udevadm info --query=symlink "/dev/uzram/$name")
    [[ -z $links ]] || fail "$name has other names: $links"
    udevadm info "/dev/uzram/$name" | grep -q "SYSTEMD_ALIAS=/dev/uzram/$name$" || fail "systemd doesn't know $name"
done

# A stop that can't be gone through with yet, since the device is claimed, as by a mount.
perl -e 'use Fcntl; sysopen(my $dev, "/dev/uzram/vm0", O_RDONLY | O_EXCL) or die "$!\n";
    open(my $held, ">", "/run/held"); sleep' &
holder=$!
wait_for 60 test -e /run/held || fail "not claimed"
systemctl stop --no-block uzramd@vm0
sleep 15
state_is uzramd@vm0 deactivating || fail "a stop that takes its time: $(state uzramd@vm0)"
kill $holder
rm /run/held
wait_for 120 state_is uzramd@vm0 inactive || fail "after it could stop: $(state uzramd@vm0)"
rm -r /etc/uzram/vm0.toml /run/systemd/system/uzramd@vm0.service.d
systemctl daemon-reload
systemctl reset-failed
