# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# What a server shares with other processes. For bash, and for the shells of tests/vm's guests.

# shared_memory PID: the mappings that the process shares and can, or may come to, write to: the file (device and inode)
# and its name, one a line.
shared_memory() {
    awk '/^[0-9a-f]+-[0-9a-f]+ / { mapping = $4 "," $5 " " $6 }
        /^VmFlags:.* sh( |$)/ && / mw( |$)/ { print mapping }' "/proc/$1/smaps"
}

# not_its_own PID OTHER...: those of them that a server must not have. It may have the arena, the status, the descriptors
# of its ublk queue; tables of its own, that is of which none of the other processes has the file; and two mappings for
# each ring that it has open (all rings have one file: another process's would be one more).
not_its_own() {
    pid=$1
    shift
    shared_memory "$pid" | grep -vE ' (/memfd:uzram-(arena|status|table)|/#[0-9]+|/dev/ublkc[0-9]+|anon_inode:\[io_uring\])$' || :
    shared_memory "$pid" | grep ' /memfd:uzram-table$' | while read -r file _; do
        for other; do
            [ "$other" = "$pid" ] || ! shared_memory "$other" | grep "^$file " || echo "... is process $other's as well"
        done
    done
    rings=$(shared_memory "$pid" | grep -c ' anon_inode:\[io_uring\]$' || :)
    # shellcheck disable=SC2010 # names are numbers
    own=$(ls -l "/proc/$pid/fd" | grep -c 'anon_inode:\[io_uring\]$' || :)
    [ "$rings" -eq $((own * 2)) ] || echo "$rings mappings of rings, with $own rings"
}
