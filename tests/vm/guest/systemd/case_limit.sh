# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# memory.limit is reached, by pages that can't be compressed, and a process wants more: the OOM killer ends that one soon, and
# everything else lives on. The log says it once.

# shellcheck source=tests/vm/guest/systemd/lib.sh
. /usr/lib/uzram-test/lib.sh

LIMIT=64 # MiB
SOON=60  # seconds: most of it the emulated machine's, which fills the memory

# What the test allows the OOM killer to end. It keeps all that it reads, until there is no more.
VICTIM=/run/oom-victim
cp /usr/bin/tail $VICTIM

kills() { awk '$1 == "oom_kill" { print $2 }' /proc/vmstat; }
failed_writes() { awk '{ print $2 }' /run/uzram/swap0/io_stat; }
complaints() {
    journalctl --quiet --boot --output=cat --since="$CASE_BEGAN" --unit="$UNIT" | grep -c 'memory.limit of swap0' || :
}

before=$(kills) pids=$(servers) limit=$(cat /run/uzram/swap0/mem_limit)
echo ${LIMIT}M >/run/uzram/swap0/mem_limit
sysctl -q vm.panic_on_oom=0
began=$SECONDS
head -c 500M /dev/urandom | timeout $SOON $VICTIM -c 500M >/dev/null 2>&1 && fail "there was memory for all of it"
(($(kills) > before)) || fail "nobody was killed within $SOON s"
sysctl -q vm.panic_on_oom=1
say "killed after $((SECONDS - began)) s; $(failed_writes) writes failed; $(tr -s ' ' </run/uzram/swap0/mm_stat)"
(($(kills) == before + 1)) || fail "$(($(kills) - before)) processes were killed"
[[ $(servers) == "$pids" ]] || fail "not the same servers as before"
(($(failed_writes) > 0)) || fail "the limit was not reached"
wait_for 10 said 'memory.limit of swap0, 64 MiB, is reached' || fail "the log does not say so"
(($(complaints) == 1)) || fail "the log says so $(complaints) times"

# There is room again.
hog_swapped_out 80
hog_verifies
echo "$limit" >/run/uzram/swap0/mem_limit
