# Writes a mark, reboots the guest, and finds the mark again.
. /bulkhead/lib.sh

disk=/dev/$(argument bulkhead.disk sda)
wait_for_block "${disk#/dev/}" 30 || exit 1
mark='bulkhead: this guest has rebooted'
last=$(($(cat "/sys/block/${disk#/dev/}/size") - 8))

found=$(dd if="$disk" bs=512 skip="$last" count=1 2>/dev/null | head -n 1)
if [ "$found" = "$mark" ]; then
  report REBOOT result=ok
  dd if=/dev/zero of="$disk" bs=512 seek="$last" count=8 conv=fsync 2>/dev/null
  exit 0
fi
{
  echo "$mark"
  cat /dev/zero
} | dd of="$disk" bs=512 seek="$last" count=8 iflag=fullblock conv=fsync \
  2>/dev/null
report REBOOT phase=going
reboot
sleep 60
exit 1
