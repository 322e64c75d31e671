# Functions of the guest's init, self-check and test scripts (busybox sh).

# argument NAME [DEFAULT]: the value of NAME=VALUE on the kernel's command line.
argument() {
  for word in $(cat /proc/cmdline); do
    case $word in "$1="*)
      echo "${word#*=}"
      return
      ;;
    esac
  done
  echo "${2-}"
}

# has_argument NAME: whether the bare word is on the command line.
has_argument() {
  case " $(cat /proc/cmdline) " in *" $1 "*) return 0 ;; esac
  return 1
}

# uptime_ms: milliseconds since the kernel started.
uptime_ms() {
  read -r up _ </proc/uptime
  whole=${up%.*}
  echo $((whole * 1000 + (1${up#*.} - 100) * 10))
}

# wait_for_block NAME SECONDS: until /dev/NAME can be read.
wait_for_block() {
  left=$(($2 * 20))
  while [ ! -b "/dev/$1" ]; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    usleep 50000
  done
}

# load_drivers: the modules of every device on the PCI bus, of the virtio devices
# found there, then those for disks.
load_drivers() {
  for bus in pci virtio; do
    for alias in /sys/bus/"$bus"/devices/*/modalias; do
      [ -e "$alias" ] || continue
      read -r name <"$alias"
      modprobe -q "$name"
    done
  done
  modprobe -q -a sd_mod sr_mod sg
  for name in $(argument bulkhead.modules | tr ',' ' '); do
    modprobe "$name" || echo "bulkhead: cannot load module $name"
  done
}

# pci_driver BLOCK_DEVICE: the driver of the PCI device that it sits behind.
pci_driver() {
  path=$(readlink -f "/sys/block/$1")
  while [ "$path" != /sys/devices ] && [ -n "$path" ]; do
    if [ -e "$path/vendor" ] && [ -e "$path/class" ] && [ -e "$path/driver" ]
    then
      basename "$(readlink -f "$path/driver")"
      return
    fi
    path=${path%/*}
  done
}

# report SCRIPT KEY=VALUE...: a line for the host to parse.
report() { echo "BULKHEAD-$*"; }

# These win over busybox's own, which would ask an init that is not there.
power() {
  sync
  umount -a -r 2>/dev/null
  busybox "$1" -f
}
poweroff() { power poweroff; }
reboot() { power reboot; }
halt() { power poweroff; }
