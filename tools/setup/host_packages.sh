# shellcheck shell=bash disable=SC2034,SC2154  # variables of setup
# The system packages: which are missing, and their installation. Sourced.

# listed_packages FILE: the names in a package list.
listed_packages() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

# missing_packages NAME...: those that are not installed.
missing_packages() {
  local name status
  local -A installed=()
  while read -r name status; do
    if [[ $status == ii* ]]; then installed[$name]=1; fi
  done < <(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' "$@" \
    2>/dev/null)
  for name in "$@"; do
    if [[ -z ${installed[$name]:-} ]]; then echo "$name"; fi
  done
}

# refresh_lists: apt-get update on the system, at most once in a run.
lists_refreshed=''
refresh_lists() {
  if [[ -n $lists_refreshed ]]; then return; fi
  say "apt-get update"
  as_root apt-get update -qq >>"$setup_log" 2>&1 ||
    say "warning: apt-get update reported errors (see $setup_log)"
  lists_refreshed=1
}

# install_packages NAME...
install_packages() {
  local start=$SECONDS unknown=() name
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    die "these packages are missing, and there is no sudo to install them with:" \
      "$*" "as root: apt-get install $*"
  fi
  say "installing ${#} system packages: $*"
  refresh_lists
  for name in "$@"; do
    if ! apt-cache show "$name" >/dev/null 2>&1; then unknown+=("$name"); fi
  done
  if ((${#unknown[@]})); then
    die "apt knows no package named: ${unknown[*]}" \
      "on Ubuntu they are in 'universe': sudo add-apt-repository universe"
  fi
  run_apt "packages" "$setup_log" as_root \
    apt-get install -y -q --no-install-recommends "$@" || {
    tail -n 15 "$setup_log" >&2
    die "apt-get install failed; the whole log is $setup_log"
  }
  say "installed, $(seconds_since "$start")"
}

# explain_foreign_system: what is missing where there is no apt; changes nothing.
explain_foreign_system() {
  local missing=() module tool
  for tool in bazel g++ pkg-config protoc qemu-system-x86_64 qemu-img cpio; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  # Without pkg-config there is no telling, so all are named.
  while read -r module; do
    pkg-config --exists "$module" 2>/dev/null || missing+=("$module.pc")
  done < <(sed -n 's/^ *"[a-z_]*": ("\([a-z0-9_-]*\)", "lib.*/\1/p' \
    "$setup_dir/../../build/system_libs.bzl")
  say "this system is ${os_name}; set-up can install for Debian and Ubuntu only"
  if ((${#missing[@]})); then
    die "please install these yourself (static libraries where possible):" \
      "${missing[@]}" \
      "QEMU must be 10.1 or newer; the demo guest needs Debian or Ubuntu"
  fi
}
