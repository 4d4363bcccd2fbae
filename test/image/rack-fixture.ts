// SPDX-License-Identifier: Apache-2.0
//
// A process that makes a rack with a box that is on, and then waits to be ended, for rack.test.ts:
// prints the rack's folder, then its number.

import { Rack } from "./rack.ts";

const rack = new Rack();
const box = rack.add({ memoryMegabytes: 256 });
await box.powerOn();
process.stdout.write(`${rack.folder}\n${rack.record.number}\n`);
setInterval(() => rack.checkOpen(), 1000);
