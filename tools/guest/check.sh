# The guest's self-check: proves a disk from the driver up to a file system.
# Prints one line a phase, for the host to parse:
#
#   BULKHEAD-CHECK phase=mkfs result=ok ms=812
#   BULKHEAD-CHECK phase=find result=fail ms=20000 detail="no /dev/sda"
#   BULKHEAD-CHECK file=/file-3 bytes=72008 sha256=...
#   BULKHEAD-CHECK phase=done result=ok ms=6120
#
# Phases: find mkfs expect write unmount fsck read done; the first failure ends it.
#
# File N of 1..8 holds the numbers N000000 to N000000 + 1000*N*N in decimal, one
# a line; `big` is file 8 sixteen times. So anyone can compute what is expected.

. /bulkhead/lib.sh

disk=$(argument bulkhead.disk sda)
driver=$(argument bulkhead.driver sym53c8xx)
started=$(uptime_ms)
phase_started=$started
at=/mnt/check
log=/run/check.log

passed() {
  now=$(uptime_ms)
  report CHECK "phase=$1 result=ok ms=$((now - phase_started))${2:+ $2}"
  phase_started=$now
}

failed() {
  now=$(uptime_ms)
  report CHECK "phase=$1 result=fail ms=$((now - phase_started)) detail=\"$2\""
  tail -n 5 "$log" 2>/dev/null
  report CHECK "phase=done result=fail ms=$((now - started))"
  exit 1
}

# write_files FOLDER
write_files() {
  for n in 1 2 3 4 5 6 7 8; do
    seq $((n * 1000000)) $((n * 1000000 + 1000 * n * n)) >"$1/file-$n" ||
      return 1
  done
  for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat "$1/file-8"; done \
    >"$1/big"
}

sums() { (cd "$1" && sha256sum file-* big); }

mkdir -p "$at" /run/expected
: >"$log"

wait_for_block "$disk" 30 || failed find "no /dev/$disk"
found=$(pci_driver "$disk")
[ "$found" = "$driver" ] ||
  failed find "/dev/$disk is behind '$found', not '$driver'"
sectors=$(cat "/sys/block/$disk/size")
passed find "uptime_ms=$phase_started disk=$disk driver=$found sectors=$sectors"

# With given identifiers, mke2fs does not wait for the guest's random numbers.
uuid=b01cead0-0000-4000-8000-00000000c4ec
/bin/mke2fs -q -F -t ext4 -b 4096 -U "$uuid" -E "hash_seed=$uuid" \
  "/dev/$disk" >>"$log" 2>&1 || failed mkfs mke2fs
passed mkfs

# What is expected is computed in memory, away from the disk.
write_files /run/expected || failed expect "out of memory"
expected=$(sums /run/expected)
passed expect
mount -t ext4 "/dev/$disk" "$at" >>"$log" 2>&1 || failed write mount
cp /run/expected/* "$at/" 2>>"$log" || failed write "copying"
sync
passed write

umount "$at" 2>>"$log" || failed unmount umount
rm -rf /run/expected
echo 3 >/proc/sys/vm/drop_caches
blockdev --flushbufs "/dev/$disk"
passed unmount

/bin/e2fsck -f -n "/dev/$disk" >>"$log" 2>&1 || failed fsck "e2fsck status $?"
passed fsck

echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 -o ro "/dev/$disk" "$at" >>"$log" 2>&1 || failed read mount
actual=$(sums "$at")
[ "$actual" = "$expected" ] || failed read "files differ from what was written"
echo "$actual" | while read -r sum name; do
  report CHECK "file=/$name bytes=$(stat -c %s "$at/$name") sha256=$sum"
done
umount "$at" 2>>"$log" || failed read umount
passed read

errors=$(dmesg | grep -c -i -E \
  "I/O error|critical .* error|timed?[ -]?out|abort|unexpected|EXT4-fs error")
[ "$errors" = 0 ] || failed "done" "$errors kernel messages of disk errors"
report CHECK "phase=done result=ok ms=$(($(uptime_ms) - started))"
