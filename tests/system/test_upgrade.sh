#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Live upgrades while a hog's swapped pages and fio's data are verified: no error, and every one takes place. What can't
# be upgraded to is refused, with a reason, and the device goes on.
#
#   test_upgrade.sh [UPGRADES]

LIMIT=$((${1:-30} * 10 + 600))
# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need fio findmnt
upgrades=${1:-30}
config=$T/$DEV/config.toml

# The binary that is upgraded to is a copy, for the test to replace.
cp "$UZRAMD" "$T/uzramd"
UZRAMD=$T/uzramd
# The configuration is a link when the daemon starts, and will be another file: what counts is where the path leads then.
mkdir "${config%/*}"
ln -s first.toml "$config"
start_daemon "$DEV" <<'EOT'
size = "1G"
compression.algorithm = "lz4"
[swap]
priority = 32767
EOT
supervisor=$(daemon_pid "$DEV")

done_upgrades() { cat "/run/uzram/$DEV/upgrade"; }
has_upgrades() { (($(done_upgrades) == $1)); }
upgrade() { timeout 120 "$BUILD/daemon/uzramctl" upgrade --timeout 60 "$DEV"; }

# refused REGEX: an upgrade is refused for that reason, and nothing has changed.
refused() {
    local before server status=0
    before=$(done_upgrades) server=$(server_pid "$DEV")
    : >"$T/$DEV/log"
    upgrade 2>"$T/ctl" || status=$?
    ((status == 1)) || fail "upgrade: status $status"
    grep -q 'refused' "$T/ctl" || fail "unclear: $(cat "$T/ctl")"
    grep -Eq "$1" "$T/$DEV/log" || fail "the log has no '$1'"
    [[ $(done_upgrades) == "$before" && $(server_pid "$DEV") == "$server" ]] || fail "something has changed"
    say "refused: $(head -n 1 "$T/$DEV/log")"
}

memcg_new 60
memcg_run "$CG" "$HOG" -m 300 -p 64 >"$T/hog" &
hog=$!
wait_for 60 pages_stored "$DEV" 40000 || fail "the hog swaps too slowly"

# ---- refused ----

cp "$BUILD/tests/system/uzramd_hooks" "$T/new" && mv "$T/new" "$T/uzramd"
refused 'another layout'
echo 'no program' >"$T/new" && chmod +x "$T/new" && mv "$T/new" "$T/uzramd"
refused "can't run"
cp "$BUILD/daemon/uzramd" "$T/new" && mv "$T/new" "$T/uzramd"
cp "$config" "$T/config"
sed -i 's/1G/2G/' "$config"
refused "size can't change"
echo 'nonsense = 1' >>"$config"
refused 'nonsense: unknown key'

# ---- what may change does ----

sed 's/"lz4"/"zstd"/' "$T/config" >"$config"
upgrade || fail "no upgrade to another algorithm"
grep -q '\[zstd\]' "/run/uzram/$DEV/comp_algorithm" || fail "the new configuration is not in use"

# ---- again and again ----

# count_descriptors: the supervisor's, while all servers that it wants are there.
count_descriptors() {
    wait_for 60 stand_by "$DEV" || fail "nobody stands by"
    find "/proc/$supervisor/fd" -mindepth 1 | wc -l
}
descriptors=$(count_descriptors)
before=$(done_upgrades) start=$(now_ms)
for ((i = 0; i < upgrades; i++)); do
    sed -i "s/\"lz4\"/\"swap\"/; s/\"zstd\"/\"lz4\"/; s/\"swap\"/\"zstd\"/" "$config"
    if ((i % 3)); then
        upgrade || fail "upgrade $i"
    else
        kill -HUP "$supervisor" # as systemctl reload may do
        wait_for 60 has_upgrades $((before + i + 1)) || fail "upgrade $i by SIGHUP"
    fi
done
say "$upgrades upgrades in $(($(now_ms) - start)) ms; longest until the next server served" \
    "$(($(metric "$DEV" recovery_max_nanoseconds) / 1000)) us, answered" \
    "$(($(metric "$DEV" outage_max_nanoseconds) / 1000)) us"
(($(done_upgrades) == before + upgrades)) || fail "$(done_upgrades) upgrades, not $((before + upgrades))"
[[ $(cat "/run/uzram/$DEV/pid") == "$supervisor" ]] || fail "the supervisor has changed"
(($(metric "$DEV" server_restarts_total) == 0)) || fail "servers were killed"
# Nothing piles up with them.
after=$(count_descriptors)
((after == descriptors)) || fail "the supervisor had $descriptors descriptors, and has $after"

# ---- a kill in the middle of upgrades ----

for ((i = 0; i < 10; i++)); do
    kill -HUP "$supervisor"
    sleep "0.0$((RANDOM % 10))"
    kill -KILL "$(server_pid "$DEV")" 2>/dev/null || : # there may be none at the moment
done

! ended $hog || fail "the hog has ended: $(cat "$T/hog")"
xargs kill -TERM <"$CG/cgroup.procs"
wait $hog || fail "the hog: $(cat "$T/hog")"
say "$(grep -h 'hog child' "$T/hog")"
assert_no_errors "$DEV"
stop_daemon "$DEV"
