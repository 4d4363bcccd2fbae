// SPDX-License-Identifier: Apache-2.0
//
// The port scan sees what is there: on this machine's own loopback, and in tables as kernels print
// them. A scan that sees nothing would pass every box.

import { describe, expect, test } from "bun:test";
import { knockAtAll, listeningFrom } from "./port-scan.ts";

const TABLES = `==tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1D38 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1
   1: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1
   2: 010212C6:1D38 FE0212C6:D431 01 00000000:00000000 00:00000000 00000000     0        0 9 1
==tcp6
   0: 00000000000000000000000000000000:2A39 00000000000000000000000000000000:0000 0A 0:0 00:0 0
   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0
==udp
   9: 010212C6:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   100        0 10 2
==udp6
   3: 000080FE00000000FF12CA02010100FE:0222 00000000000000000000000000000000:0000 07 0:0 00:0 0
==raw6
  58: 00000000000000000000000000000000:003A 00000000000000000000000000000000:0000 07 0:0 00:0 0
`;

describe("the kernel's tables", () => {
  test("listening and not on loopback → told, each once; connections are none", () => {
    expect(listeningFrom(TABLES)).toEqual({
      ports: [
        { protocol: "tcp", port: 7480 },
        { protocol: "tcp", port: 10809 },
        { protocol: "udp", port: 68 },
        { protocol: "udp", port: 546 },
      ],
      raw: 1,
    });
  });
});

test("knocking at all ports → finds the one that is open, and not the one that was", async () => {
  const listen = () => Bun.listen({ hostname: "127.0.77.1", port: 0, socket: { data() {} } });
  using server = listen();
  const gone = listen();
  gone.stop();
  // Whatever else this machine offers on all its addresses is found as well.
  const { open, silent } = await knockAtAll("127.0.77.1");
  expect(open).toContain(server.port);
  expect(open).not.toContain(gone.port);
  expect(silent).toEqual([]);
});
