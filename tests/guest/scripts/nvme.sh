# Asks an NVMe controller with two namespaces (512 and 4096 byte blocks) what
# nvme-cli can ask, moves data every way there is, and resets it under load.
# Overwrites both.
. /bulkhead/lib.sh

wait_for_block nvme0n1 30 && wait_for_block nvme0n2 30 || exit 1
# The kernel names namespaces in the order in which it finds them.
namespace() {
  for disk in /sys/block/nvme0n*; do
    if [ "$(cat "$disk/nsid")" = "$1" ]; then echo "/dev/${disk##*/}"; fi
  done
}
small=$(namespace 1)
large=$(namespace 2)
failures=0

# expect TITLE TEXT COMMAND...: the command succeeds and says TEXT.
expect() {
  title=$1
  text=$2
  shift 2
  if said=$("$@" 2>&1) && echo "$said" | grep -q -e "$text"; then
    report NVME "title=\"$title\" result=ok"
  else
    report NVME "title=\"$title\" result=fail"
    echo "$said" | tail -n 12
    failures=$((failures + 1))
  fi
}
# refuse TITLE TEXT COMMAND...: the command fails and says TEXT.
refuse() {
  title=$1
  text=$2
  shift 2
  if said=$("$@" 2>&1) || ! echo "$said" | grep -q -i -e "$text"; then
    report NVME "title=\"$title\" result=fail"
    echo "$said" | tail -n 12
    failures=$((failures + 1))
  else
    report NVME "title=\"$title\" result=ok"
  fi
}

expect "controller" "^sn .*: BH-GUEST" nvme id-ctrl /dev/nvme0
expect "model" "^mn .*: Bulkhead NVMe" nvme id-ctrl /dev/nvme0
expect "two namespaces" "^nn .*: 2" nvme id-ctrl /dev/nvme0
expect "512 byte blocks" "lbads:9 .*in use" nvme id-ns "$small"
expect "4096 byte blocks" "lbads:12 .*in use" nvme id-ns "$large"
expect "descriptors" "eui64" nvme ns-descs "$small"
expect "active list" "0x2" nvme list-ns /dev/nvme0
expect "allocated list" "0x2" nvme list-ns /dev/nvme0 --all
expect "controller list" "num of ctrls present: 1" nvme list-ctrl /dev/nvme0
expect "attached controllers" ": 1" nvme list-ctrl /dev/nvme0 -n 2
expect "smart log" "critical_warning.*: 0" nvme smart-log /dev/nvme0
expect "error log" "Error Log Entries for device" nvme error-log /dev/nvme0 -e 4
expect "firmware log" "frs1" nvme fw-log /dev/nvme0
expect "effects log" "Read" nvme effects-log /dev/nvme0
expect "effects log, raw" "0010: 01 00 00 00" \
  nvme get-log /dev/nvme0 --log-id=5 --log-len=64
expect "registers" "version.*10400" nvme show-regs /dev/nvme0
expect "nvme list" "BH-GUEST" nvme list
expect "namespace's capacity" "^nvmcap" nvme id-ns "$small"
expect "globally unique" "^nguid *: *[0-9a-f]*[1-9a-f]" nvme id-ns "$large"
[ "$(nvme id-ns "$small" | grep -E '^(nguid|eui64)')" != \
  "$(nvme id-ns "$large" | grep -E '^(nguid|eui64)')" ] || failures=1000
expect "changed namespaces" "" nvme changed-ns-list-log /dev/nvme0
for feature in 1 2 4 5 6 7 8 9 11; do
  expect "feature $feature" "get-feature" nvme get-feature /dev/nvme0 -f $feature
done
refuse "host memory buffer" "Invalid Field" nvme get-feature /dev/nvme0 -f 13
for feature in 1 2 4 5 6 7 8 9 11; do
  expect "capabilities of feature $feature" "get-feature" \
    nvme get-feature /dev/nvme0 -f $feature --sel=3
done
expect "temperature threshold" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=4 --value=350
expect "threshold is set" "Current value: *0*x*0*15e" \
  nvme get-feature /dev/nvme0 -f 4
expect "interrupt coalescing" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=8 --value=0x203
expect "arbitration" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=1 --value=2
refuse "saving a feature" "not saveable\|NOT_SAVEABLE" \
  nvme set-feature /dev/nvme0 --feature-id=6 --value=1 --save
expect "no more coalescing" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=8 --value=0
expect "cache off" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=6 --value=0
expect "cache is off" "Current value: *0*x*0*$" nvme get-feature /dev/nvme0 -f 6
expect "cache on" "set-feature" \
  nvme set-feature /dev/nvme0 --feature-id=6 --value=1
refuse "format" "Invalid Command Opcode\|INVALID_OPCODE\|Invalid" \
  nvme format "$small" -f -l 0
refuse "sanitize" "Invalid" nvme sanitize /dev/nvme0 -a 2
refuse "self-test" "Invalid" nvme device-self-test /dev/nvme0 -n 1 -s 1
refuse "directives" "Invalid" nvme dir-receive "$small" -D 0 -O 1 -H
refuse "reservations" "Invalid" nvme resv-report "$small"
refuse "a namespace more" "Invalid" nvme create-ns /dev/nvme0 -s 8 -c 8 -f 0
refuse "security" "Invalid" nvme security-recv /dev/nvme0 -p 1 -t 64 -x 64
refuse "abort of a queue that is none" "Invalid Field" \
  nvme admin-passthru /dev/nvme0 --opcode=8 --cdw10=0x50063
refuse "an unknown log" "Invalid Log Page\|INVALID_LOG_PAGE" \
  nvme get-log /dev/nvme0 --log-id=0x70 --log-len=64
refuse "an unknown command" "Invalid Command Opcode\|INVALID_OPCODE" \
  nvme io-passthru "$small" --opcode=0x99 --namespace-id=1

yes bulkhead | head -c 65536 >/tmp/data
dd if=/dev/zero of=/tmp/zeroes bs=65536 count=1 2>/dev/null
expect "write" "Success" \
  nvme write "$small" -s 8 -c 127 -z 65536 -d /tmp/data
expect "forced write" "Success" \
  nvme write "$large" -s 8 -c 15 -z 65536 -d /tmp/data -f
for disk in "$small" "$large"; do
  blocks=$((65536 / $(blockdev --getss "$disk")))
  expect "read $disk" "Success" \
    nvme read "$disk" -s 8 -c $((blocks - 1)) -z 65536 -d /tmp/read
  expect "data of $disk" "" cmp /tmp/data /tmp/read
  expect "compare $disk" "Success" \
    nvme compare "$disk" -s 8 -c $((blocks - 1)) -z 65536 -d /tmp/data
  refuse "compare other data" "Compare\|COMPARE" \
    nvme compare "$disk" -s 9 -c $((blocks - 1)) -z 65536 -d /tmp/data
  expect "verify $disk" "" nvme verify "$disk" -s 8 -c $((blocks - 1))
  expect "flush $disk" "success" nvme flush "$disk"
  expect "write zeroes $disk" "" \
    nvme write-zeroes "$disk" -s 8 -c $((blocks - 1))
  expect "zeroes of $disk" "Success" \
    nvme compare "$disk" -s 8 -c $((blocks - 1)) -z 65536 -d /tmp/zeroes
  expect "deallocate $disk" "success" nvme dsm "$disk" -d -s 0 -b 64
  expect "blkdiscard $disk" "" blkdiscard "$disk"
done
refuse "past the end" "LBA" nvme read "$small" -s 99999999 -c 7 -z 4096 -d /tmp/x
expect "error log entry" "LBA_RANGE\|LBA Out of Range\|lba *: 0x5f5e0ff" \
  nvme error-log /dev/nvme0 -e 8
# Byte 40 of the command: its starting block.
expect "the byte to blame" "parm_err_loc.*: 0x28" \
  nvme error-log /dev/nvme0 -e 8

# fio, whose every block is verified, through resets.
for disk in "$small" "$large"; do
  fio --name=resets --filename="$disk" --ioengine=libaio --direct=1 \
    --rw=randwrite --bs=4k --iodepth=16 --numjobs=2 --size=8m \
    --offset_increment=16m --verify=crc32c --verify_fatal=1 \
    --group_reporting >/tmp/fio.log 2>&1 &
  fio=$!
  sleep 1
  for round in 1 2 3; do
    expect "reset $round under fio" "" nvme reset /dev/nvme0
    sleep 0.3
  done
  if wait $fio; then
    report NVME "title=\"fio on $disk\" result=ok"
  else
    report NVME "title=\"fio on $disk\" result=fail"
    tail -n 20 /tmp/fio.log
    failures=$((failures + 1))
  fi
done

# A file system on each, with a reset in the middle of writing.
seq 1 300000 >/tmp/numbers
modprobe -q -a xfs ext4
for disk in "$small" "$large"; do
  case $disk in
    "$small") type=ext4 make="/bin/mke2fs -q -F -t ext4" fsck="/bin/e2fsck -fn" ;;
    *) type=xfs make="mkfs.xfs -q -f" fsck="xfs_repair -n" ;;
  esac
  # shellcheck disable=SC2086  # a command and its options
  expect "mkfs $disk" "" $make "$disk"
  mount -t $type "$disk" /mnt || exit 1
  (for n in 1 2 3 4 5 6 7 8; do cp /tmp/numbers /mnt/$n && sync; done
    touch /mnt/whole) &
  sleep 1
  expect "reset under load" "" nvme reset /dev/nvme0
  expect "another" "" nvme reset /dev/nvme0
  wait $!
  umount /mnt && mount -t $type -o ro "$disk" /mnt || exit 1
  expect "all files of $disk" "" test -e /mnt/whole
  for n in 1 5 8; do expect "file $n" "" cmp /tmp/numbers /mnt/$n; done
  umount /mnt
  # shellcheck disable=SC2086  # a command and its options
  expect "fsck $disk" "" $fsck "$disk"
done
for queue in /sys/block/nvme0n1/mq/*; do echo "queue: $queue"; done
dmesg | grep -i nvme
errors=$(dmesg | grep -c -i -E \
  "I/O error, dev nvme.* op 0x[01]|timed?[ -]?out|EXT4-fs error|controller is down")
[ "$errors" = 0 ] || failures=$((failures + 1))
report NVME "failures=$failures kernel_errors=$errors"
[ "$failures" = 0 ]
