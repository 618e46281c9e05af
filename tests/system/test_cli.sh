#!/bin/bash
# SPDX-License-Identifier: MIT
#
# uzramd's command line: what it prints where, its exit status, and that --check touches nothing; what it says where it can't
# start.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"

# run ARGUMENT...: what uzramd wrote is in $T/out and $T/err, its status in $status.
run() {
    status=0
    timeout 60 "$UZRAMD" "$@" >"$T/out" 2>"$T/err" || status=$?
}

# expect STATUS out|err REGEX: the last run ended so and wrote that, and nothing to the other stream.
expect() {
    local other=err
    [[ $2 == out ]] || other=out
    ((status == $1)) || fail "status $status instead of $1: $(cat "$T/out" "$T/err")"
    grep -Eq -- "$3" "$T/$2" || fail "'$3' is not in std$2: $(cat "$T/$2")"
    [[ ! -s $T/$other ]] || fail "unexpected on std$other: $(cat "$T/$other")"
}

run --version
expect 0 out '^uzramd [0-9]+\.[0-9]+'
run --help
for option in --config --check --help --version; do
    expect 0 out "$option"
done

run
expect 2 err '--config'
run --no-such-option
expect 2 err 'no-such-option'
run --config
expect 2 err '--config|requires an argument'

cat >"$T/good.toml" <<EOT
name = "$DEV"
size = "64M"
[compression]
algorithm = "zstd"
level = -3
[swap]
enabled = false
EOT
run --check --config "$T/good.toml"
((status == 0)) || fail "--check of a good config: $(cat "$T/err")"
[[ ! -e /run/uzram/$DEV ]] || fail "--check made a device"
run --check --config "$HERE/../../config/uzram.toml"
((status == 0)) || fail "--check of the default config: $(cat "$T/err")"

# A file where the unit looks can't name another device than the unit does. (In an /etc of our own.)
# in_etc NAME TOML: check that file of /etc/uzram.
in_etc() {
    mkdir -p "$T/etc/uzram"
    echo "$2" >"$T/etc/uzram/$1.toml"
    status=0
    # shellcheck disable=SC2016 # the inner shell's
    timeout 60 unshare --mount bash -ec 'mount --bind "$1" /etc; exec "$2" --check --config "$3"' - "$T/etc" "$UZRAMD" \
        "/etc/uzram/$1.toml" >"$T/out" 2>"$T/err" || status=$?
}
for text in '' 'name = "big"'; do
    in_etc big "$text"
    ((status == 0)) || fail "--check of $text: $(cat "$T/err")"
done
in_etc big 'name = "swap0"'
expect 1 err '/etc/uzram/big.toml:1: name: "swap0" is not the name of the file, .*; expected "big", or no name'

# A bad config ends both with the same words.
printf 'name = "%s"\nsize = "64M"\nsise = "64M"\n' "$DEV" >"$T/bad.toml"
run --check --config "$T/bad.toml"
expect 1 err "bad\.toml:3.*sise"
cp "$T/err" "$T/check.err"
run --config "$T/bad.toml"
expect 1 err "bad\.toml:3.*sise"
cmp "$T/err" "$T/check.err"
[[ ! -e /run/uzram/$DEV ]] || fail "a bad config made a device"

run --check --config "$T/absent.toml"
expect 1 err "absent\.toml.*No such file"

# The level is in front of a line for the journal alone, which says by $JOURNAL_STREAM what it reads.
expect 1 err '^[^<]'
JOURNAL_STREAM=$(stat --format=%d:%i "$T/err") run --check --config "$T/absent.toml"
expect 1 err '^<3>'
JOURNAL_STREAM=$(stat --format=%d:%i "$T/out") run --check --config "$T/absent.toml"
expect 1 err '^[^<]'

# What the kernel's driver would bring is not there: the message names it, not the file that was to be made with it.
# without NODE COMMAND [TOML-LINE...]: a start in a /dev that has only what one takes, but for NODE, after COMMAND.
without() {
    local node=$1 command=$2 dev=$T/dev
    shift 2
    mkdir -p "$dev"
    printf '%s\n' "name = \"$DEV\"" 'size = "64M"' "$@" >"$T/without.toml"
    status=0
    # shellcheck disable=SC2016 # the inner shell's
    timeout 60 unshare --mount bash -ec 'mount -t tmpfs none "$1"; cp -a /dev/null /dev/fuse /dev/loop-control "$1"
        rm -f "$1/$2"; eval "$5"; mount --bind "$1" /dev; exec "$3" --config "$4"' - "$dev" "$node" "$UZRAMD" \
        "$T/without.toml" "$command" >"$T/out" 2>"$T/err" || status=$?
    [[ ! -e /run/uzram/$DEV ]] || fail "left behind without $node"
}

without fuse : 'frontend = "fuse"' 'swap.enabled = false'
expect 1 err "can't mount on .*: there is no /dev/fuse; is the module fuse loaded"
without loop-control : 'frontend = "fuse"' 'swap.enabled = false'
expect 1 err "can't attach a loop device to .*: there is no /dev/loop-control; is the module loop loaded"
without ublk-control : 'frontend = "ublk"' 'swap.enabled = false'
expect 1 err "can't use ublk: there is no /dev/ublk-control; is the module ublk_drv loaded"
without loopN : 'frontend = "fuse"' 'swap.enabled = false'
expect 1 err "can't attach a loop device to .*: there is no /dev/loopN"

# What else works against it here. (The start goes as far as to say so, and no further: there is no loop device.)
# beside FILE TEXT REGEX: the warning, where FILE has that text; and none where it has what it has.
beside() {
    [[ -e $1 ]] || return 0 # not with this kernel
    echo "$2" >"$T/instead"
    without loop-control "mount --bind $T/instead $1" "${toml[@]}"
    expect 1 err "$3"
    without loop-control : "${toml[@]}"
    ! grep -Eq "$3" "$T/err" || fail "without a reason: $(cat "$T/err")"
}
toml=('frontend = "fuse"' '[swap]' 'priority = 77')
beside /sys/module/zswap/parameters/enabled Y 'zswap is on, .* zswap.enabled=0'
beside /proc/swaps '/dev/zram3  partition 1048572 0 77' '/dev/zram3 has the priority of .*, 77:'
beside /proc/sys/fs/fuse/max_request_timeout 60 'fs.fuse.max_request_timeout is 60: '

# As a user that has other processes the server is not out of their reach.
echo 'root:x:0:0::/root:/bin/sh' >"$T/passwd"
without loop-control "mount --bind $T/passwd /etc/passwd" "${toml[@]}"
expect 1 err 'there is no user uzram: the server runs as nobody'
echo 'uzram:x:64999:64999::/:/bin/false' >>"$T/passwd"
without loop-control "mount --bind $T/passwd /etc/passwd" "${toml[@]}"
! grep -q 'no user uzram' "$T/err" || fail "without a reason: $(cat "$T/err")"
