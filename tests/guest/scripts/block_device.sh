# A disk, whatever its device: what is written is read, discards and trims work,
# a file system lives on it, the driver can be taken away under load and brought
# back, and so can the guest. Overwrites the disk.
#
#   bulkhead.disk=vda bulkhead.driver=virtio-pci
. /bulkhead/lib.sh

name=$(argument bulkhead.disk vda)
driver=$(argument bulkhead.driver virtio-pci)
disk=/dev/$name
mark='bulkhead: this guest has rebooted under load'
phase="find"

ok() { report BLOCK "phase=$phase result=ok"; }
fail() {
  report BLOCK "phase=$phase result=fail detail=\"$*\""
  dmesg | tail -n 20
  exit 1
}

wait_for_block "$name" 30 || fail "no $disk"
[ "$(pci_driver "$name")" = "$driver" ] || fail "behind $(pci_driver "$name")"
last=$(($(cat "/sys/block/$name/size") - 8))

if [ "$(dd if="$disk" bs=512 skip="$last" count=1 2>/dev/null |
  head -n 1)" = "$mark" ]; then
  phase=rebooted
  dd if=/dev/zero of="$disk" bs=512 seek="$last" count=8 conv=fsync 2>/dev/null
  iobench "$disk" verify 4096 16 1 || fail "after the reboot"
  ok
  exit 0
fi

phase=verify
for blocks in "512 1" "4096 32" "131072 8"; do
  # shellcheck disable=SC2086
  set -- $blocks
  iobench "$disk" verify "$1" "$2" 2 || fail "blocks of $1"
done
ok

phase=discard
blkdiscard "$disk" || fail blkdiscard
head -c 1048576 "$disk" | cmp -n 1048576 - /dev/zero || fail "not zeroes"
ok

sh /bulkhead/check.sh || exit 1

phase=trim
mkfs.ext4 -q -F "$disk" || fail mkfs
mount -t ext4 "$disk" /mnt || fail mount
dd if=/dev/urandom of=/mnt/random bs=1M count=8 2>/dev/null
cp /mnt/random /tmp/random && rm /mnt/random && sync
fstrim /mnt || fail fstrim
cp /tmp/random /mnt/random || fail write
sync
umount /mnt || fail unmount
mount -t ext4 -o ro "$disk" /mnt || fail "second mount"
cmp /mnt/random /tmp/random || fail compare
umount /mnt
e2fsck -fn "$disk" >/dev/null 2>&1 || fail fsck
ok

phase=unbind
device=$(readlink -f "/sys/block/$name")
while [ ! -e "$device/vendor" ] || [ ! -e "$device/class" ]; do
  device=${device%/*}
done
address=${device##*/}
for round in 1 2 3; do
  for _ in 1 2 3 4; do
    dd if="$disk" of=/dev/null bs=4k iflag=direct 2>/dev/null &
  done
  sleep 0.5
  echo "$address" >"/sys/bus/pci/drivers/$driver/unbind" || fail "round $round"
  wait
  echo "$address" >"/sys/bus/pci/drivers/$driver/bind" || fail "round $round"
  wait_for_block "$name" 30 || fail "gone in round $round"
done
iobench "$disk" verify 4096 32 1 || fail verify
ok

phase=reboot
{
  echo "$mark"
  cat /dev/zero
} | dd of="$disk" bs=512 seek="$last" count=8 iflag=fullblock conv=fsync \
  2>/dev/null
for _ in 1 2 3 4; do
  iobench "$disk" randread 4096 16 60 >/dev/null 2>&1 &
done
sleep 1
report BLOCK "phase=reboot result=going"
busybox reboot -f
sleep 60
exit 1
