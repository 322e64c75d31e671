# A short tour of all that a driver does with a disk, for those who record it
# (tests/trace): probe, a file system, flushes, discards, zeroes, the cache
# switched, a reset, unbinding and binding, the end. Overwrites the disk.
#
#   bulkhead.disk=vda bulkhead.driver=virtio-pci
. /bulkhead/lib.sh

name=$(argument bulkhead.disk vda)
driver=$(argument bulkhead.driver virtio-pci)
disk=/dev/$name
wait_for_block "$name" 30 || exit 1

/bin/mke2fs -q -F -t ext4 "$disk" && mount -t ext4 "$disk" /mnt || exit 1
for n in 1 2 3 4; do seq 1 $((n * 3000)) >/mnt/$n && sync; done
rm /mnt/3 && fstrim /mnt
umount /mnt && /bin/e2fsck -fn "$disk" >/dev/null 2>&1 || exit 1
for blocks in "512 1" "4096 8" "131072 2"; do
  # shellcheck disable=SC2086
  set -- $blocks
  iobench "$disk" randread "$1" "$2" 1 || exit 1
done
blkdiscard -z -l 1048576 "$disk"
blkdiscard "$disk"

case $driver in
  nvme)
    for what in id-ctrl smart-log error-log fw-log list-ns list-ctrl; do
      nvme $what /dev/nvme0 >/dev/null
    done
    for feature in 1 2 4 5 6 7 8 9 11; do
      nvme get-feature /dev/nvme0 -f $feature >/dev/null
    done
    nvme set-feature /dev/nvme0 --feature-id=6 --value=0 >/dev/null
    dd if=/dev/zero of=/tmp/zeroes bs=4096 count=1 2>/dev/null
    nvme compare "$disk" -s 0 -c 7 -z 4096 -d /tmp/zeroes
    nvme verify "$disk" -s 0 -c 7
    nvme read "$disk" -s 99999999 -c 7 -z 4096 -d /tmp/x
    nvme reset /dev/nvme0
    ;;
  *)
    cat "/sys/block/$name/serial"
    echo "write through" >"/sys/block/$name/cache_type"
    dd if=/dev/zero of="$disk" bs=4096 count=4 oflag=direct 2>/dev/null
    echo "write back" >"/sys/block/$name/cache_type"
    ;;
esac
dd if=/dev/zero of="$disk" bs=4096 count=4 conv=fsync 2>/dev/null

device=$(readlink -f "/sys/block/$name")
while [ ! -e "$device/vendor" ] || [ ! -e "$device/class" ]; do
  device=${device%/*}
done
echo "${device##*/}" >"/sys/bus/pci/drivers/$driver/unbind"
echo "${device##*/}" >"/sys/bus/pci/drivers/$driver/bind"
wait_for_block "$name" 30
