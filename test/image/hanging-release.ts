// SPDX-License-Identifier: Apache-2.0
//
// A release that stands still, each time it is tried in another way: PID 1 stops, then the kernel,
// then the daemon. The first two only the hardware watchdog ends, which gets less patience here
// than in the image: its three minutes would be waited for.

import type { ChangedFiles } from "./next-release.ts";

/** What the box's console says just before PID 1 stops, and before the kernel does. */
export const HANG_WORDS = {
  pidOne: "cairn-test: PID 1 stops now",
  kernel: "cairn-test: the kernel stops now",
} as const;

const WATCHDOG_SECONDS = 45;
const UNIT = "cairn-test-hang.service";

/**
 * Counts starts on the state partition, durably, before each stop. A frozen init.scope is a PID 1
 * that runs no instruction; a panic without a restart is a kernel that does nothing any more.
 */
const SCRIPT = `#!/bin/sh
set -eu
mark=/var/lib/cairn-test-hang
if [ ! -e $mark-1 ]; then
  : >$mark-1
  sync
  echo "${HANG_WORDS.pidOne}" >/dev/console
  echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze
elif [ ! -e $mark-2 ]; then
  : >$mark-2
  sync
  echo "${HANG_WORDS.kernel}" >/dev/console
  echo 0 >/proc/sys/kernel/panic
  echo c >/proc/sysrq-trigger
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
  "etc/systemd/system/sysinit.target.d/90-hang.conf": `[Unit]
Wants=${UNIT}
`,
  // The daemon hangs from its start; its health is not waited for as long as a real one's.
  "etc/systemd/system/cairn.service.d/90-broken.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n",
  "etc/systemd/system/cairn-healthy.service.d/90-impatient.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/cairn health --wait 20\n",
};
