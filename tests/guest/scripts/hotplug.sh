# The host takes the disk's adapter out while the guest runs, and puts it back:
# the guest must see the disk go and come, and read the same bytes after.
. /bulkhead/lib.sh

disk=$(argument bulkhead.disk sda)
wait_for_block "$disk" 30 || exit 1
before=$(dd if="/dev/$disk" bs=4096 count=16 2>/dev/null | sha256sum)
report HOTPLUG phase=ready

for _ in $(seq 300); do
  [ -e "/sys/block/$disk" ] || break
  sleep 0.1
done
[ -e "/sys/block/$disk" ] && exit 1
report HOTPLUG phase=gone

# A disk that comes back may have another name.
for _ in $(seq 300); do
  back=$(cd /sys/block && for name in sd*; do [ -e "$name" ] && echo "$name"; done |
    head -n 1)
  [ -n "$back" ] && break
  sleep 0.1
done
wait_for_block "$back" 30 || exit 1
after=$(dd if="/dev/$back" bs=4096 count=16 2>/dev/null | sha256sum)
[ "$before" = "$after" ] || exit 1
report HOTPLUG phase=back
