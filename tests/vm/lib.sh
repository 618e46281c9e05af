# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Running a case on a kernel of our choice: in qemu, with an initramfs that holds what was just built.
#
# What the guest prints is the test's output; its kernel prints warnings there, too. A case has passed only if the guest
# says so in the end and qemu ended well by itself, which it also does after a panic.
#
# A test sets LIMIT and sources this file, which makes it one like those in tests/system: see the lib.sh there.

VM=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
# shellcheck source=tests/system/lib.sh
. "$VM/../system/lib.sh"
need qemu-system-x86_64 busybox modprobe xz

# cached VARIABLE SCRIPT ARG...: set it to the path in the cache that the script prints; if there is none to be had, end
# the test as the script did.
cached() {
    local -n path=$1
    local status=0
    path=$("$VM/$2" "${@:3}") || status=$?
    [[ $status == 0 ]] || { echo "$path"; exit "$status"; }
}

# add_program FILE: into the guest's /bin, and the shared libraries it takes to where they are here.
add_program() {
    local library
    install -D --target-directory="$T/root/bin" "$1"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        install -D "$library" "$T/root$library"
    done
}

# add_modules KERNEL MODULE...: into the initramfs, with those that they need, numbered in the order to load them in.
add_modules() {
    local kernel=$1 version action file number=10
    shift
    version=$(ls "$kernel/lib/modules")
    mkdir -p "$T/root/modules"
    modprobe --config /dev/null --dirname "$kernel" --set-version "$version" --all --show-depends "$@" >"$T/modules"
    while read -r action file; do
        [[ $action == insmod ]] || continue # it is built in
        xz -dcf "$file" >"$T/root/modules/$number-$(basename "$file" .xz)"
        number=$((number + 1))
    done < <(awk '!seen[$0]++' "$T/modules")
}

# make_initrd KERNEL INIT MODULE...: make $T/initrd of what was added, busybox, those modules, and guest/INIT.
make_initrd() {
    local kernel=$1 init=$2
    shift 2
    mkdir -p "$T"/root/{bin,dev,etc,mnt,proc,run,sys}
    cp "$(command -v busybox)" "$T/root/bin/busybox"
    install "$VM/guest/$init" "$T/root/init"
    add_modules "$kernel" "$@"
    (cd "$T/root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$T/initrd"
}

# qemu_command KERNEL MIB PARAMETERS [OPTION...]: set $qemu to the command that boots KERNEL and $T/initrd with MIB of
# memory, on standard input and output. Parameters that the kernel doesn't know are in the environment of guest/init.
qemu_command() {
    local kernel=$1 mib=$2 parameters=$3
    shift 3
    # Whatever is wrong with the kernel ends it: an oops, a hung task, the OOM killer at work.
    parameters="console=ttyS0 loglevel=5 printk.devkmsg=on log_buf_len=1M panic=-1 oops=panic
        sysctl.vm.panic_on_oom=1 sysctl.kernel.hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=20 $parameters"
    # shellcheck disable=SC2054 # commas are qemu's
    # Without KVM. The processor lacks cmpxchg16b, which qemu 7.2 emulates wrongly for several processors.
    qemu=(qemu-system-x86_64 -machine pc -accel tcg,thread=multi,tb-size=256 -cpu max,-cx16 -smp 2 -m "$mib"
        -nodefaults -no-user-config -no-reboot -display none -serial mon:stdio
        -kernel "$kernel"/boot/vmlinuz-* -initrd "$T/initrd" -append "${parameters//$'\n'/ }" "$@")
}

# run_guest: run $qemu, and see that its case passes.
run_guest() {
    local complaints='WARNING:|BUG:|blocked for more than|[Oo]ut of memory|page allocation failure|rcu.*stall'
    "${qemu[@]}" </dev/null 2>&1 | sed -u 's/\r$//' | tee "$T/console" || fail "qemu failed"
    grep -q 'verdict: passed$' "$T/console" || fail "the guest did not pass"
    ! grep -E "$complaints" "$T/console" || fail "the guest's kernel complained"
}
