# Reads the disk again and again, past the page cache, until the host ends the
# guest or reads fail; says which.
. /bulkhead/lib.sh

disk=$(argument bulkhead.disk sda)
wait_for_block "$disk" 30 || exit 1
round=0
while dd if="/dev/$disk" of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null; do
  round=$((round + 1))
  [ $((round % 4)) = 1 ] && report READ "round=$round"
done
report READ "failed after=$round"
