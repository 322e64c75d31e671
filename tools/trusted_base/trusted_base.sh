#!/bin/bash
# Counts the lines of the trusted base: the repository's own files that are
# linked into the launcher and a shim. There are two kinds of shim, and a VM has
# one of them. What makes the jails is counted beside it: it is gone when the
# first program runs in one.
#
#   trusted_base.sh VFIO_USER MPQEMU JAILS             prints the table
#   trusted_base.sh VFIO_USER MPQEMU JAILS DOCUMENT    checks the table in DOCUMENT:
#                   it may state more than there is, up to a tenth, so that not
#                   every change has to touch it
# The first three list files, one a line.
set -euo pipefail

lists=("$1" "$2")
jails=$3
document=${4:-}

# Of the files on stdin: lines, and those without comments and blank lines.
count() {
  while read -r file; do cat "$file"; done |
    awk '{ ++lines }
         !/^[[:space:]]*($|\/\/)/ { ++code }
         END { print lines + 0, code + 0 }'
}

rows() {
  local folder
  cut -d/ -f1 "${lists[@]}" | sort -u | while read -r folder; do
    echo "$folder/" "$(grep "^$folder/" "${lists[0]}" | count)" \
      "$(grep "^$folder/" "${lists[1]}" | count)"
  done | awk '
    { print; for (i = 2; i <= 5; ++i) sum[i] += $i }
    END { print "together", sum[2], sum[3], sum[4], sum[5] }'
  local made
  made=$(grep -vxFf "${lists[0]}" "$jails" | count)
  echo "jails $made $made"
}

table() {
  cat <<'HEAD'
| folder | with the vfio-user shim | of it code | with the x-pci-proxy-dev shim | of it code |
|---|---|---|---|---|
HEAD
  rows | while read -r folder numbers; do
    [[ $folder == */ ]] && folder="\`$folder\`"
    echo "| $folder | ${numbers// / | } |"
  done
}

if [[ -z $document ]]; then
  table
  exit
fi

# The number in column $2 of the row that begins with $1.
stated() {
  awk -F'|' -v row="$1" -v column="$2" '
    { name = $2; gsub(/[ `]/, "", name) }
    name == row && NF == 7 {
      number = $(column + 1)
      gsub(/[ ,]/, "", number)
      print number
    }' "$document" | head -1
}

failed=0
while read -r folder numbers; do
  column=2
  for real in $numbers; do
    claim=$(stated "$folder" $column)
    if [[ -z $claim ]] || ((claim < real || claim > real + real / 10 + 20)); then
      echo "$document says '${claim:-nothing}' of $folder in column $column, and it is $real"
      failed=1
    fi
    ((++column))
  done
done < <(rows)

if ((failed)); then
  echo "the table as it is now:"
  table
fi
exit $failed
