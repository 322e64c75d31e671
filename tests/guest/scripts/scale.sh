# Reads from all disks at the same time: one line of iobench for each.
# bulkhead.seconds= is the time, bulkhead.disks= how many there must be.
. /bulkhead/lib.sh

seconds=$(argument bulkhead.seconds 3)
wanted=$(argument bulkhead.disks 1)
prefix=$(argument bulkhead.prefix vd)
for _ in $(seq 300); do
  # shellcheck disable=SC2012  # names of block devices
  [ "$(ls -d /sys/block/"$prefix"* 2>/dev/null | wc -l)" -ge "$wanted" ] && break
  sleep 0.1
done
report SCALE "uptime_ms=$(uptime_ms)"
for path in /sys/block/"$prefix"*; do
  iobench "/dev/${path##*/}" randread 4096 16 "$seconds" &
done
wait
report SCALE result=ok
