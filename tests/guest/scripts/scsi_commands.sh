# Asks a disk and a CD-ROM drive everything that sg3-utils can ask. Each answer
# stands between two marks; tests/guest/scsi_commands/expected.txt says what has
# to be in it. Overwrites the disk.
. /bulkhead/lib.sh

for name in sda sdb sdc sr0; do wait_for_block $name 30 || exit 1; done
# block_at TARGET LUN: the block device there. The kernel names them in no order.
block_at() { basename "/sys/bus/scsi/devices/0:0:$1:$2/block"/*; }
disk=/dev/$(block_at 0 0)
large=/dev/$(block_at 0 3)
fixed=/dev/$(block_at 2 0)
# The kernel lets nobody write to the block device; past it, the unit refuses.
generic=/dev/$(basename /sys/bus/scsi/devices/0:0:2:0/scsi_generic/*)
cd=/dev/sr0

# ask TITLE COMMAND...
ask() {
  title=$1
  shift
  report ASK "begin=\"$title\""
  "$@" 2>&1
  report ASK "end=\"$title\" status=$?"
}

# set_cache TYPE: MODE SELECT by way of the kernel's disk driver.
set_cache() { for file in /sys/class/scsi_disk/*/cache_type; do echo "$1" >"$file"; done; }
# ready DEVICE TIMES: TEST UNIT READY so often; the last one's status counts, and
# how many failed is said. (sg_turs of some versions can do it only once.)
ready() {
  status=0
  errors=0
  for _ in $(seq "$2"); do
    sg_raw "$1" 00 00 00 00 00 00
    status=$?
    [ "$status" = 0 ] || errors=$((errors + 1))
  done
  echo "errors=$errors"
  return $status
}
fill() { yes bulkhead | dd of="$disk" bs=1M count=4 iflag=fullblock conv=fsync; }
same() { dd if="$disk" bs="$1" skip="$2" count="$3" 2>/dev/null | cmp - "$4"; }
zeroes() { dd if=/dev/zero bs="$1" count="$2" of=/tmp/zeroes 2>/dev/null; }

# File systems must come through blocks of any size.
files() {
  mkfs.ext4 -q "$1" && mount -t ext4 "$1" /mnt || return 1
  cp /tmp/numbers /mnt/numbers && sync
  umount /mnt && mount -t ext4 -o ro "$1" /mnt || return 1
  cmp /mnt/numbers /tmp/numbers && umount /mnt && e2fsck -fn "$1"
}

fill 2>/dev/null
seq 1 200000 >/tmp/numbers

ask "kernel log" sh -c "dmesg | grep -E 'scsi|sym0|sd 0|sr 0'"
ask "standard inquiry" sg_inq "$disk"
ask "all vpd pages" sg_vpd --all "$disk"
ask "unknown vpd page" sg_vpd --page=0xc7 "$disk"
ask "capacity 10" sg_readcap "$disk"
ask "capacity 16" sg_readcap --16 "$disk"
ask "luns" sg_luns "$disk"
ask "ready" ready "$disk" 1
ask "sense" sg_requests "$disk"
ask "sense as descriptors" sg_requests --desc "$disk"
ask "all opcodes" sg_opcodes "$disk"
ask "all opcodes with timeouts" sg_opcodes --rctd "$disk"
ask "one opcode" sg_opcodes --opcode=0x28 "$disk"
ask "one service action" sg_opcodes --opcode=0x9e,0x10 "$disk"
ask "task management functions" sg_opcodes --tmf "$disk"
ask "all mode pages" sg_modes --all "$disk"
ask "mode pages short" sg_modes --six "$disk"
ask "mode pages with long descriptor" sg_modes --llbaa "$disk"
ask "log pages" sg_logs --all "$disk"
ask "default self-test" sg_senddiag --test "$disk"
ask "persistent reservation" sg_persist --read-keys "$disk"

ask "write cache off" set_cache "write through"
ask "caching page, off" sg_modes --page=8 "$disk"
ask "write with the cache off" dd if=/dev/zero of="$disk" bs=4096 seek=512 count=1 oflag=direct
ask "write cache on" set_cache "write back"
ask "caching page, on" sg_modes --page=8 "$disk"

ask "synchronize" sg_sync "$disk"
ask "synchronize 16" sg_sync --16 "$disk"
ask "verify" sg_verify --lba=0 --count=4096 "$disk"
ask "verify beyond the end" sg_verify --lba=0xfffffff0 --count=1 "$disk"
dd if="$disk" of=/tmp/block bs=512 count=8 2>/dev/null
ask "compare equal bytes" sg_verify --lba=0 --count=8 --ndo=4096 --in=/tmp/block "$disk"
zeroes 512 8
ask "compare other bytes" sg_verify --lba=0 --count=8 --ndo=4096 --in=/tmp/zeroes "$disk"

ask "unmap" sg_unmap --lba=16 --num=16 --force "$disk"
zeroes 512 16
ask "unmapped blocks are zeroes" same 512 16 16 /tmp/zeroes
ask "blocks beside them are not" same 512 32 8 /tmp/zeroes
ask "unmap beyond the end" sg_unmap --lba=0xfffffff0 --num=1 --force "$disk"
dd if=/dev/urandom of=/tmp/one bs=512 count=1 2>/dev/null
for _ in 1 2 3 4; do cat /tmp/one; done >/tmp/four
ask "write same" sg_write_same --lba=64 --num=4 --in=/tmp/one --xferlen=512 "$disk"
ask "the block is repeated" same 512 64 4 /tmp/four
ask "write same of zeroes without data" sg_write_same --16 --ndob --lba=64 --num=4 "$disk"
zeroes 512 4
ask "and they are there" same 512 64 4 /tmp/zeroes
ask "write same with unmap" sg_write_same --16 --unmap --lba=128 --num=64 "$disk"
ask "discard of the whole disk" blkdiscard "$disk"

ask "stop" sg_start --stop "$disk"
ask "not ready" ready "$disk" 1
ask "start" sg_start --start "$disk"
ask "ready again" ready "$disk" 1

# READ (10) of a block that is not there; an opcode that no disk has; NACA.
ask "read beyond the end" sg_raw -r 512 "$disk" 28 00 ff ff ff f0 00 00 01 00
ask "unknown opcode" sg_raw "$disk" ff 00 00 00 00 00
ask "format" sg_raw "$disk" 04 00 00 00 00 00
ask "naca" sg_raw "$disk" 00 00 00 00 00 04
ask "device reset" sg_reset --device "$disk"
ask "bus reset" sg_reset --bus "$disk"
ask "ready after the reset" ready "$disk" 3
ask "write and read after the reset" sh -c "yes again | dd of=$disk bs=4096 count=64 iflag=fullblock conv=fsync && head -c 6 $disk"

ask "cd inquiry" sg_inq "$cd"
ask "cd serial number" sg_vpd --page=sn "$cd"
ask "cd capacity" sg_readcap "$cd"
ask "cd opcodes" sg_opcodes "$cd"
ask "cd mode pages" sg_modes "$cd"
ask "cd configuration" sg_raw -r 256 "$cd" 46 00 00 00 00 00 00 01 00 00
ask "cd toc" sg_raw -r 20 "$cd" 43 00 00 00 00 00 00 00 14 00
ask "cd events" sg_raw -r 8 "$cd" 4a 01 00 00 10 00 00 00 08 00
modprobe -q isofs
ask "cd mount" mount -t iso9660 -o ro "$cd" /mnt
ask "cd files" ls /mnt
ask "cd greeting" cat /mnt/hello.txt
ask "cd numbers" cmp /mnt/numbers.txt /tmp/numbers
ask "cd eject while mounted" sg_start --eject "$cd"
ask "cd unmount" umount /mnt
ask "cd eject" sg_start --eject "$cd"
ask "cd tray open" ready "$cd" 1
ask "cd load" sg_start --load "$cd"
ask "cd ready again" ready "$cd" 2

# Another logical unit of the same target, with blocks of 4096 bytes; another
# target, whose disk is read-only.
modprobe -q ext4
ask "large blocks after the reset" ready "$large" 2
ask "read-only after the reset" ready "$generic" 2
ask "large blocks" sg_readcap --16 "$large"
ask "large blocks beyond the end" sg_raw -r 4096 "$large" 28 00 00 00 10 00 00 00 01 00
ask "large blocks with a file system" files "$large"
ask "read-only mode pages" sg_modes --page=8 "$fixed"
ask "read-only to the kernel" cat "/sys/block/${fixed#/dev/}/ro"
ask "read-only provisioning" sg_vpd --page=lbpv "$fixed"
ask "read-only write" sg_raw -s 512 -i /tmp/one "$generic" 2a 00 00 00 00 00 00 00 01 00
ask "read-only unmap" sg_unmap --lba=0 --num=1 --force "$generic"
ask "read-only read" dd if="$fixed" of=/dev/null bs=1M count=1
