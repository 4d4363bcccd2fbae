// SPDX-License-Identifier: Apache-2.0
//
// A release that fails each time it is tried in another way: the kernel stands still, a unit that
// the boot needs fails, the daemon stands still. The first only the hardware watchdog ends, which
// gets less patience here than in the image: its three minutes would be waited for.

import type { ChangedFiles } from "./next-release.ts";

const KERNEL_STOPS = "cairn-test: the kernel stops now";
/** What the box's console says of the first start, and of the second. */
export const HANG_WORDS: readonly RegExp[] = [
  new RegExp(KERNEL_STOPS),
  /Cairn: this boot failed\. Restarting/,
];

const WATCHDOG_SECONDS = 45;
const UNIT = "cairn-test-hang.service";

/**
 * Counts its starts on the state partition, durably. A panic without a restart is a kernel that
 * does nothing any more, and a boot without its file systems is one that failed.
 */
const SCRIPT = `#!/bin/sh
set -eu
mark=/var/lib/cairn-test-hang
if [ ! -e $mark-1 ]; then
  : >$mark-1
  sync
  echo "${KERNEL_STOPS}" >/dev/console
  echo 0 >/proc/sys/kernel/panic
  echo c >/proc/sysrq-trigger
elif [ ! -e $mark-2 ]; then
  : >$mark-2
  sync
  exit 1
fi
`;

export const HANGING: ChangedFiles = {
  "etc/systemd/system.conf.d/90-impatient.conf": `[Manager]
RuntimeWatchdogSec=${WATCHDOG_SECONDS}
`,
  "usr/lib/cairn/test-hang": SCRIPT,
  [`etc/systemd/system/${UNIT}`]: `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /usr/lib/cairn/test-hang
`,
  "etc/systemd/system/local-fs.target.d/90-hang.conf": `[Unit]
Requires=${UNIT}
After=${UNIT}
`,
  // The daemon hangs from its start; its health is not waited for as long as a real one's.
  "etc/systemd/system/cairn.service.d/90-broken.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n",
  "etc/systemd/system/cairn-healthy.service.d/90-impatient.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/cairn health --wait 20\n",
};
