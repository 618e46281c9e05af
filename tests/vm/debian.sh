# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A disk with a small Debian, systemd, and what was just built.

# shellcheck source=tests/vm/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
need meson mke2fs systemctl

# make_debian VERSION FRONTEND PARAMETERS SERVICE...: set $qemu to the command that boots that kernel with those
# parameters and a Debian in which swap0, of twice the RAM, and the services SERVICE... of guest/systemd are enabled.
make_debian() {
    local version=$1 frontend=$2 parameters=$3 root=$T/debian tar kernel
    shift 3
    cached kernel kernel.sh "$version"
    cached tar root.sh
    mkdir "$root"
    tar -C "$root" -xf "$tar"
    cp -r "$kernel/lib/modules" "$root/usr/lib/"
    install_uzram "$root"
    install -D -m 644 /dev/stdin "$root/etc/uzram/swap0.toml" <<EOT
size = "ram * 2"
frontend = "$frontend"
[memory]
limit = "ram * 3 / 4"
EOT
    install_tests "$root"
    settle "$root"
    systemctl --root="$root" --quiet enable uzramd@swap0 "$@"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$T/disk" 512M >/dev/null
    rm -rf "$root"
    make_initrd "$kernel" init_disk virtio_pci virtio_blk ext4
    qemu_command "$kernel" 384 "$parameters systemd.show_status=no" \
        -drive "file=$T/disk,format=raw,if=virtio,cache=unsafe"
}

# install_uzram ROOT: the package, if ./dev deb has made one and nothing has changed since; else as it would be.
install_uzram() {
    local log=$BUILD/meson-logs/install-log.txt package
    package=$(ls "$BUILD"/deb/uzram_*.deb 2>/dev/null) || :
    if [[ $package && -z $(cd "$VM/../.." && find config daemon lib systemd -newer "$package") ]]; then
        cp "$package" "$1/root/uzram.deb"
        chroot "$1" dpkg --install /root/uzram.deb >/dev/null
    else
        (
            flock 9 # another guest may be made at the same time
            # "ninja uninstall" removes what was installed last, which must not be this.
            [[ ! -e $log ]] || cp "$log" "$T/install-log"
            DESTDIR=$1 meson install -C "$BUILD" --no-rebuild --quiet
            rm "$log"
            [[ ! -e $T/install-log ]] || mv "$T/install-log" "$log"
        ) 9>"$BUILD/meson-logs/install.lock"
        chroot "$1" systemd-sysusers 2>/dev/null
    fi
}

# install_tests ROOT
install_tests() {
    install "$BUILD/tests/system/hog" "$1/usr/bin/"
    cp -r "$VM/guest/systemd" "$1/usr/lib/uzram-test"
    cp "$VM/../../config/debian/tests/device" "$1/usr/lib/uzram-test/autopkgtest_device"
    mv "$1"/usr/lib/uzram-test/*.service "$1/etc/systemd/system/"
}

# settle ROOT: it is no new machine that has to be set up, needs nothing for the rest of its life, and keeps no logs.
settle() {
    local unit
    touch "$1/etc/.updated" "$1/var/.updated"
    echo uzram >"$1/etc/hostname"
    systemd-id128 new >"$1/etc/machine-id"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
        getty.target systemd-pstore.service; do
        ln -sf /dev/null "$1/etc/systemd/system/$unit"
    done
    echo -e '[Journal]\nStorage=volatile' >"$1/etc/systemd/journald.conf"
}
