# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The package is upgraded, with pages swapped out: the daemon goes on as the new one. It is removed, which takes the pages
# back, and leaves nothing but what the administrator has written; and installed again. (There is none if uzram was
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

hog_swapped_out 80
dpkg --purge uzram || fail "purge"
gone
own=(! -name 'uzram-test*' ! -name 'uzram-end*' ! -name 'uzram-shell*' ! -path '/root/*')
left=$(find / -xdev -name '*uzram*' "${own[@]}" -printf '%p ')
[[ $left == '/etc/uzram ' ]] || fail "left behind: $left"
[[ $(ls /etc/uzram) == swap0.toml ]] || fail "left in /etc/uzram: $(ls /etc/uzram)"
hog_verifies

dpkg --install /root/uzram.deb || fail "dpkg"
systemctl enable --now "$UNIT" || fail "start"
in_use || fail "not in use as swap again"

# What the package's own test does on other machines.
AUTOPKGTEST_TMP=/tmp sh /usr/lib/uzram-test/autopkgtest_device || fail "the package's test"
rm /tmp/data
