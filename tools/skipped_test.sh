#!/bin/bash
# tools/skipped names what skipped itself, shards and all, and nothing else.
set -euo pipefail

results=$TEST_TMPDIR/testlogs
mkdir -p "$results/guest/boot_test/shard_1_of_2" "$results/guest/boot_test/shard_2_of_2" \
  "$results/proto/frame_test"
cat >"$results/guest/boot_test/shard_1_of_2/test.xml" <<'EOF'
<testcase name="Boots/Kvm" file="x.cc" status="run" result="skipped" classname="BootTest">
  <skipped message="x.cc:1&#x0A;no &quot;/dev/kvm&quot;&#x0A;here"><![CDATA[x.cc:1
no "/dev/kvm" here]]></skipped>
</testcase>
<testcase name="Boots/Tcg" file="x.cc" status="run" result="completed" classname="BootTest" />
EOF
cat >"$results/guest/boot_test/shard_2_of_2/test.xml" <<'EOF'
<testcase name="Reboots/Kvm" status="run" result="skipped" classname="BootTest">
  <skipped message="x.cc:2&#x0A;no &quot;/dev/kvm&quot;&#x0A;here"><![CDATA[]]></skipped>
</testcase>
EOF
cat >"$results/proto/frame_test/test.xml" <<'EOF'
<testcase name="Old" status="run" result="skipped" classname="FrameTest">
  <skipped message="y.cc:1&#x0A;of an older run"><![CDATA[]]></skipped>
</testcase>
EOF
cat >"$TEST_TMPDIR/log" <<'EOF'
//guest:boot_test                                      PASSED in 1.0s
  Stats over 2 runs: max = 1.0s
EOF

expect() {
  diff <(printf '%s\n' "${@:2}") <(tools/skipped "$1" "$results")
}
expect "$TEST_TMPDIR/log" \
  'SKIPPED //guest:boot_test: no "/dev/kvm" here' \
  '        BootTest.Boots/Kvm BootTest.Reboots/Kvm' \
  '2 test cases skipped themselves'
expect "" \
  'SKIPPED //guest:boot_test: no "/dev/kvm" here' \
  '        BootTest.Boots/Kvm BootTest.Reboots/Kvm' \
  'SKIPPED //proto:frame_test: of an older run' \
  '        FrameTest.Old' \
  '3 test cases skipped themselves'
rm -r "$results"
mkdir "$results"
expect "" '0 test cases skipped themselves'
