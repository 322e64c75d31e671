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

# run_apt LABEL LOG [as_root] apt-get ARGUMENT...: shows apt's progress and keeps
# its words in LOG. apt closes the descriptor that it reports on for what it
# starts, so that cannot be stdout; and sudo passes on none beyond stderr, so it
# is made on the other side.
run_apt() {
  local label=$1 log=$2
  shift 2
  local prefix=() status=0
  if [[ $1 == as_root ]]; then
    prefix=(as_root)
    shift
  fi
  {
    # shellcheck disable=SC2016  # the inner shell's arguments
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive \
      sh -c 'exec 3>&1 >&2; exec "$@"' sh \
      "$@" -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 2>>"$log" </dev/null ||
      echo "failed:$?"
  } | {
    # "pmstatus:PACKAGE[:ARCHITECTURE]:PERCENT:what"
    local line failed=0
    local -r status_line='^(dl|pm)status:[^:]+(:[a-z0-9]+)?:([0-9]+)(\.[0-9]+)?:'
    while IFS= read -r line; do
      if [[ $line =~ $status_line ]]; then
        case ${BASH_REMATCH[1]} in
          dl) progress "$label: downloading" "${BASH_REMATCH[3]}" ;;
          pm) progress "$label: installing" "${BASH_REMATCH[3]}" ;;
        esac
      elif [[ $line == failed:* ]]; then
        failed=1
      fi
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
