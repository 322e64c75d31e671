# Block device throughput: 4 KiB at random at depth 1 and at bulkhead.depth=,
# 1 MiB in sequence. Overwrites the disk. bulkhead.seconds= is the time of each
# run. By fio where the guest has it (//tools/guest:judges_initrd), else by
# iobench, which costs the guest's CPU less.
. /bulkhead/lib.sh

disk=/dev/$(argument bulkhead.disk sda)
seconds=$(argument bulkhead.seconds 3)
depth=$(argument bulkhead.depth 16)
wait_for_block "${disk#/dev/}" 30 || exit 1

by_fio() {
  fio --name=bench --filename="$disk" --direct=1 --ioengine=libaio \
    --minimal --terse-version=3 "$@" >/run/fio
}

# Fields of fio's terse output: of reads and of writes.
readonly read_iops=8 write_iops=49

# measure RW BYTES DEPTH
measure() {
  if ! command -v fio >/dev/null; then
    iobench "$disk" "$1" "$2" "$3" "$seconds"
    return
  fi
  by_fio --rw="$1" --bs="$2" --iodepth="$3" --time_based \
    --runtime="$seconds" --norandommap || return
  case $1 in *read) field=$read_iops ;; *) field=$write_iops ;; esac
  iops=$(cut -d ';' -f "$field" /run/fio)
  report BENCH "rw=$1 bs=$2 depth=$3 iops=$iops" \
    "mib_s=$((iops * $2 / 1048576))"
}

# Once over it, so that every cluster of an image is there.
size_mib=$(($(cat "/sys/block/${disk#/dev/}/size") / 2048))
dd if=/dev/zero of="$disk" bs=1M count="$size_mib" oflag=direct || exit 1
measure randread 4096 1 || exit 1
measure randwrite 4096 1 || exit 1
measure randread 4096 "$depth" || exit 1
measure randwrite 4096 "$depth" || exit 1
measure read 1048576 1 || exit 1
measure write 1048576 1
