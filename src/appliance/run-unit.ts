// SPDX-License-Identifier: Apache-2.0
//
// Composition root of the daemon: what touches the process (Worker, signals, the embedded etcd, the
// end) and the unit that runs by it. `cairn unit` comes here.

import etcdArchive from "#embedded/etcd.zst" with { type: "file" };
import { hostByToken } from "#cluster/host-state.ts";
import { tokensOf } from "#cluster/user-state.ts";
import { ActorScope } from "#machine/actor-scope.ts";
import { ApplianceBox } from "#machine/appliance-box.ts";
import { createTimers } from "#machine/timers.ts";
import { createMainWorld } from "#machine/main-world.ts";
import { isClockKept, setWallClock } from "#machine/clock-setting.ts";
import { ControlEnd } from "#machine/control-channel.ts";
import { unpackEtcd } from "#machine/etcd-child.ts";
import { collectNowAndThen, protectBundle } from "#machine/idle-memory.ts";
import { listNetworkCards } from "#machine/network-cards.ts";
import { createPasswords } from "#machine/passwords.ts";
import { checkMachine } from "#machine/machine-check.ts";
import { listenHttp } from "#machine/http-listener.ts";
import { endWhenWrong, untilSignal } from "#machine/process-signals.ts";
import { machineKernel, machineMemory } from "#machine/load.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { TlsEnd } from "#machine/tls-channel.ts";
import type { TlsFiles } from "#machine/tls-files.ts";
import type { WriteLaneSeed } from "#machine/write-lane.ts";
import { SyslogSocket } from "#machine/syslog-socket.ts";
import { createLog } from "#machine/log.ts";
import { parseSyslogTarget } from "#cluster/syslog-target.ts";
import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { ApplianceRole } from "./appliance-disks.ts";
import { createApi } from "./api/api.ts";
import { SOCKET_FILE, TOKEN_FILE, serveApi } from "./api/serve.ts";
import type { ServedApi } from "./api/serve.ts";
import { Credentials } from "./console/credentials.ts";
import { Sessions, signedIn } from "./console/sessions.ts";
import { mediumSentence } from "./boot-medium.ts";
import type { Configuration, ReadText } from "./configuration.ts";
import { findSettings, report } from "./run-appliance.ts";
import type { ApplianceStart } from "./run-appliance.ts";
import { startGroupAddress } from "./unit-group.ts";
import { SharedLog, SyslogOut } from "./syslog.ts";
import { NbdTls } from "./nbd-tls.ts";
import { authorityOf, issueForHost, startWebTls, tlsPortOnly } from "./unit-web-tls.ts";
import { UnitBackend } from "./unit-backend.ts";
import { UnitBox } from "./unit-box.ts";
import { UnitNeighbours } from "./unit-neighbours.ts";
import { startTimeServers } from "./time-servers.ts";
import { startUpdates } from "./unit-updates.ts";
import type { UnitUpdates } from "./unit-updates.ts";
import { makeUnit } from "./make-unit.ts";
import type { Unit } from "./unit.ts";
import type { ReactorStart, UnitOutside } from "./unit-parts.ts";

const TOKEN_BYTES = 32;

/** Runs a unit until it is told to stop (SIGTERM, SIGINT); resolves after its orderly stop. */
export async function runUnit(
  configuration: Configuration,
  appliance: ApplianceRole | null = null,
): Promise<void> {
  const found = checkMachine();
  const log = new SharedLog(createLog({ least: configuration.logLevel }));
  const world = createMainWorld({ log });
  world.log.write("info", "this unit starts", found);
  const fatal = endWhenWrong(world.log);
  let lacks: (fault: Fault) => void = () => {};
  const lacking = (fault: Fault) => lacks(fault);
  const failedStart = new Promise<never>((_, reject) => {
    lacks = reject;
  });
  const tls = await startTls(configuration, fatal);
  const actors = new ActorScope();
  const outside: UnitOutside = {
    world,
    tls,
    timers: createTimers(),
    actors,
    machine: { cores: machineKernel().cores, memoryBytes: machineMemory().sizeBytes },
    startReactor: (options) => startReactor(options, fatal, lacking),
    unpackEtcd: async (directory) =>
      unpackEtcd(etcdArchive, directory, await Bun.file(etcdArchive).bytes()),
    fatal,
    appliance,
  };
  const told = untilSignal({ terminal: false });
  let isTold = false;
  void told.then(() => {
    isTold = true;
  });
  protectBundle();
  collectNowAndThen();
  // A unit whose cluster gave way to another ends its run and begins anew.
  while (!isTold) {
    const unit = await Promise.race([makeUnit(configuration, outside), failedStart]);
    lacks = fatal; // a reactor that starts later
    const updates = startUpdates(unit, world, outside.timers);
    const box = unitBox(unit, outside);
    const neighbours = new UnitNeighbours(world, unit, { timers: outside.timers, box });
    const api = serve(unit, world, outside, { ...updates, neighbours, actors });
    await unit.start();
    const syslog = startSyslog(unit, world, outside.timers);
    log.also = (level, sentence, facts) => syslog.log(level, sentence, facts);
    const group = startGroupAddress(unit, world, outside.timers);
    const noTime = startTimeServers({
      ...{ log: world.log, timers: outside.timers, box: new ApplianceBox() },
      wanted: () => unit.life?.follower.view.settings.timeServers,
    });
    const web = startWebTls(unit, world, outside.timers, { api, nbd: tls });
    const reason = await Promise.race([told, unit.ended]);
    updates.stop();
    neighbours.stop();
    await box.stop();
    syslog.stop();
    noTime();
    await group.stop();
    web.stop();
    await unit.stop(reason);
    await api.stop();
  }
  tls.close();
}

function unitBox({ state }: Unit, { world, timers, appliance }: UnitOutside): UnitBox {
  return new UnitBox(world, {
    ...{ timers, state, box: new ApplianceBox(), cards: listNetworkCards },
    clock: { isKept: isClockKept, set: setWallClock },
    said: async () => (await appliance?.network(state)) ?? [],
  });
}

function startSyslog(unit: Unit, world: World, timers: Timers): SyslogOut {
  const socket = new SyslogSocket();
  const view = () => unit.life?.follower.view ?? null;
  return new SyslogOut({
    timers,
    wallMs: () => world.clock.wallMs(),
    target: () => {
      const target = view()?.settings.syslogTarget ?? null;
      return target === null ? null : parseSyslogTarget(target);
    },
    host: () => unit.name,
    leads: () => unit.life?.lease.leads === true,
    newest: () => (view()?.numbers?.event ?? 1) - 1,
    events: (since) =>
      [...(view()?.events.values() ?? [])]
        .filter(({ number }) => number > since)
        .sort((one, other) => one.number - other.number),
    send: (line, to) => socket.send(line, to),
  });
}

/** It runs already where a certificate is configured. */
async function startTls(
  { tls, logLevel }: Configuration,
  fatal: (error: unknown) => void,
): Promise<NbdTls> {
  const start = (files: TlsFiles | null) => {
    const worker = new Worker(new URL("./tls-main.ts", import.meta.url).href);
    worker.onerror = (event) => fatal(event.error ?? event.message);
    return TlsEnd.start(worker, files, logLevel);
  };
  const { certificateFile, keyFile, clientAuthorityFile } = tls;
  const isConfigured = certificateFile !== null && keyFile !== null;
  const files = isConfigured ? { certificateFile, keyFile, clientAuthorityFile } : null;
  return new NbdTls(files === null ? null : await start(files), () => start(null));
}

/** `cairn unit --appliance`: what it runs by comes from its box. */
export async function runApplianceUnit(
  start: ApplianceStart,
  disksIn: string | null,
  readText: ReadText,
): Promise<void> {
  const { places } = start;
  checkMachine();
  const state = new StateDirectory(places.stateDirectory);
  const found = await findSettings(start, state, readText).finally(() => state.close());
  const world = createMainWorld({ logLeast: found.configuration.logLevel });
  report(world, places, found);
  const bootFolders = [places.stateDirectory, places.esp, "/", "/usr"];
  await runUnit(found.configuration, {
    search: { bootFolders, linksIn: disksIn },
    wrongMedium: found.wrong === null ? null : mediumSentence(found.wrong),
    network: async (own) => (await findSettings(start, own, readText)).said,
  });
}

function startReactor(
  options: ReactorStart,
  fatal: (error: unknown) => void,
  lacking: (fault: Fault) => void,
) {
  const worker = new Worker(new URL("./reactor-main.ts", import.meta.url).href);
  worker.onmessage = (event: { data: string | WriteLaneSeed }) => {
    // Before it blocks: the kernel lacks what the reactor needs. Later: a thread is wanted.
    if (typeof event.data === "string") lacking(new Fault("badMachine", event.data));
    else startWriter(event.data, fatal);
  };
  worker.onerror = (event) => fatal(event.error ?? event.message);
  const control = new ControlEnd(worker, options);
  control.onReactorSilent = () => fatal("a reactor is silent");
  return control;
}

/** It lives as long as the reactor. */
function startWriter(seed: WriteLaneSeed, fatal: (error: unknown) => void): void {
  const worker = new Worker(new URL("./writer-main.ts", import.meta.url).href);
  worker.onerror = (event) => fatal(event.error ?? event.message);
  worker.unref();
  worker.postMessage(seed);
}

function serve(
  unit: Unit,
  world: World,
  outside: UnitOutside,
  made: Pick<UnitUpdates, "health" | "update"> & {
    neighbours: UnitNeighbours;
    actors: ActorScope;
  },
): ServedApi {
  const { timers } = outside;
  const authority = () => authorityOf(unit, world);
  const issue = (name: string) => issueForHost(unit, world, name);
  const parts = { ...made, timers, authority, issue, passwords: createPasswords() };
  const backend = new UnitBackend(world, unit, parts);
  const { apiAddress } = unit.configuration;
  const port = unit.ports.api ?? 0;
  const tokens = {
    seal: world.seal,
    token: loadToken(unit, world),
    unitName: unit.name,
    tokens: () => {
      const view = unit.life?.follower.view;
      return view === undefined ? [] : [...tokensOf(view).values()];
    },
  };
  const credentials = new Credentials(backend.users, tokens);
  const sessions = new Sessions(world, (credential) => credentials.whose(credential));
  const { actors } = made;
  const api = createApi(backend, { world, timers, sessions, credentials, actors });
  const served = serveApi(api, {
    ...tokens,
    listen: listenHttp,
    log: world.log,
    socketPath: unit.state.pathOf(SOCKET_FILE),
    tcp: apiAddress === null ? null : { address: apiAddress, port },
    hostOf: (tokenHash) => {
      const view = unit.life?.follower.view;
      return view === undefined ? null : (hostByToken(view, tokenHash)?.number ?? null);
    },
    signedIn: (request) => signedIn(sessions, request),
    tlsPortOnly: () => tlsPortOnly(unit),
    names: () => [unit.name, `${unit.name}.local`],
    fatal: outside.fatal,
  });
  if (served.port !== null) unit.ports.api = served.port;
  return served;
}

function loadToken(unit: Unit, world: World): string {
  const kept = unit.state.readText(TOKEN_FILE)?.trim();
  if (kept !== undefined) return kept;
  const bytes = new Uint8Array(TOKEN_BYTES);
  world.random.fill(bytes);
  const token = bytes.toHex();
  unit.state.write(TOKEN_FILE, `${token}\n`);
  return token;
}
