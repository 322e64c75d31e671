# What others' tools say of disks: fio writes and verifies from every processor,
# in blocks of all sizes; xfs and ext4 are made, used and checked. Overwrites the
# disks.
#
#   bulkhead.disk=vda,vdb        the disks, one after the other
#   bulkhead.driver=virtio-pci   who drives them
#   bulkhead.queues=4            how many queues the driver must use
#   bulkhead.interrupts=PCI-MSI  how /proc/interrupts must name their interrupts
#   bulkhead.agreed=34,-40       virtio feature bits that must be agreed on; "-":
#                                that must not
. /bulkhead/lib.sh

driver=$(argument bulkhead.driver virtio-pci)
queues=$(argument bulkhead.queues 1)
interrupts=$(argument bulkhead.interrupts PCI-MSI)
cpus=$(grep -c ^processor /proc/cpuinfo)
modprobe -q -a xfs ext4
phase="find"
name=none

ok() { report JUDGE "disk=$name phase=$phase result=ok uptime_ms=$(uptime_ms)"; }
fail() {
  report JUDGE "disk=$name phase=$phase result=fail detail=\"$*\""
  tail -n 20 /run/judge.log
  dmesg | tail -n 20
  exit 1
}
# quietly COMMAND...: what it says is shown when something fails.
quietly() { "$@" >/run/judge.log 2>&1; }

# job OPTIONS...: four jobs, each on a quarter of what --filename or --directory
# names, each on a processor of its own as far as there are any.
job() {
  quietly fio --name=judge --ioengine=libaio --direct=1 --numjobs=4 \
    --cpus_allowed="0-$((cpus - 1))" --cpus_allowed_policy=split \
    --group_reporting --verify=crc32c --verify_fatal=1 --randseed=42 "$@"
}

# agreed BITS: of the virtio device behind $name.
agreed() {
  features=$(cat "/sys/block/$name/device/features")
  for bit in $(echo "$1" | tr ',' ' '); do
    wanted=1
    case $bit in -*) wanted=0 ;; esac
    bit=${bit#-}
    [ "$(echo "$features" | cut -c $((bit + 1)))" = $wanted ] ||
      fail "virtio feature $bit is not $wanted: $features"
  done
}

# interrupts_of_queues: how many of the disk's queues have raised an interrupt.
interrupts_of_queues() {
  case $driver in
    nvme) pattern="nvme0q[1-9]" ;;
    # By MSI-X each queue has a name; by INTx the device has one.
    *) pattern="virtio[0-9]*\(-req\.[0-9]*\)\{0,1\}\$" ;;
  esac
  grep "$interrupts" /proc/interrupts | grep -c "[1-9][0-9]* .*$pattern" || true
}

# raw: blocks of the disk itself.
raw() {
  block=$(blockdev --getss "$disk")
  phase=random
  job --filename="$disk" --rw=randwrite --bs=4k --iodepth=16 --size=2m \
    --offset_increment=25% || fail fio
  ok
  phase=mixed
  job --filename="$disk" --rw=randrw --bsrange="$block-64k" \
    --blockalign="$block" --iodepth=8 --size=2m --offset_increment=25% \
    --verify_backlog=32 --fsync=64 || fail fio
  ok
  phase=sequential
  job --filename="$disk" --rw=write --bs=1m --iodepth=4 --size=4m \
    --offset_increment=25% || fail fio
  ok
  phase=trim
  job --filename="$disk" --rw=trimwrite --bs=64k --size=1m \
    --offset_increment=25% || fail fio
  ok
}

# files TYPE CHECK...: a file system of that type, which CHECK finds sound.
files() {
  type=$1
  shift
  phase=$type
  mount -t "$type" "$disk" /mnt || fail mount
  job --directory=/mnt --rw=randrw --bsrange=4k-32k --iodepth=4 --size=1m \
    --fsync=16 || fail fio
  rm /mnt/judge.* && seq 1 200000 >/mnt/numbers && sync
  quietly fstrim /mnt || fail fstrim
  umount /mnt || fail umount
  echo 3 >/proc/sys/vm/drop_caches
  blockdev --flushbufs "$disk"
  quietly "$@" "$disk" || fail "$1 says $?"
  mount -t "$type" -o ro "$disk" /mnt || fail "second mount"
  seq 1 200000 | quietly cmp - /mnt/numbers || fail "other bytes"
  umount /mnt
  ok
}

for name in $(argument bulkhead.disk vda | tr ',' ' '); do
  disk=/dev/$name
  phase="find"
  wait_for_block "$name" 30 || fail "no $disk"
  [ "$(pci_driver "$name")" = "$driver" ] || fail "behind $(pci_driver "$name")"
  # shellcheck disable=SC2012  # names of queues
  found=$(ls "/sys/block/$name/mq" | wc -l)
  [ "$found" = "$queues" ] || fail "$found queues, not $queues"
  agreed "$(argument bulkhead.agreed)"
  ok

  raw
  phase=mkfs
  quietly mkfs.xfs -q -f "$disk" || fail mkfs.xfs
  files xfs xfs_repair -n
  quietly /bin/mke2fs -q -F -t ext4 "$disk" || fail mke2fs
  files ext4 /bin/e2fsck -fn
done

phase=interrupts
found=$(interrupts_of_queues)
cat /proc/interrupts >/run/judge.log
[ "$found" -ge "$queues" ] || fail "$found of $queues queues interrupt"
ok
phase=kernel
# A slow emulator's clocks time out as well.
dmesg | grep -v clocksource | grep -i -E "I/O error|critical .* error|timed?[ -]?out|\
abort|EXT4-fs error|XFS .*(error|corrupt)|is down" >/run/judge.log &&
  fail "messages of errors"
ok
