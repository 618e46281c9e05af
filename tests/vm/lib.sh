# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Running a case on a kernel of our choice: in qemu, with an initramfs that holds what was just built.
#
# What the guest prints is the test's output; its kernel prints warnings there, too. A case has passed only if the guest
# says so in the end and qemu ended well by itself, which it also does after a panic.

set -euo pipefail
export LC_ALL=C

HERE=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
BUILD=${BUILD:-$(realpath "$HERE/../..")/build}
T=$(mktemp -d "${TMPDIR:-/tmp}/uzvm.XXXXXX")
trap 'rm -rf "$T"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# need COMMAND...: skip unless all are installed.
need() {
    local command
    for command; do
        command -v "$command" >/dev/null || skip "$command is not installed (./dev deps test)"
    done
}

# add_program FILE: into the guest's /bin, and the shared libraries it takes to where they are here.
add_program() {
    local library
    cp "$1" "$T/root/bin/"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        install -D "$library" "$T/root$library"
    done
}

# make_initrd KERNEL CASE: make $T/initrd of that kernel's modules, the programs, and the script guest/CASE.
make_initrd() {
    local program
    mkdir -p "$T"/root/{bin,dev,etc,modules,proc,run,sys}
    cp "$(command -v busybox)" "$T/root/bin/busybox"
    for program in daemon/uzramd daemon/uzramctl tests/system/hog; do
        add_program "$BUILD/$program"
    done
    xz -dc "$1"/lib/modules/*/kernel/drivers/block/loop.ko.xz >"$T/root/modules/loop.ko"
    install "$HERE/guest/init" "$T/root/init"
    cp "$HERE/guest/$2" "$T/root/case"
    (cd "$T/root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$T/initrd"
}

# run_guest SECONDS KERNEL MIB [NAME=VALUE...]: boot $T/initrd with MIB of memory, and see that its case passes within
# that time. The guest gets the variables in its environment.
run_guest() {
    local limit=$1 kernel=$2 mib=$3 status=0
    # Whatever is wrong with the kernel ends it: an oops, a hung task, the OOM killer at work.
    local options="console=ttyS0 loglevel=5 printk.devkmsg=on log_buf_len=1M panic=-1 oops=panic
        sysctl.vm.panic_on_oom=1 sysctl.kernel.hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=20"
    shift 3
    # Without KVM. The processor lacks cmpxchg16b, which qemu 7.2 emulates wrongly for several processors.
    timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 -machine pc -accel tcg,thread=multi,tb-size=256 \
        -cpu max,-cx16 -smp 2 -m "$mib" -nodefaults -no-user-config -no-reboot -display none -serial stdio \
        -kernel "$kernel"/boot/vmlinuz-* -initrd "$T/initrd" -append "${options//$'\n'/ } $*" </dev/null 2>&1 |
        sed -u 's/\r$//' | tee "$T/log" || status=$?
    [[ $status != 124 ]] || fail "the guest's time limit of $limit s is over"
    [[ $status == 0 ]] || fail "qemu ended with status $status"
    grep -q 'verdict: passed$' "$T/log" || fail "the guest did not pass"
}
