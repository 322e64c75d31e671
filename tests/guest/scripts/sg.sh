# Asks the disk everything that sg3-utils can ask, and prints the answers between
# marks, each with its exit status. The host judges.
. /bulkhead/lib.sh

disk=$(argument bulkhead.disk sda)
wait_for_block "$disk" 30 || exit 1

ask() {
  report SG "begin=\"$*\""
  "$@"
  report SG "end=\"$*\" status=$?"
}

ask sg_inq "/dev/$disk"
for page in 0x00 0x80 0x83 0xb0 0xb1 0xb2; do
  ask sg_vpd --page=$page "/dev/$disk"
done
ask sg_readcap "/dev/$disk"
ask sg_readcap --16 "/dev/$disk"
ask sg_luns "/dev/$disk"
ask sg_turs "/dev/$disk"
ask sg_requests "/dev/$disk"
ask sg_opcodes "/dev/$disk"
ask sg_sync "/dev/$disk"
ask sg_verify --lba=0 --count=16 "/dev/$disk"
ask sg_unmap --lba=0 --num=8 --force "/dev/$disk"
ask sg_write_same --lba=8 --num=8 --in=/dev/zero --xferlen=512 "/dev/$disk"
# An operation code that no disk has: CHECK CONDITION, not a hang.
ask sg_raw "/dev/$disk" ff 00 00 00 00 00
ask sg_reset --device "/dev/$disk"
ask sg_turs "/dev/$disk"
