#!/bin/bash
# tools/new_device, on a copy of what it reads: the new folder is whole, names
# nothing of the example, and is never made over something that is there.
set -euo pipefail

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

tree=$TEST_TMPDIR/tree
mkdir -p "$tree"/{tools,services,policy}
cp -L tools/new_device "$tree/tools/"
cp -rL services/example "$tree/services/"
cp -L policy/example.textproto "$tree/policy/"

"$tree/tools/new_device" sea_chest >/dev/null || fail "it does not run"
made=$tree/services/sea_chest
for file in services/example/*; do
  [[ -s $made/$(basename "$file") ]] || fail "no $(basename "$file")"
done
if grep -rniE 'example' "$made" "$tree/policy/sea_chest.textproto"; then
  fail "the example is still named"
fi
grep -q 'policy::SeaChest()' "$made/main.cc" || fail "the policy's function"
grep -q 'BULKHEAD_SERVICES_SEA_CHEST_DEVICE_H_' "$made/device.h" ||
  fail "the include guard"
grep -q '^name: "sea_chest"' "$tree/policy/sea_chest.textproto" ||
  fail "the policy's name"

if "$tree/tools/new_device" sea_chest 2>/dev/null; then fail "made twice"; fi
for bad in Sea_chest sea-chest ../sea '' 'a b'; do
  if "$tree/tools/new_device" "$bad" 2>/dev/null; then fail "took '$bad'"; fi
done
echo PASSED
