# shellcheck shell=bash disable=SC2034,SC2154  # variables of setup
# The guest's kernel, modules and programs, from the distribution's own packages.
# Sourced.

# Raised whenever the tree's content changes.
readonly guest_recipe=2

# Modules that guests and tests load; their dependencies come along.
readonly guest_modules=(
  # SCSI: the lsi53c895a's driver and what sits on a bus.
  sym53c8xx sd_mod sr_mod sg ses st virtio_scsi
  # NVMe and virtio.
  nvme virtio_pci virtio_blk virtio_net virtio_console virtio-rng
  virtio_balloon vsock vmw_vsock_virtio_transport
  # File systems, and what they look up by name.
  ext4 xfs btrfs isofs udf vfat nls_ascii nls_cp437 nls_iso8859-1 nls_utf8
  crc32c_generic crc32c-intel crct10dif_generic crct10dif-pclmul
  crc64_rocksoft_generic loop
  # Devices that tests hot-plug, and ways to watch them.
  shpchp acpiphp pciehp configfs brd dm-mod dm-flakey raid0 raid1
)

# Programs beyond busybox, looked for in the unpacked packages.
readonly guest_packages=(e2fsprogs xfsprogs sg3-utils nvme-cli fio busybox-static)
readonly guest_programs=(
  mke2fs e2fsck debugfs dumpe2fs resize2fs badblocks nvme fio
  mkfs.xfs xfs_repair xfs_io xfs_db
  sg_inq sg_vpd sg_readcap sg_modes sg_requests sg_luns sg_opcodes sg_turs
  sg_start sg_sync sg_unmap sg_write_same sg_verify sg_reset sg_raw sg_logs
  sg_rdac sg_get_lba_status sg_persist sg_wr_mode sg_dd sgp_dd sg_format
  sg_read_buffer sg_write_buffer sg_reassign sg_senddiag sg_ident sg_map
)

# kernel_packages: the newest generic kernel's packages, modules included.
kernel_packages() {
  local meta image name
  case $os_id in
    ubuntu) meta=linux-image-generic ;;
    *) meta=linux-image-amd64 ;;
  esac
  image=$(apt-cache depends --important "$meta" 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  [[ -n $image ]] || return 1
  # Ubuntu, and newer Debians, keep the kernel or its modules in packages of
  # their own.
  {
    echo "$image"
    apt-cache depends --important "$image" |
      sed -n "s/^ *Depends: \(linux-.*-${image#linux-image-}\)\$/\1/p"
    for name in "linux-modules-${image#linux-image-}" \
      "linux-modules-extra-${image#linux-image-}"; do
      if apt-cache show "$name" >/dev/null 2>&1; then echo "$name"; fi
    done
  } | sort -u
}

# library_closure DIR NAME...: of all packages that apt would install for NAME,
# those that hold the programs and their libraries.
library_closure() {
  local dir=$1
  shift
  apt-get -c "$dir/apt.conf" install -y -q --print-uris "$@" 2>>"$setup_log" |
    sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p" |
    grep -Ev '^(libperl|.*-perl$|libpam|libsemanage|libdb5|libgdbm|libpython)' |
    grep -E "^(lib.*|zlib1g.*|$(
      IFS='|'
      echo "$*"
    ))\$"
}

download_guest() {
  local dir=$1 kernel names
  kernel=$(kernel_packages) || return 1
  private_apt "$dir" system
  names=$(library_closure "$dir" "${guest_packages[@]}") || return 1
  # shellcheck disable=SC2086  # one name a line
  (cd "$dir/debs" && run_apt "guest" "$setup_log" \
    apt-get -c "$dir/apt.conf" download -q $kernel $names)
}

# copy_programs FROM TO: the programs, and the libraries that the distribution's
# own loader resolves for them.
copy_programs() {
  local from=$1 to=$2 name file
  mkdir -p "$to"/{bin,lib,lib64}
  for name in busybox "${guest_programs[@]}"; do
    file=$(find "$from/usr/bin" "$from/usr/sbin" -name "$name" -print -quit)
    if [[ -n $file ]]; then cp -L "$file" "$to/bin/$name"; fi
  done
  [[ -x $to/bin/busybox ]] || die "busybox-static holds no busybox"

  cp -L "$from/usr/lib64/ld-linux-x86-64.so.2" "$to/lib64/"
  # fio is linked with Ceph, whose own library lies in a folder of its own.
  local libraries=$from/usr/lib/x86_64-linux-gnu
  local loader=("$to/lib64/ld-linux-x86-64.so.2" --inhibit-cache --library-path
    "$libraries:$from/usr/lib:$libraries/ceph" --list)
  for file in "$to"/bin/*; do
    if [[ $file != */busybox ]]; then "${loader[@]}" "$file"; fi
  done | sort -u >"$tree.libraries"
  if grep -q 'not found' "$tree.libraries"; then
    die "a guest program lacks a library:" "$(grep 'not found' "$tree.libraries")"
  fi
  awk '$2 == "=>" && $1 !~ /^\// { print $3 }' "$tree.libraries" | sort -u |
    xargs -r cp -L -t "$to/lib"
  rm -f "$tree.libraries"
}

# copy_modules FROM TO VERSION: the listed modules with their dependencies,
# uncompressed, and an index for modprobe.
copy_modules() {
  local from=$1 to=$2 version=$3 module
  local source="$from/usr/lib/modules/$version" target="$to/lib/modules/$version"
  local depmod=("$to/bin/busybox" depmod)
  "${depmod[@]}" -b "$from" "$version" 2>>"$setup_log" || return 1
  mkdir -p "$target"
  cp "$source"/modules.{builtin,builtin.modinfo,order} "$target/"

  # modules.dep lists "path: dependency..." with all of the closure.
  local name
  for name in "${guest_modules[@]}"; do
    grep -E "(^|/)${name//[-_]/[-_]}\.ko[^:]*:" "$source/modules.dep" ||
      true  # built in, or not in this kernel
  done | tr -d ':' | tr ' ' '\n' | sed '/^$/d' | sort -u |
    while read -r module; do
      module=${module#"/lib/modules/$version/"}
      mkdir -p "$target/$(dirname "$module")"
      case $module in
        *.xz) xz -dc "$source/$module" >"$target/${module%.xz}" ;;
        *.zst) zstd -qdc "$source/$module" >"$target/${module%.zst}" ;;
        *) cp "$source/$module" "$target/$module" ;;
      esac
    done
  "${depmod[@]}" -b "$to" "$version" 2>>"$setup_log"
}

# make_guest_tree TREE: TREE/vmlinuz, TREE/version, and TREE/root with bin, lib.
make_guest_tree() {
  local tree=$1 start=$SECONDS work=$1.work version kernel
  say "guest: kernel, modules and tools from $os_name"
  rm -rf "$work" "$tree.new"
  mkdir -p "$work/debs" "$tree.new/root"
  if ! download_guest "$work"; then
    # The lists may be absent, or older than the archive.
    refresh_lists
    rm -rf "$work/debs"
    mkdir -p "$work/debs"
    download_guest "$work" || {
      tail -n 15 "$setup_log" >&2
      die "cannot download the guest's packages; the whole log is $setup_log"
    }
  fi
  local debs=("$work"/debs/*.deb)
  unpack_debs "guest" "$work/unpacked" "${debs[@]}"
  version=$(find "$work/unpacked/usr/lib/modules" -mindepth 1 -maxdepth 1 \
    -printf '%f\n' | sort -V | tail -n 1)
  kernel=$(find "$work/unpacked/boot/vmlinuz-$version" \
    "$work/unpacked/usr/lib/modules/$version/vmlinuz" -print -quit 2>/dev/null ||
    true)
  [[ -n $kernel ]] || die "no kernel in: ${debs[*]##*/}"
  cp "$kernel" "$tree.new/vmlinuz"
  chmod a+r "$tree.new/vmlinuz"
  echo "$version" >"$tree.new/version"
  copy_programs "$work/unpacked" "$tree.new/root"
  copy_modules "$work/unpacked" "$tree.new/root" "$version"
  progress_end "guest Linux $version: ${#debs[@]} packages," \
    "$(du -shc "${debs[@]}" | tail -n 1 | cut -f 1) down," \
    "$(du -sh "$tree.new" | cut -f 1) kept, $(seconds_since "$start")"
  rm -rf "$work"
  mv -T "$tree.new" "$tree"
}

# guest_paths TREE
guest_paths() {
  echo "guest_kernel=$1/vmlinuz"
  echo "guest_kernel_version=$(cat "$1/version")"
  echo "guest_tree=$1/root"
}
