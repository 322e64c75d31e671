# shellcheck shell=bash
# Messages, progress and root rights for the set-up scripts. Sourced.

say() { printf 'bulkhead: %s\n' "$*" >&2; }

die() {
  printf 'bulkhead: error: %s\n' "$1" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# progress LABEL PERCENT: one line that moves on a terminal, and elsewhere a
# line every ten per cent.
progress_last=''
progress() {
  local label=$1 percent=$2
  if [[ -t 2 ]]; then
    printf '\rbulkhead: %-52s %3d%%' "$label" "$percent" >&2
  elif [[ $progress_last != "$label $((percent / 10))" ]]; then
    printf 'bulkhead: %s %d%%\n' "$label" "$percent" >&2
  fi
  progress_last="$label $((percent / 10))"
}

progress_end() {
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  say "$*"
}

# run_apt LABEL LOG COMMAND...: runs an apt-get command that reports its status
# on stdout (APT::Status-Fd=1), shows its progress, and keeps the rest in LOG.
run_apt() {
  local label=$1 log=$2
  shift 2
  local status=0
  {
    "$@" -o APT::Status-Fd=1 -o Dpkg::Use-Pty=0 2>>"$log" </dev/null ||
      echo "failed:$?"
  } | {
    local kind percent failed=0
    while IFS=: read -r kind _ percent _; do
      case $kind in
        dlstatus) progress "$label: downloading" "${percent%%.*}" ;;
        pmstatus) progress "$label: installing" "${percent%%.*}" ;;
        failed) failed=1 ;;
        *) ;;
      esac
    done
    exit "$failed"
  } || status=1
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  return "$status"
}

# as_root COMMAND...: directly, or through sudo.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    return 127
  fi
}

# seconds_since START, where START is an earlier $SECONDS.
seconds_since() { printf '%ds' $((SECONDS - $1)); }
