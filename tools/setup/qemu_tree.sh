# shellcheck shell=bash disable=SC2034,SC2154  # variables of setup
# A QEMU with vfio-user-pci (10.1 or newer). Sourced.

readonly qemu_oldest=10.1
# Raised whenever the tree's content changes.
readonly qemu_recipe=1

# installed_qemu_version: of the system's qemu-system-x86_64, or nothing.
installed_qemu_version() {
  command -v qemu-system-x86_64 >/dev/null || return 0
  qemu-system-x86_64 --version 2>/dev/null |
    sed -n '1s/.*version \([0-9][0-9.]*\).*/\1/p'
}

# at_least VERSION WANTED
at_least() {
  [[ -n $1 && $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# packaged_qemu_is_new: whether the distribution's own package is new enough.
packaged_qemu_is_new() {
  local candidate
  candidate=$(LC_ALL=C apt-cache policy qemu-system-x86 2>/dev/null |
    sed -n 's/^ *Candidate: //p')
  candidate=${candidate#*:}
  at_least "${candidate%%[^0-9.]*}" "$qemu_oldest"
}

# newer_suites: the suites of the same archive that have such a QEMU, one
# "release suite..." a line, best first.
newer_suites() {
  case $os_id in
    debian) echo "trixie-backports trixie trixie-updates trixie-backports" ;;
    ubuntu)
      echo "resolute resolute resolute-updates"
      echo "questing questing questing-updates"
      ;;
  esac
}

# download_newer_qemu DIR URI TARGET SUITE...: the closure of QEMU's packages
# into DIR/cache/archives; fails when the suite is not there or too old.
download_newer_qemu() {
  local dir=$1 uri=$2 target=$3 components=main suite
  shift 3
  if [[ $os_id == ubuntu ]]; then components="main universe"; fi
  for suite in "$@"; do
    echo "deb $(archive_keyring) $uri $suite $components"
  done >"$dir/sources.list"
  private_apt "$dir" "$dir/sources.list"
  run_apt "QEMU: package lists" "$setup_log" \
    apt-get -c "$dir/apt.conf" update -q || return 1
  run_apt "QEMU" "$setup_log" \
    apt-get -c "$dir/apt.conf" install -y -q --download-only -t "$target" \
    qemu-system-x86 seabios ovmf || return 1
  compgen -G "$dir/cache/archives/qemu-system-x86_*.deb" >/dev/null
}

# make_qemu_tree TREE: TREE/root is the root, TREE/version its version.
make_qemu_tree() {
  local tree=$1 start=$SECONDS uri line work=$1.work
  say "QEMU: the system's has no vfio-user-pci (QEMU >= $qemu_oldest); making a" \
    "private tree"
  uri=$(archive_uri)
  if [[ -z $uri ]]; then
    refresh_lists
    uri=$(archive_uri)
  fi
  [[ -n $uri ]] || die "apt's sources name no '$os_codename' archive"

  local suites found=''
  while read -r line; do
    read -ra suites <<<"$line"
    rm -rf "$work"
    mkdir -p "$work"
    if download_newer_qemu "$work" "$uri" "${suites[@]}"; then
      found=1
      break
    fi
  done < <(newer_suites)
  [[ -n $found ]] || die \
    "no QEMU >= $qemu_oldest among the newer suites of $uri" \
    "see $setup_log, or install such a QEMU as qemu-system-x86_64"

  local debs=("$work"/cache/archives/*.deb)
  unpack_debs "QEMU" "$tree.new/root" "${debs[@]}"
  # What a jail's root needs as mount points, and nothing else.
  mkdir -p "$tree.new/root"/{dev,proc,sys,tmp,run,etc}
  local version
  version=$(dpkg-deb -f "$work"/cache/archives/qemu-system-x86_*.deb Version)
  version=${version#*:}
  echo "${version%%[^0-9.]*}" >"$tree.new/version"
  check_qemu_tree "$tree.new/root"
  progress_end "QEMU $(cat "$tree.new/version"): ${#debs[@]} packages," \
    "$(du -shc "${debs[@]}" | tail -n 1 | cut -f 1) down," \
    "$(du -sh "$tree.new" | cut -f 1) unpacked, $(seconds_since "$start")"
  rm -rf "$work"
  mv -T "$tree.new" "$tree"
}

# check_qemu_tree ROOT: that it starts and has the device, where the system lets
# us enter another root.
check_qemu_tree() {
  local enter=(unshare --user --map-root-user --mount --root="$1")
  if ((EUID == 0)); then enter=(chroot "$1"); fi
  if ! "${enter[@]}" /usr/bin/true 2>/dev/null &&
    ! "${enter[@]}" /usr/bin/qemu-system-x86_64 --version >/dev/null 2>&1; then
    say "warning: cannot enter the QEMU tree to try it (user namespaces?)"
    return
  fi
  "${enter[@]}" /usr/bin/qemu-system-x86_64 -device help 2>>"$setup_log" |
    grep -q vfio-user-pci ||
    die "the unpacked QEMU has no vfio-user-pci; see $setup_log"
}

# first_file ROOT PATH...: the first that exists below ROOT, or nothing.
first_file() {
  local root=$1 path
  shift
  for path in "$@"; do
    if [[ -e $root$path ]]; then
      echo "$path"
      return
    fi
  done
}

# qemu_paths ROOT VERSION: the lines for the paths file; ROOT is empty for the
# system's own QEMU.
qemu_paths() {
  local root=$1 version=$2 program=/usr/bin/qemu-system-x86_64
  if [[ -z $root ]]; then program=$(command -v qemu-system-x86_64 || true); fi
  echo "qemu_root=$root"
  echo "qemu=$program"
  echo "qemu_version=$version"
  echo "ovmf_code=$(first_file "$root" /usr/share/OVMF/OVMF_CODE_4M.fd \
    /usr/share/OVMF/OVMF_CODE.fd)"
  echo "ovmf_vars=$(first_file "$root" /usr/share/OVMF/OVMF_VARS_4M.fd \
    /usr/share/OVMF/OVMF_VARS.fd)"
  echo "system_qemu=$(command -v qemu-system-x86_64 || true)"
  echo "system_qemu_version=$(installed_qemu_version)"
}
