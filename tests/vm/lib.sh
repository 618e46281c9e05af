# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Running a case on a kernel of our choice: in qemu, with an initramfs that holds what was just built.
#
# What the guest prints is the test's output; its kernel prints warnings there, too. A case has passed only if the guest
# says so in the end and qemu ended well by itself, which it also does after a panic. When a case fails, or the guest
# hangs, the guest's kernel tells what its processes wait for, and then the test ends it.
#
# A test sources this file, which makes it one like those in tests/system: see the lib.sh there.

# A guest has a kernel of its own. What the one here says is of tests that run at the same time.
export KERNEL_MAY_SAY=.
VM=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
: "${LIMIT:=1500}"
# shellcheck source=tests/system/lib.sh
. "$VM/../system/lib.sh"
need qemu-system-x86_64 busybox modprobe xz

# The whole console of a guest that had trouble is left here.
CONSOLE_LOG=$BUILD/meson-logs/$(basename "$0" .sh)$(IFS=- && echo "${*:+-$*}").console

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
    # Whatever is wrong with the kernel ends it: an oops, the OOM killer at work; a hung task by way of watch_guest.
    parameters="console=ttyS0 loglevel=5 printk.devkmsg=on log_buf_len=1M panic=-1 oops=panic
        sysrq_always_enabled sysctl.vm.panic_on_oom=1 sysctl.kernel.hung_task_timeout_secs=30 $parameters"
    # shellcheck disable=SC2054 # commas are qemu's
    # Without KVM. The processor lacks cmpxchg16b, which qemu 7.2 emulates wrongly for several processors.
    qemu=(qemu-system-x86_64 -machine pc -accel tcg,thread=multi,tb-size=256 -cpu max,-cx16 -smp 2 -m "$mib"
        -nodefaults -no-user-config -no-reboot -display none -serial mon:stdio
        -kernel "$kernel"/boot/vmlinuz-* -initrd "$T/initrd" -append "${parameters//$'\n'/ }" "$@")
}

# run_guest: run $qemu, and see that its case passes. A test that provokes any sets GUEST_MAY_SAY to a regular expression of
# the complaints of the guest's kernel that are right.
run_guest() {
    local complaints='WARNING:|BUG:|blocked for more than|[Oo]ut of memory|page allocation failure|rcu.*stall' input watcher
    mkfifo "$T/input"
    exec {input}<>"$T/input"
    touch "$T/console"
    watch_guest &
    watcher=$!
    # The list of all tasks, which is long, only goes into the file.
    "${qemu[@]}" <&"$input" 2>&1 | sed -u 's/\r$//' | tee "$T/console" |
        sed -u '/sysrq: Show State$/,/sysrq: Changing Loglevel$/d' || fail "qemu failed"
    kill $watcher 2>/dev/null || :
    grep -q 'verdict: passed$' "$T/console" || fail "the guest did not pass"
    ! grep -E "$complaints" "$T/console" | grep -Ev "${GUEST_MAY_SAY:-^$}" || fail "the guest's kernel complained"
}

# ---- what a guest that fails or hangs is at ----

# Seconds without a line on the console that are a hang. (Those who wait for memory may do so in many short sleeps, which the
# kernel's own detector doesn't see.)
: "${SILENCE:=300}"
EXPLAIN=60 # seconds that it may take to show what there is

# Whether the guest has failed or hangs, and why it seems so. (A case that has failed says so at once, with all as it was.)
trouble() {
    if grep -E 'FAIL: |verdict: failed$|blocked for more than|soft lockup|rcu.*stall' "$T/console" |
        grep -Ev "${GUEST_MAY_SAY:-^$}" >/dev/null; then
        echo "it says so"
    elif (($(date +%s) - $(stat -c %Y "$T/console") > SILENCE)); then
        echo "no word for $SILENCE s"
    elif (($(now_ms) > T_START + (LIMIT - EXPLAIN) * 1000)); then
        echo "it has not ended in time"
    else
        return 1
    fi
}

# Wait for trouble; show what it is and end the guest.
watch_guest() {
    local why key
    until why=$(trouble); do
        sleep 0.5
    done
    say "the guest is in trouble ($why): what its processes are at:"
    # Loglevel 7; memory; what the CPUs are at; blocked tasks; all tasks; loglevel 5.
    for key in 7 m l w t 5; do
        sysrq $key || { say "the guest's kernel does not answer"; break; }
    done
    show_tasks
    # A case that has failed goes on to show more, and says when that is all.
    ! grep -q 'FAIL: ' "$T/console" || wait_for 60 grep -q 'verdict: failed$' "$T/console" || :
    cp "$T/console" "$CONSOLE_LOG"
    printf '\001x' >&"$input" # which ends qemu
}

# sysrq KEY: have the guest's kernel do what that is for; a break on the serial line comes before the key.
sysrq() {
    local before
    before=$(sysrqs)
    printf '\001b%s' "$1" >&"$input"
    wait_for 20 more_sysrqs "$before"
}
sysrqs() { grep -c '\] sysrq: ' "$T/console" || :; }
more_sysrqs() { (($(sysrqs) > $1)); }

# Of all tasks: those of uzramd, those that it serves, and those of the kernel in between.
show_tasks() {
    say "tasks of interest; all of them are in $CONSOLE_LOG"
    sed '1,/sysrq: Show State$/d; /Sched Debug Version\|Showing busy workqueues\|sysrq: /,$d' "$T/console" | awk '
        function flush() { if (wanted) printf "%s", task; task = ""; wanted = 0 }
        / task:/ { flush() }
        / task:(uz|kswapd|hog|diskx|systemd|loop|iou-|swapo|dpkg)/ { wanted = 1 }
        /Workqueue: [a-z].*(loop|ublk|blk|writeback|fuse)/ { wanted = 1 }
        !/ \? |RIP: |RSP: |R[A-DS0-9][XPI0-9]+: |<\/?TASK>|Call Trace:/ { task = task $0 "\n" }
        END { flush() }'
}
