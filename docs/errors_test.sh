#!/bin/bash
# errors.md has each number that a program can print, once, and no other.
#
#   errors_test.sh DOCUMENT LIST...   the lists name source files, one a line
set -euo pipefail

document=$1
shift
number='BH-[A-Z][0-9]{3}'

# Comments show examples.
printed=$(cat "$@" | sort -u | xargs sed -e 's|//.*||' |
  grep -oE "$number" | sort -u)
described=$(grep -oE "^\| $number \|" "$document" | grep -oE "$number" | sort)

# Else nothing would be compared.
[[ $(wc -l <<<"$printed") -ge 30 ]] || {
  echo "only these numbers are in the sources: $printed"
  exit 1
}
if ! diff <(echo "$described") <(echo "$printed"); then
  echo "< is in $document (perhaps twice), > in the sources"
  exit 1
fi
# A row without a meaning or a remedy.
if grep -E "^\| $number " "$document" |
  awk -F' *[|] *' '{ if (NF != 5 || $3 == "" || $4 == "") { print; bad = 1 } }
                   END { exit !bad }'; then
  echo "rows above do not say what it means and what to do"
  exit 1
fi
