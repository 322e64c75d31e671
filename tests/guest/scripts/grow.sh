# Disks that become longer while they are used: each driver must learn of it in
# its device's own way, and what was there must stay. Overwrites the disks.
#
#   bulkhead.grown=SECTORS  what each has in the end (of 512 bytes)
. /bulkhead/lib.sh

grown=$(argument bulkhead.grown)

fail() {
  report GROW "disk=$1 result=fail detail=\"$2\""
  dmesg | tail -n 20
  exit 1
}

sectors() { cat "/sys/block/$1/size"; }

# The last 4 KiB of the disk as it is now.
write_end() { dd if=/mark of="/dev/$1" bs=4k seek=$(($2 / 8 - 1)) conv=fsync; }
check_end() {
  dd if="/dev/$1" bs=4k skip=$(($2 / 8 - 1)) count=1 iflag=direct | cmp - /mark
}

head -c 4096 /dev/urandom >/mark
for disk in vda nvme0n1 sda; do
  wait_for_block "$disk" 30 || fail "$disk" "not there"
  before=$(sectors "$disk")
  [ "$before" -lt "$grown" ] || fail "$disk" "has $before sectors at the start"
  write_end "$disk" "$before" 2>/dev/null || fail "$disk" "writing the old end"
  report GROW "disk=$disk result=ready"
  left=300
  while [ "$(sectors "$disk")" != "$grown" ]; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || fail "$disk" "still $(sectors "$disk") sectors"
    if [ "$disk" = sda ]; then
      # A SCSI target can only answer: the next command is told UNIT ATTENTION,
      # and Linux leaves it to its user to ask for the size.
      dd if=/dev/sda of=/dev/null bs=512 count=1 iflag=direct 2>/dev/null
      dmesg | grep -q 'Capacity data has changed' &&
        echo 1 >/sys/block/sda/device/rescan
    fi
    usleep 100000
  done
  check_end "$disk" "$before" 2>/dev/null || fail "$disk" "the old end changed"
  write_end "$disk" "$grown" 2>/dev/null || fail "$disk" "writing the new end"
  check_end "$disk" "$grown" 2>/dev/null || fail "$disk" "reading the new end"
  report GROW "disk=$disk result=ok sectors=$(sectors "$disk")"
done
