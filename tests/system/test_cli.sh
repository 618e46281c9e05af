#!/bin/bash
# SPDX-License-Identifier: MIT
#
# uzramd's command line: what it prints where, its exit status, and that --check touches nothing.

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
