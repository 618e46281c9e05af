# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# memory.limit is reached, by pages that can't be compressed, and a process wants more. Writes fail, at once; the servers,
# and everything else, live on; the log says it once; and when the process is gone there is room again. (Who ends it, is
# up to the kernel: as long as there are free slots of swap it need not call for the OOM killer. So it is with zram.)

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

LIMIT=64 # MiB
PATIENCE=30 # seconds, with the limit reached, for the OOM killer; then the test ends the process

# What the test allows the OOM killer to end. It keeps all that it reads, until there is no more.
VICTIM=/run/oom-victim
cp /usr/bin/tail $VICTIM

failed_writes() { awk '{ print $2 }' /run/uzram/swap0/io_stat; }
complaints() {
    journalctl --quiet --boot --output=cat --since="$CASE_BEGAN" --unit="$UNIT" | grep -c 'memory.limit of swap0' || :
}

reached() { (($(failed_writes) > 0)); }
ended() { ! kill -0 $victim 2>/dev/null; }

pids=$(servers) limit=$(cat /run/uzram/swap0/mem_limit)
echo ${LIMIT}M >/run/uzram/swap0/mem_limit
sysctl -q vm.panic_on_oom=0
head -c 500M /dev/urandom | exec $VICTIM -c 500M >/dev/null 2>&1 &
victim=$!
wait_for 300 reached || fail "the limit was not reached"
began=$SECONDS
by='the kernel'
wait_for $PATIENCE ended || { by='the test'; kill -KILL $victim; }
wait_for 120 ended || fail "the process can't be ended"
sysctl -q vm.panic_on_oom=1
say "ended by $by after $((SECONDS - began)) s; $(failed_writes) writes failed; $(tr -s ' ' </run/uzram/swap0/mm_stat)"
[[ $(servers) == "$pids" ]] || fail "not the same servers as before"
wait_for 10 said 'memory.limit of swap0, 64 MiB, is reached' || fail "the log does not say so"
(($(complaints) == 1)) || fail "the log says so $(complaints) times"

# There is room again.
hog_swapped_out 80
hog_verifies
echo "$limit" >/run/uzram/swap0/mem_limit
