#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ./dev run and stop on a machine with systemd touch nothing of the administrator's or of the package: /etc and /usr can't
# be written to here. (There is no systemd: what is asked of it is written down.)

set -euo pipefail

[[ $EUID == 0 ]] || { echo "SKIP: needs root"; exit 77; }
TREE=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
[[ -e $TREE/build/build.ninja ]] || { echo "SKIP: there is no build/"; exit 77; }
[[ -n ${T-} ]] || {
    T=$(mktemp -d "${TMPDIR:-/tmp}/uzdev.XXXXXX")
    trap 'rm -rf "$T"' EXIT
    export T
    unshare --mount "$BASH" "$0"
    exit
}
fail() { echo "FAIL: $*" >&2; exit 1; }

for dir in /etc /usr; do
    mount --bind $dir $dir
    mount -o remount,bind,ro $dir
done
mkdir -p /run/systemd /run/udev "$T/bin"
mount -t tmpfs none /run/systemd
mount -t tmpfs none /run/udev
mkdir /run/systemd/system
printf '#!/bin/sh\necho "$*" >>%s/asked\n' "$T" >"$T/bin/systemctl"
chmod +x "$T/bin/systemctl"
export PATH=$T/bin:$PATH

# list: the files in /run/systemd and /run/udev.
list() { find /run/systemd /run/udev -type f | sort; }

echo "the administrator's" >/run/systemd/system/uzramd@swap0.service
"$TREE/dev" run >"$T/out" || fail "run: $(cat "$T/out")"
list >"$T/files"
diff "$T/files" - <<'EOT' || fail "not the files that are needed (>)"
/run/systemd/system/run-uzram-dev0.mount.d/uzram.conf
/run/systemd/system/uzramd@dev0.service
/run/systemd/system/uzramd@swap0.service
/run/udev/rules.d/59-uzram.rules
EOT
grep -q "^ExecStart=$TREE/build/daemon/uzramd --config $TREE/build/dev0.toml$" /run/systemd/system/uzramd@dev0.service ||
    fail "the unit has another program"
[[ $(tail -n 1 "$T/asked") == 'start uzramd@dev0' ]] || fail "not started: $(cat "$T/asked")"

"$TREE/dev" stop >"$T/out" || fail "stop: $(cat "$T/out")"
[[ $(list) == /run/systemd/system/uzramd@swap0.service ]] || fail "left: $(list)"
