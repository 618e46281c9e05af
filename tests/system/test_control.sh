#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The control files: each one's format, what may be written to it and what comes of that.

# shellcheck source=tests/system/lib.sh
. "${0%/*}/lib.sh"
"$PYTHON" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null ||
    skip "python3-prometheus-client is not installed (./dev deps)"
need fio df

start_daemon "$DEV" <<'EOT'
size = "256M"
workers = 2
[compression]
algorithm = "lz4"
[swap]
enabled = false
EOT
dir=/run/uzram/$DEV
disk=$dir/disk

# ---- formats, which are zram's where zram has the file ----

# format FILE REGEX: all of FILE is one line like that.
format() {
    local text
    text=$(cat "$dir/$1")
    [[ $text =~ ^$2$ ]] || fail "$1: '$text' is not '$2'"
    # Somebody who reads it byte by byte sees the same.
    cmp <(echo "$text") <(dd if="$dir/$1" bs=1 status=none) || fail "$1 read bytewise differs"
}
numbers() { local n=' *[0-9]+'; for ((i = 1; i < $1; i++)); do n+=' +[0-9]+'; done; echo "$n"; }

format disksize $((256 << 20))
format initstate 1
format comp_algorithm '([a-z0-9-]+ )*\[lz4\]( [a-z0-9-]+)* ?'
format mm_stat "$(numbers 9)"
format io_stat "$(numbers 6)"
format defer_stat "$(numbers 7)"
format pid "$(daemon_pid "$DEV")"
format block_device "$(readlink -f "/dev/uzram/$DEV")"
[[ $(cat "$dir/comp_algorithm") == *zstd* ]] || fail "comp_algorithm does not list zstd"

format debug_stat "version: 1"$'\n'"$(numbers 2)"

# The kernel keeps these numbers, over upgrades too: none may ever come to mean another file.
[[ $(cd "$dir" && stat -c '%n %i' -- *) == "$(cat <<'EOT'
block_device 3
comp_algorithm 4
compact 5
debug_stat 20
defer_stat 6
disk 2
disksize 7
flush 8
initstate 9
io_stat 10
max_comp_streams 11
mem_limit 12
mem_used_max 13
metrics 14
mm_stat 15
pid 16
reset 21
sleep 17
stop 18
upgrade 19
EOT
)" ]] || fail "inode numbers: $(cd "$dir" && stat -c '%n %i' -- *)"

# refused WHY FILE TEXT: what zram's file of that name says to it.
refused() {
    local message
    message=$({ echo "$3" >"$dir/$2"; } 2>&1) && fail "$2 takes '$3'"
    [[ $message == *"$1"* ]] || fail "$2, '$3': $message"
}
for file in initstate mm_stat io_stat debug_stat defer_stat pid block_device metrics new_file; do
    refused 'Permission denied' "$file" 1
done
for file in compact flush reset stop; do
    ! cat "$dir/$file" 2>"$T/message" || fail "$file can be read"
    grep -q 'Permission denied' "$T/message" || fail "$file: $(cat "$T/message")"
done
refused 'Invalid argument' comp_algorithm lzo
refused 'resource busy' comp_algorithm zstd
refused 'Invalid argument' disksize 0
refused 'Invalid argument' disksize many
refused 'resource busy' disksize 1G
refused 'Invalid argument' max_comp_streams 0
refused 'resource busy' max_comp_streams 4
for text in abc -1 12X 1.5M '1 2' 9223372036854775807 99999999999999999999; do
    refused 'Invalid argument' mem_limit "$text"
done
for text in '1024 4096' '4097 8192' '2M 2097152' "0 $(cat "$dir/mem_limit")"; do
    echo "${text% *}" >"$dir/mem_limit"
    [[ $(cat "$dir/mem_limit") == "${text#* }" ]] || fail "mem_limit, set to ${text% *}, is $(cat "$dir/mem_limit")"
done
refused 'Invalid argument' mem_used_max 1
refused 'Invalid argument' mem_used_max zero
! { printf '0\0' >"$dir/mem_used_max"; } 2>/dev/null || fail "mem_used_max takes a zero byte for a blank"
refused 'Invalid argument' stop 0
refused 'Invalid argument' stop please
refused 'Invalid argument' reset 0
refused 'not supported' reset 1 # it is no swap: a VM might have it open

# ---- it is no file system that fills up ----

[[ $(df --output=size,itotal "$dir" | tail -n 1 | xargs) == '0 0' ]] || fail "df: $(df "$dir"; df -i "$dir")"
! df | grep "$dir" || fail "df shows $dir without being asked for it"

# ---- all of the disk's space is there from the start, and no more ----

for options in '--length 256M' '--length 1M --offset 255M' '--keep-size --length 256M'; do
    # shellcheck disable=SC2086 # these are words
    fallocate $options "$disk" || fail "fallocate $options"
done
for options in '--length 257M' '--length 1M --offset 256M' '--keep-size --length 2M --offset 255M'; do
    # shellcheck disable=SC2086
    ! fallocate $options "$disk" 2>"$T/message" || fail "fallocate $options succeeds"
    grep -q 'No space left on device' "$T/message" || fail "fallocate $options: $(cat "$T/message")"
done
(($(mm_stat "$DEV" orig_data_size) == 0)) || fail "fallocate has stored pages"

# ---- the disk ends as a file does: behind it nothing is read, and that is no error ----

"$PYTHON" - "$disk" <<'EOT' || fail "a read behind the end"
import os, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(disk).st_size
assert [len(os.pread(disk, 4096, size + off)) for off in (-100, 0, 1, 4096, 1 << 40)] == [100, 0, 0, 0, 0]
EOT
[[ $(cat "$dir/io_stat") =~ ^(\ *0\ *){6}$ ]] || fail "io_stat: $(cat "$dir/io_stat")"

# ---- pages stored, as four places tell it ----

head -c 64M /dev/urandom >"$T/random"
dd if="$T/random" of="$disk" bs=1M conv=notrunc status=none
stored=$(mm_stat "$DEV" orig_data_size)
((stored == 64 << 20)) || fail "64 MiB were stored: $(cat "$dir/mm_stat")"
(($(mm_stat "$DEV" huge_pages) >= 16000)) || fail "random pages are incompressible: $(cat "$dir/mm_stat")"
[[ $(stat -c '%s %b' "$disk") == "$((256 << 20)) $((stored / 512))" ]] || fail "fstat: $(stat "$disk")"

cat "$dir/metrics" >"$T/metrics"
"$PYTHON" "$HERE/check_metrics.py" "$T/metrics" >"$T/samples" || fail "metrics: $(cat "$T/metrics")"
for field in orig_data_size compr_data_size mem_used_total mem_limit same_pages huge_pages; do
    awk '{ printf "%.0f\n", $2 }' "$T/samples" | grep -qx "$(mm_stat "$DEV" $field)" ||
        fail "no metric shows $field, $(mm_stat "$DEV" $field): $(cat "$T/samples")"
done

# ---- mem_limit holds, what was written under it is right, and lifting it helps ----

# write_to_limit TARGET: with 8 MiB to go, write 64 MiB behind the first 64.
write_to_limit() {
    local target=$1 used limit written
    used=$(mm_stat "$DEV" mem_used_total)
    limit=$((used + (8 << 20)))
    echo "$((limit >> 10))K" >"$dir/mem_limit"
    limit=$(mm_stat "$DEV" mem_limit)
    ! dd if="$T/random" of="$target" bs=64k seek=1024 oflag=direct conv=notrunc 2>"$T/dd" ||
        fail "mem_limit is not enforced"
    grep -Eq 'No space left on device|Input/output error' "$T/dd" || fail "$(cat "$T/dd")"
    written=$(awk '/records out/ { print $1 + 0 }' "$T/dd")
    say "mem_limit: $target took $((written * 64)) KiB with $(((limit - used) >> 10)) KiB to go"
    ((written > 0)) || fail "nothing could be written below the limit"
    (($(mm_stat "$DEV" mem_used_total) <= limit)) || fail "limit $limit: $(cat "$dir/mm_stat")"

    # All that was not refused is there: in particular, no write was done in part and called a success.
    cmp -n $((written << 16)) "$T/random" "$disk" -i 0:$((64 << 20))
    cmp -n $((64 << 20)) "$T/random" "$disk"
}

write_to_limit "/dev/uzram/$DEV"
fallocate --punch-hole --offset 64M --length 64M "$disk"
echo 1 >"$dir/flush"
write_to_limit "$disk"
(($(awk '{ print $2 }' "$dir/io_stat") > 0)) || fail "io_stat counts no failed write: $(cat "$dir/io_stat")"
wait_for 10 grep -q "memory.limit of $DEV, [0-9]* MiB, is reached: writes fail, [0-9]* so far" "$T/$DEV/log" ||
    fail "the log does not say that the limit is reached: $(cat "$T/$DEV/log")"
(($(grep -c 'memory.limit of' "$T/$DEV/log") <= 2)) || fail "the log says it again and again: $(cat "$T/$DEV/log")"

# A page that can't be replaced keeps its old content.
if dd if="$T/random" of="$disk" bs=4k count=1 skip=5 oflag=direct conv=notrunc status=none 2>/dev/null; then
    cmp -n 4096 "$T/random" "$disk" -i $((5 * 4096)):0
else
    cmp -n 4096 "$T/random" "$disk"
fi

echo 0 >"$dir/mem_limit"
dd if="$T/random" of="$disk" bs=64k seek=1024 oflag=direct conv=notrunc status=none
cmp -n $((64 << 20)) "$T/random" "$disk" -i 0:$((64 << 20))

# ---- mem_used_max: the peak, until reset ----

fallocate --punch-hole --offset 0 --length 256M "$disk"
echo 1 >"$dir/flush"
read -r pushed drained fallbacks objects bytes spare _ <"$dir/defer_stat"
((objects == 0 && bytes == 0)) || fail "pending after flush: $(cat "$dir/defer_stat")"
say "defer_stat: $pushed pushed, $drained drained, $fallbacks synchronous; $spare spare pages"
(($(mm_stat "$DEV" mem_used_max) >= 128 << 20)) || fail "the peak is forgotten: $(cat "$dir/mm_stat")"
echo 0 >"$dir/mem_used_max"
(($(mm_stat "$DEV" mem_used_max) == $(mm_stat "$DEV" mem_used_total))) || fail "not reset: $(cat "$dir/mm_stat")"

# ---- compact ----

"$PYTHON" "$HERE/fragment.py" write "$disk" 16384
echo 1 >"$dir/flush"
before=$(mm_stat "$DEV" mem_used_total)
echo 1 >"$dir/compact"
after=$(mm_stat "$DEV" mem_used_total)
data=$(mm_stat "$DEV" compr_data_size)
say "compact: $((before >> 10)) → $((after >> 10)) KiB for $((data >> 10)) KiB of data"
# Some of it, or all, the daemon may have done by itself before.
((after < data * 5 / 4)) || fail "compaction freed too little"
(($(mm_stat "$DEV" pages_compacted) > 0)) || fail "pages_compacted: $(cat "$dir/mm_stat")"
"$PYTHON" "$HERE/fragment.py" verify "$disk" 16384

# ---- a reader sees one text, while it changes ----

fio --name=change --filename="$disk" --size=64M --direct=1 --rw=randrw --bs=4k --rate_iops=2000 --time_based \
    --runtime=600 >"$T/fio" 2>&1 &
fio=$!
written() { (($(metric "$DEV" written_pages_total) > $1)); }
wait_for 60 written "$(metric "$DEV" written_pages_total)" || fail "fio writes nothing: $(cat "$T/fio")"
"$PYTHON" "$HERE/snapshots.py" "$dir"
if [[ $(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1) == 6.9 ]]; then
    "$PYTHON" "$HERE/snapshots.py" "$dir" "$(server_pid "$DEV")"
fi
! ended "$fio" || fail "fio has ended: $(cat "$T/fio")"
kill "$fio"
wait "$fio" || :

stop_daemon "$DEV"

# ---- reset: of swap that is not in use ----

start_daemon "$DEV" <<'EOT'
size = "256M"
[swap]
priority = 0
EOT
swap=$(readlink -f "/dev/uzram/$DEV")
refused 'resource busy' reset 1
grep -q "^$swap " /proc/swaps || fail "a reset that is refused has taken the swap away"
swapoff "$swap"
dd if="$T/random" of="$swap" bs=1M seek=64 oflag=direct conv=notrunc status=none
(($(mm_stat "$DEV" orig_data_size) >= 64 << 20)) || fail "nothing is stored: $(cat "$dir/mm_stat")"
echo 1 >"$dir/reset"
echo 1 >"$dir/flush"
(($(mm_stat "$DEV" orig_data_size) == 4096)) || fail "more than a swap area's header is left: $(cat "$dir/mm_stat")"
(($(mm_stat "$DEV" mem_used_max) < 1 << 20)) || fail "the most memory that was used is not forgotten: $(cat "$dir/mm_stat")"
swapon "$swap"

stop_daemon "$DEV"
