#!/usr/bin/env bash
# A systemd as process 1 of its own: namespaces, a cgroup and an overlay over this machine's files, all gone at the end.
#
#   pid1.sh WORK CGROUP       WORK: an empty folder; WORK/files is laid over the root. CGROUP: a folder to make.
#
# The kernel's settings are read-only in there, and units that would set up a machine are masked. Ends with process 1.
set -euo pipefail
work=$1 cgroup=$2

mkdir "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child --propagation private bash -euo pipefail -c '
work=$1 root=$1/layers/root
mkdir "$work/layers"
mount -t tmpfs tmpfs "$work/layers"
mkdir "$work"/layers/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layers/upper,workdir=$work/layers/work" "$root"
cp -a "$work/files/." "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
touch "$root/dev/console"

rm -rf "$root"/etc/systemd/system/*.wants # what this machine has enabled is none of our business
for name in systemd-{sysctl,modules-load,remount-fs,udevd,udev-trigger,update-utmp,tmpfiles-setup-dev,sysusers,random-seed}; do
    ln -sf /dev/null "$root/etc/systemd/system/$name.service"
done
mkdir "$root/old"
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared / # as systemd expects it from who starts a container: credentials come by such a mount
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=lone.target --show-status=no --log-target=journal
' pid1 "$work"
