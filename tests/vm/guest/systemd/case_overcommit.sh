# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The kernel promises no more memory than there is (vm.overcommit_memory=2). Of the daemon it counts what is stored, once,
# and a little for each process; so there is room for it, and for its successors, up to the limit.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

HOG=200

# meminfo FIELD: MiB
meminfo() { awk -v "field=$1:" '$1 == field { print int($2 / 1024) }' /proc/meminfo; }
used_mib() { awk '{ print int($3 / 1048576) }' /run/uzram/swap0/mm_stat; }
failed_writes() { awk '{ print $2 }' /run/uzram/swap0/io_stat; }
# A server, and all that stand by, with all their threads.
complete() {
    local server threads first=
    (($(servers | wc -w) == $(outlives_server && echo 3 || echo 1))) || return 1
    for server in $(servers); do
        threads=$(cat "/proc/$server/task"/*/comm 2>/dev/null | grep -c '^uz-')
        [[ ${first:=$threads} == "$threads" ]] || return 1
    done
}
replaced() { [[ $(server) != "$killed" ]] && complete; }

systemctl stop "$UNIT"
sysctl -q vm.overcommit_memory=2 vm.overcommit_ratio=100
before=$(meminfo Committed_AS)
systemctl start "$UNIT"
wait_for 30 complete || fail "no server stands by"
started=$(meminfo Committed_AS)
servers=$(servers | wc -w)
say "$((started - before)) MiB committed for $servers servers, of a limit of $(meminfo CommitLimit)"
# The table, the reserve, and the servers' own.
((started - before < 20 + servers * 20)) || fail "that is too much"

sysctl -q vm.overcommit_ratio=50
hog_swapped_out $HOG
used=$(used_mib)
committed=$(($(meminfo Committed_AS) - started))
say "$(stored_mib) MiB stored, $used MiB used: $committed MiB committed, of a limit of $(meminfo CommitLimit)"
((committed < HOG + used + servers * 4 + 16)) || fail "what is stored counts more than once"

if outlives_server; then
    killed=$(server)
    kill -KILL "$killed"
    wait_for 60 replaced || fail "no other server stands by"
fi
systemctl reload "$UNIT" || fail "reload"
(($(failed_writes) == 0)) || fail "$(failed_writes) writes failed"
hog_verifies
sysctl -q vm.overcommit_memory=0
