# Block device throughput: 4 KiB at depth 1 and at bulkhead.depth=, 1 MiB in
# sequence. Overwrites the disk. bulkhead.seconds= is the time of each run.
. /bulkhead/lib.sh

disk=/dev/$(argument bulkhead.disk sda)
seconds=$(argument bulkhead.seconds 3)
depth=$(argument bulkhead.depth 16)
wait_for_block "${disk#/dev/}" 30 || exit 1

# Once over it, so that every cluster of an image is there.
iobench "$disk" write 1048576 1 60 once || exit 1
iobench "$disk" randread 4096 1 "$seconds" || exit 1
iobench "$disk" randwrite 4096 1 "$seconds" || exit 1
iobench "$disk" randread 4096 "$depth" "$seconds" || exit 1
iobench "$disk" randwrite 4096 "$depth" "$seconds" || exit 1
iobench "$disk" read 1048576 1 "$seconds" || exit 1
iobench "$disk" write 1048576 1 "$seconds"
