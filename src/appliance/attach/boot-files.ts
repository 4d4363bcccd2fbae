// SPDX-License-Identifier: Apache-2.0
//
// `cairn host attach --install`: the systemd unit that attaches a volume at every boot
// (systemd.service(5)), and the udev rule by which mounts may wait for its device
// (systemd.device(5), udev(7)).
//
// The volume is attached before remote file systems are mounted and detached after they are gone;
// a device that is still in use is never taken away.

import type { BootFiles } from "#machine/host-places.ts";

/** Where a volume's device is to be found by its name. */
export const DEVICE_FOLDER = "/dev/cairn";

export function unitNameOf(volume: string): string {
  return `cairn-host-${volume}.service`;
}

/** `command`: the executable and its words, by absolute paths. */
export function bootFiles(volume: string, command: readonly string[]): BootFiles {
  return {
    unitName: unitNameOf(volume),
    unitText: [
      "# Written by cairn host attach --install; cairn host detach removes it.",
      "[Unit]",
      `Description=Cairn volume ${volume}`,
      "Wants=network-online.target",
      "After=network-online.target",
      "Before=remote-fs-pre.target",
      "Wants=remote-fs-pre.target",
      "StartLimitIntervalSec=0",
      "",
      "[Service]",
      "Type=notify",
      "NotifyAccess=all",
      `ExecStart=${command.map(quoted).join(" ")}`,
      "Restart=always",
      "RestartSec=2",
      "# Until a unit answers it tries again; a boot goes on after this.",
      "TimeoutStartSec=90",
      "",
      "[Install]",
      "WantedBy=multi-user.target",
      "",
    ].join("\n"),
    ruleName: "70-cairn-host.rules",
    // The mark is cairn:UUID:NAME; a name has no colon and nothing that a path could mind.
    ruleText: [
      "# Written by cairn host attach --install: links by the volumes' names.",
      'SUBSYSTEM!="block", GOTO="cairn_end"',
      'KERNEL!="nbd*[0-9]", GOTO="cairn_end"',
      'ATTR{backend}!="cairn:*", GOTO="cairn_end"',
      `PROGRAM="/bin/sh -c 'sed s/^cairn:[^:]*:// /sys/class/block/%k/backend'", ` +
        'SYMLINK+="cairn/%c", TAG+="systemd"',
      'LABEL="cairn_end"',
      "",
    ].join("\n"),
  };
}

/** A word of ExecStart: quoted, with nothing that systemd would replace. */
function quoted(word: string): string {
  const plain = word
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replaceAll("%", "%%")
    .replaceAll("$", "$$$$");
  return `"${plain}"`;
}
