#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The disk file as a raw VM image under QEMU's block layer: with direct I/O, both asynchronous engines, and a guest's
# discards (discard=unmap) giving memory back.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
need qemu-img qemu-io setpriv

start_daemon "$DEV" <<'EOT'
size = "512M"
[swap]
enabled = false
[loop]
enabled = false
[disk]
user = "nobody"
group = 4711
mode = "0660"
EOT
disk=/run/uzram/$DEV/disk

# ---- it is its owner's and its group's, also after a reload that changes them ----

[[ $(stat -c '%U %g %a' "$disk") == 'nobody 4711 660' ]] || fail "$(stat "$disk")"
# opens USER GROUP: whether those can open it to read and write.
# shellcheck disable=SC2016 # that is for the inner shell
opens() { setpriv --reuid "$1" --regid "$2" --clear-groups bash -c 'exec 3<>"$1"' - "$disk" 2>"$T/message"; }
opens nobody 4712 || fail "its owner can't open it: $(cat "$T/message")"
opens 4711 4711 || fail "its group can't open it: $(cat "$T/message")"
! opens 4711 4712 || fail "anybody can open it"
grep -q 'Permission denied' "$T/message" || fail "$(cat "$T/message")"
! setpriv --reuid nobody --clear-groups chmod 666 "$disk" 2>"$T/message" || fail "its owner can open it to others"

sed -i 's/"0660"/"0640"/' "$T/$DEV/config.toml"
echo 1 >"/run/uzram/$DEV/upgrade"
upgraded() { (($(cat "/run/uzram/$DEV/upgrade") == 1)); }
wait_for 60 upgraded || fail "not upgraded"
! opens 4711 4711 || fail "its group can still open it"
opens nobody 4711 || fail "its owner can't open it any more: $(cat "$T/message")"
setpriv --reuid 4711 --regid 4711 --clear-groups head -c 1 "$disk" >/dev/null || fail "its group can't read it"

# ---- QEMU ----

# qemu_io COMMAND...: on the disk as QEMU opens it with cache=none, discard=unmap.
qemu_io() {
    local args=() command
    for command; do
        args+=(-c "$command")
    done
    qemu-io -f raw -t none -i "$engine" -d unmap "${args[@]}" "$disk" >"$T/qemu-io.txt" || {
        cat "$T/qemu-io.txt"
        return 1
    }
}

# An image of all sorts, written by qemu-img and compared by it.
head -c 5M /dev/urandom >"$T/random"
qemu-img create -q -f qcow2 "$T/source" 512M
qemu-io -c "write -s $T/random 1M 96M" -c "write -P 0x42 200M 64M" -c "write -P 7 511M 1M" "$T/source" >/dev/null
qemu-img convert -n -t none -T none -O raw "$T/source" "$disk"
qemu-img compare -f qcow2 -F raw "$T/source" "$disk"

for engine in threads native io_uring; do
    qemu_io "write -s $T/random 100M 64M" "write -P 0x5a 300M 1M" "write -P 0xa5 301M 512" \
        "aio_write -P 1 310M 1M" "aio_write -P 2 311M 1M" "aio_write -P 3 312M 1M" aio_flush flush
    qemu_io "read -P 0x5a 300M 1M" "read -P 0xa5 301M 512" "read -P 1 310M 1M" "read -P 2 311M 1M" "read -P 3 312M 1M"
    ! qemu_io "read -P 0x5b 300M 1M" >/dev/null || fail "qemu-io doesn't see a wrong pattern"

    before=$(mm_stat "$DEV" orig_data_size)
    used=$(mm_stat "$DEV" mem_used_total)
    qemu_io "discard 100M 64M" "write -z -u 300M 1M" "read -P 0 100M 64M" "read -P 0 300M 1M"
    echo 1 >"/run/uzram/$DEV/flush"
    freed=$((before - $(mm_stat "$DEV" orig_data_size)))
    back=$((used - $(mm_stat "$DEV" mem_used_total)))
    say "$engine: 65 MiB discarded: $(mib $freed) MiB of pages and $(mib $back) MiB of memory freed"
    ((freed == 65 << 20)) || fail "the discarded pages are still stored"
    (($(mib "$back") >= 60)) || fail "memory is not given back"
done

stop_daemon "$DEV"
