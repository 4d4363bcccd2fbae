// SPDX-License-Identifier: Apache-2.0
//
// Commands of the way to a booted box: what the image's units call before the daemon runs.

import { applianceStart, fromHere, MEDIUM_FLAG, PLACE_FLAGS } from "./appliance-places.ts";
import { type Command, OUTPUT_FLAG } from "./command.ts";

const NETWORKD_DIRECTORY = "/run/systemd/network";
const HOST_NAME_FILE = "/proc/sys/kernel/hostname";

const network: Command = {
  words: ["appliance", "network"],
  operands: [],
  flags: [
    OUTPUT_FLAG,
    MEDIUM_FLAG,
    ...PLACE_FLAGS,
    {
      name: "state-directory",
      kind: "path",
      value: "DIRECTORY",
      sentence: "the unit's state directory",
    },
    {
      name: "networkd-directory",
      kind: "path",
      value: "DIRECTORY",
      sentence: `where systemd-networkd reads its files, usually ${NETWORKD_DIRECTORY}`,
    },
    {
      name: "host-name-file",
      kind: "path",
      value: "FILE",
      sentence: `where the kernel takes its host name, usually ${HOST_NAME_FILE}`,
    },
  ],
  sentence: "set up this box's network by its boot medium, before systemd-networkd starts",
  run: async (call) => {
    const at = (name: string, usual: string) => fromHere(call, call.flags.word(name) ?? usual);
    const found = await call.machine.setUpNetwork({
      ...applianceStart(call),
      networkdDirectory: at("networkd-directory", NETWORKD_DIRECTORY),
      hostNameFile: at("host-name-file", HOST_NAME_FILE),
    });
    await call.print(found, () => {
      const fixed = found.fixed === 0 ? "" : `, fixed addresses on ${found.fixed} interfaces`;
      return `${found.hostName}: DHCP, else link-local${fixed}\n`;
    });
    if (found.wrong !== null) await call.note(found.wrong);
    return 0;
  },
};

export const bootCommands: readonly Command[] = [network];
