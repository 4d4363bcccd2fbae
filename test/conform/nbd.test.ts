// SPDX-License-Identifier: Apache-2.0
//
// NBD conformance: the same checks against qemu-nbd, which judges the suite, and against our own
// servers.

import { afterAll, beforeAll, describe, setDefaultTimeout } from "bun:test";
import { copyChecks, fioChecks, nbdinfoChecks, qemuIoChecks } from "./nbd-clients.ts";
import { extendedChecks } from "./nbd-extended.ts";
import {
  connectionChecks,
  errorChecks,
  handshakeChecks,
  optionChecks,
  transmissionChecks,
} from "./nbd-protocol.ts";
import { passingChecks, shellChecks } from "./nbd-shells.ts";
import type { Server } from "./servers.ts";
import { givenServer, memoryServer, qemuServer, requirePrograms } from "./servers.ts";
import { unitInBand, unitOnFile, unitOnLoopDevice } from "./unit-servers.ts";

const VOLUME_BYTES = 64 << 20;

setDefaultTimeout(60_000);
requirePrograms();

function conforms(name: string, start: () => Promise<Server>): void {
  describe(name, () => {
    let server: Server;
    const facts = () => server.facts;
    beforeAll(async () => {
      server = await start();
    });
    afterAll(async () => {
      await server[Symbol.asyncDispose]();
    });
    nbdinfoChecks(facts);
    handshakeChecks(facts);
    optionChecks(facts);
    errorChecks(facts);
    transmissionChecks(facts);
    connectionChecks(facts);
    qemuIoChecks(facts);
    copyChecks(facts);
    fioChecks(facts);
    extendedChecks(facts);
    shellChecks(facts);
    passingChecks(facts);
  });
}

conforms("qemu-nbd, to judge the suite", () => qemuServer(VOLUME_BYTES, { newer: false }));
conforms("a newer qemu-nbd, to judge it too", () => qemuServer(VOLUME_BYTES, { newer: true }));
conforms("session and reactor over memory", () => memoryServer(VOLUME_BYTES));
conforms("a unit, its disk a file", () => unitOnFile(VOLUME_BYTES));
conforms("a unit, its disk a loop device", () => unitOnLoopDevice(VOLUME_BYTES));
conforms("a unit that is not the head, mirror-2", () => unitInBand(VOLUME_BYTES));

const given = process.env["CAIRN_CONFORM_URI"];
if (given !== undefined) conforms("the server given", () => givenServer(given));
