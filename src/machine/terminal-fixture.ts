// SPDX-License-Identifier: Apache-2.0
//
// A process that takes over its terminal, says what it finds and which bytes it is sent, and ends
// in the way it is told: for terminal.test.ts.

import { createLog } from "./log.ts";
import { endWhenWrong, untilSignal } from "./process-signals.ts";
import { Terminal } from "./terminal.ts";

const [path = "", way = ""] = process.argv.slice(2);
endWhenWrong(createLog());
const terminal = new Terminal(path === "" ? null : path);
terminal.takeOver("FAREWELL");
terminal.onResize = () => terminal.write(`resized ${JSON.stringify(terminal.size())}\r\n`);
terminal.onEnd = () => process.exit(0);
terminal.onInput = (bytes) => {
  terminal.write(`got ${Buffer.from(bytes).toString("hex")}\r\n`);
  if (!bytes.includes(0x71)) return;
  if (way === "exit") process.exit(3);
  if (way === "throw") throw new Error("thrown on purpose");
  terminal.restore();
  process.exit(0);
};
const told = untilSignal({ terminal: true });
terminal.write(`ready ${terminal.kind} ${JSON.stringify(terminal.size())}\r\n`);
await told;
terminal.restore();
process.exit(4);
