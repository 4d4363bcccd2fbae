// SPDX-License-Identifier: Apache-2.0
//
// Opens a keepsake, writes into it, and dies at once: as a daemon killed with -9 does.

import { openKeepsake } from "./keepsake-memory.ts";

const [directory = "", name = "", value = "0"] = process.argv.slice(2);
openKeepsake({ directory, name }).fill(Number(value), 100, 200);
process.kill(process.pid, "SIGKILL");
