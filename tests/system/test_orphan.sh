#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The supervisor dies. Its server serves on, and says so; under a service manager that keeps descriptors (here a little
# one of our own, tests/vm has systemd), the next supervisor goes on with the same device, also if the server died too.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need findmnt
disk=/run/uzram/$DEV/disk

write_page() { dd if="$T/page" of="$disk" bs=4096 seek="$1" count=1 conv=notrunc status=none; }
read_page() { dd if="$disk" bs=4096 skip="$1" count=1 status=none | cmp - "$T/page"; }
head -c 4096 /dev/urandom >"$T/page"

# ---- nobody starts another ----

start_daemon "$DEV" <<'EOT'
size = "64M"
[swap]
enabled = false
EOT
supervisor=$(daemon_pid "$DEV")
wait_for 60 stand_by "$DEV" || fail "nobody stands by"
read -ra servers <<<"$(server_pids "$DEV")"
write_page 5
kill -KILL "$supervisor"
wait_for 60 grep -q 'supervisor.*has died' "$T/$DEV/log" || fail "the server does not say so"
say "$(tail -n 1 "$T/$DEV/log")"
read_page 5 || fail "the server does not serve on"
write_page 6
for server in "${servers[@]:0:2}"; do # even now there are others
    kill -KILL "$server"
    read_page 6 || fail "the next one does not go on"
done
! timeout 60 "$UZRAMD" --config "$T/$DEV/config.toml" 2>"$T/second" || fail "a second daemon took the name"
grep -q "$DEV already" "$T/second" || fail "unclear: $(cat "$T/second")"
# What uzramd(8) advises: take everything away by hand, and the server ends.
losetup -d "$(readlink "/dev/uzram/$DEV")"
umount "/run/uzram/$DEV"
wait_for 60 ended "${servers[2]}" || fail "a server still runs with nothing to serve"
rm "$T/$DEV/pid" "/dev/uzram/$DEV"
rmdir /dev/uzram 2>/dev/null || :

# ---- a manager starts another ----

"$PYTHON" "$HERE/manager.py" "$T/manager" "$UZRAMD" --config "$T/$DEV/config.toml" >"$T/$DEV/manager" 2>"$T/$DEV/log" &
manager=$!
at_exit "wait_for 60 ended $manager"
at_exit "kill -TERM $manager 2>/dev/null || :"
main_pid() { sed -n 's/^main //p' "$T/$DEV/manager" | tail -n 1; }
# None more has come for longer than the supervisor's tick, with which the last of them may go.
all_stored() {
    local before
    before=$(grep -c '^stored' "$T/$DEV/manager")
    sleep 1.5
    (($(grep -c '^stored' "$T/$DEV/manager") == before))
}
# asked_for_time MAIN: it did so, before it was ready.
asked_for_time() { sed "1,/^main $1$/d; /^READY/q" "$T/$DEV/manager" | grep -q 'more time'; }
has_new_main() { [[ $(main_pid) != "$1" ]] && timeout 10 grep -q "$(main_pid)" "/run/uzram/$DEV/pid" 2>/dev/null; }
wait_for 60 grep -q READY "$T/$DEV/manager" || fail "not ready"
! grep -q 'more time' "$T/$DEV/manager" || fail "a first start has asked for more time, while a machine boots"
main_pid >"$T/$DEV/pid" # for the clean-up
wait_for 60 stand_by "$DEV" || fail "nobody stands by"
wait_for 60 grep -q 'stored fuse' "$T/$DEV/manager" || fail "no descriptors stored"
wait_for 60 all_stored
for victims in supervisor both supervisor both; do
    # The last time, with a configuration that is of no use.
    [[ -e $T/once ]] && echo 'nonsense = 1' >>"$T/$DEV/config.toml"
    [[ $victims != both ]] || touch "$T/once"
    write_page 7
    before=$(main_pid)
    read -ra servers <<<"$(cat "/proc/$before/task/$before/children")"
    case $victims in
    supervisor) kill -KILL "$before" ;;
    both) kill -KILL "${servers[@]}" "$before" ;;
    esac
    read_page 7 || fail "lost a page with $victims"
    wait_for 60 has_new_main "$before" || fail "no new supervisor"
    wait_for 60 asked_for_time "$(main_pid)" || fail "the new supervisor asks for no time"
    main_pid >"$T/$DEV/pid"
    write_page 8
    if ! read_page 7 || ! read_page 8; then
        fail "lost a page after $victims"
    fi
    # The servers of the dead supervisor serve until those of the new one stand by.
    for server in "${servers[@]}"; do
        wait_for 60 ended "$server" || fail "a server of the dead supervisor lives on"
    done
    write_page 9
    read_page 9 || fail "the new servers do not serve after $victims"
    wait_for 60 stand_by "$DEV" || fail "nobody stands by after $victims"
    say "$victims killed: $(grep 'goes on' "$T/$DEV/log" | tail -n 1)"
done
assert_no_errors "$DEV"
: >"$T/$DEV/manager"
exec {held}<"/dev/uzram/$DEV" # so that it can't stop yet
kill -TERM "$manager"         # which passes it on
wait_for 60 grep -q 'more time' "$T/$DEV/manager" || fail "a stop has not asked for the time that it takes"
exec {held}<&-
wait_for 60 ended "$manager" || fail "the manager runs on"
assert_nothing_left "$DEV"
