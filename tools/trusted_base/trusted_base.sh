#!/bin/bash
# Counts the lines of the trusted base: the repository's own files that are
# linked into the launcher and the shim.
#
#   trusted_base.sh SOURCES             prints the table
#   trusted_base.sh SOURCES DOCUMENT    checks the table in DOCUMENT: it may
#                                       state more than there is, up to a tenth,
#                                       so that not every change has to touch it
set -euo pipefail

sources=$1
document=${2:-}

# "FOLDER LINES CODE", one a folder; CODE is without comments and blank lines.
count() {
  local folder file
  cut -d/ -f1 "$sources" | sort -u | while read -r folder; do
    grep "^$folder/" "$sources" | while read -r file; do cat "$file"; done |
      awk -v folder="$folder" '
        { lines++ }
        !/^[[:space:]]*($|\/\/)/ { code++ }
        END { print folder, lines, code }'
  done
}

table() {
  echo '| folder | lines | without comments and blank lines |'
  echo '|---|---|---|'
  count | awk '
    { printf "| `%s/` | %d | %d |\n", $1, $2, $3; lines += $2; code += $3 }
    END { printf "| together | %d | %d |\n", lines, code }'
}

if [[ -z $document ]]; then
  table
  exit
fi

# The number in column $2 of the row that begins with $1.
stated() {
  awk -F'|' -v row="$1" -v column="$2" '
    { name = $2; gsub(/[ `]/, "", name) }
    name == row { number = $column; gsub(/[ ,]/, "", number); print number }' \
    "$document" | head -1
}

failed=0
check() {  # ROW COLUMN REAL
  local claim
  claim=$(stated "$1" "$2")
  if [[ -z $claim ]] || ((claim < $3)) || ((claim > $3 + $3 / 10 + 20)); then
    echo "$document says '${claim:-nothing}' of $1, and it is $3"
    failed=1
  fi
}

while read -r name lines code; do
  check "$name" 3 "$lines"
  check "$name" 4 "$code"
done < <(table | awk -F'|' 'NR > 2 { gsub(/[ `]/, ""); print $2, $3, $4 }')

if ((failed)); then
  echo "the table as it is now:"
  table
fi
exit $failed
