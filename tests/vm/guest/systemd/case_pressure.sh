# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Processes need more memory than there is, $1 (150) percent of it, and every page of theirs must be right in the end;
# meanwhile the server is killed and the daemon upgraded, again and again.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

ram=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)
percent=${1:-150}
hog -m $((ram * percent / 100)) -p 1 -k 2 >/run/hog 2>&1 &
hog=$!
began=$SECONDS
failed_before=$(dmesg | grep -c 'Write-error on swap-device' || :)
kills=0 reloads=0 most=0
supervisor=$(supervisor)
while kill -0 $hog 2>/dev/null; do
    sleep 2
    stored=$(stored_mib)
    most=$((stored > most ? stored : most))
    if outlives_server; then
        kill -KILL "$(server)" && kills=$((kills + 1))
        sleep 2
    fi
    systemctl reload "$UNIT" || fail "reload"
    reloads=$((reloads + 1))
done
cat /run/hog
# Where memory runs out faster than pages go out, some writes fail, and the kernel keeps their pages.
failed=$(dmesg | grep -c 'Write-error on swap-device' || :)
wait $hog || fail "wrong pages, or a dead process"
say "$ram MiB of RAM, at most $most MiB stored, $kills kills and $reloads upgrades in $((SECONDS - began)) s; longest until" \
    "the next server answered $(($(metric outage_max_nanoseconds) / 1000000)) ms; $((failed - failed_before)) writes failed"
((most > ram * (percent - 50) / 100)) || fail "that was no shortage"
[[ $(supervisor) == "$supervisor" ]] || fail "the supervisor was replaced"
((reloads > 0)) || fail "no upgrade"
