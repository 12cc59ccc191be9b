#!/bin/sh
# A disk that stops taking in what was never written before, and takes it again later.
#
# ext4 on a loop device over a file in memory: `fail` takes away the room of every block that is
# free, so that writes to them fail when the kernel writes them back, long after write(2) has
# returned. The file system stays up, for its journal has its room. Root and loop devices needed.
#
#   failing-disk.sh make DIR      mounts it at DIR/disk, and makes DIR/killer.so
#   failing-disk.sh fail DIR
#   failing-disk.sh heal DIR
#   failing-disk.sh remount DIR   afterwards only what is on the disk is there
#   failing-disk.sh remove DIR
#
# killer.so, preloaded, kills its process where a sync fails, before it can do anything about it.
set -eu

what=$1
dir=$2
disk=$dir/disk
host=$dir/host
image=$host/image

make_killer() {
    cat > "$dir/killer.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>
static int watched(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(file);
    if (result != 0) kill(getpid(), SIGKILL);
    return result;
}
int fdatasync(int file) { return watched("fdatasync", file); }
int fsync(int file) { return watched("fsync", file); }
C
    cc -shared -fPIC -o "$dir/killer.so" "$dir/killer.c" -ldl
}

mount_disk() {
    device=$(losetup --find --show "$image")
    # A page at a time: the loop driver takes a write that finds room for its first pages only as
    # one that has succeeded, and the disk would lie instead of failing.
    echo 4 > "/sys/block/${device#/dev/}/queue/max_sectors_kb"
    mount "$device" "$disk"
}

unmount_disk() {
    device=$(losetup --noheadings --output NAME --associated "$image")
    umount "$disk" 2>/dev/null || true
    for one in $device; do losetup --detach "$one"; done
}

case $what in
make)
    mkdir "$disk" "$host"
    make_killer
    mount -t tmpfs -o size=56m,mode=700 host "$host"
    fallocate --length 24MiB "$image"
    mkfs.ext4 -q -b 4096 -E nodiscard,lazy_itable_init=0 "$image"
    # mkfs leaves holes where it would write zeros: the journal must not lie in one.
    cp --sparse=never "$image" "$image.whole"
    mv "$image.whole" "$image"
    mount_disk
    ;;
fail)
    fsfreeze --freeze "$disk"
    device=$(losetup --noheadings --output NAME --associated "$image")
    dumpe2fs "$device" 2>/dev/null | sed -n 's/^  Free blocks: //p' | tr ', ' '\n\n' |
        while IFS=- read -r first last; do
            [ -n "$first" ] || continue
            count=$((${last:-$first} - first + 1))
            fallocate --punch-hole --offset $((first * 4096)) --length $((count * 4096)) "$image"
        done
    dd if=/dev/zero of="$host/ballast" bs=64k 2>/dev/null || true
    dd if=/dev/zero of="$host/ballast.end" bs=4k 2>/dev/null || true
    fsfreeze --unfreeze "$disk"
    ;;
heal)
    rm -f "$host/ballast" "$host/ballast.end"
    ;;
remount)
    unmount_disk
    mount_disk
    ;;
remove)
    unmount_disk
    umount "$host"
    ;;
esac
