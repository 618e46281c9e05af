# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The package is upgraded, with pages swapped out: the daemon goes on as the new one. (There is none if uzram was
# installed without.)

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

[[ -e /root/uzram.deb ]] || exit 0

hog_swapped_out 80
before=$(supervisor)
upgrades=$(cat /run/uzram/swap0/upgrade)
dpkg --install /root/uzram.deb || fail "dpkg"
[[ $(supervisor) == "$before" ]] || fail "it was restarted"
(($(cat /run/uzram/swap0/upgrade) == upgrades + 1)) || fail "it was not upgraded"
in_use || fail "not in use as swap"
hog_verifies
