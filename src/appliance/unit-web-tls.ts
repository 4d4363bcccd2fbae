// SPDX-License-Identifier: Apache-2.0
//
// Pages and API of a unit over TLS, and its hosts' connections: with the certificate that its owner
// gave it, else with one of the cluster's own authority, made for the names and addresses that it
// has at the moment and made anew when those change, or in time before it ends.

import { Fault } from "#base/fault.ts";
import type { Seal, Timers, World } from "#base/world.ts";
import { readTlsFiles, tlsFilesMark } from "#machine/tls-files.ts";
import {
  issueHostCertificate,
  issueWebCertificate,
  webAuthority,
} from "#machine/web-certificates.ts";
import type { AuthorityOptions, WebAuthority } from "#machine/web-certificates.ts";
import { type NbdTls, hasHostCertificates, wantsTls } from "./nbd-tls.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import type { ServedApi } from "./api/serve.ts";
import type { Unit } from "./unit.ts";

const LOOK_MS = 2000;
/** A certificate is issued anew so often. */
const FRESH_MS = 30 * 86_400_000;
const ALWAYS_OURS = ["cairn.local", "localhost", "127.0.0.1", "::1"];

/** The cluster's own authority; null: this unit is in no cluster, or has no secret of it. */
export function authorityOf(unit: Unit, { seal }: World): WebAuthority | null {
  const options = authorityOptions(unit, seal);
  return options === null ? null : webAuthority(options);
}

function authorityOptions(unit: Unit, seal: Seal): AuthorityOptions | null {
  const { life, configuration } = unit;
  if (life === null || configuration.joinSecret === null) return null;
  const { certificates } = joinKeys(seal, configuration.joinSecret);
  return { clusterSecret: certificates, clusterUuid: life.clusterId };
}

/** A certificate for a host to show; null: this unit cannot issue any. */
export function issueForHost(unit: Unit, world: World, name: string) {
  const options = authorityOptions(unit, world.seal);
  if (options === null) return null;
  const made = issueHostCertificate(options, { name, nowMs: world.clock.wallMs() });
  return { made, authority: webAuthority(options).pem };
}

/** Where plain requests are led; null: they are answered. */
export function tlsPortOnly(unit: Unit): number | null {
  const isWanted = unit.life?.follower.view.settings.httpsOnly === true;
  return isWanted && canSecure(unit) ? (unit.ports.apiTls ?? null) : null;
}

/** Never led where nothing can answer. */
function canSecure(unit: Unit): boolean {
  const { life, configuration } = unit;
  if (configuration.tls.certificateFile !== null) return true;
  return life !== null && configuration.joinSecret !== null;
}

interface Wish {
  /** Another one means that another certificate is to be shown. */
  mark: string;
  make(): { cert: string; key: string };
}

export function startWebTls(
  unit: Unit,
  world: World,
  timers: Timers,
  served: { api: Pick<ServedApi, "secure">; nbd: NbdTls },
): { stop(): void } {
  const { api, nbd } = served;
  const { apiAddress } = unit.configuration;
  let shown = "";
  let given = "";
  let complaint = "";
  let cancel = () => {};
  let isStopped = false;
  const look = async (address: string): Promise<void> => {
    const wish = wishOf(unit, world);
    if (wish.mark === shown) return;
    shown = wish.mark;
    const { cert, key } = wish.make();
    const port = await api.secure({ address, port: unit.ports.apiTls ?? 0, tls: { cert, key } });
    if (port !== null) unit.ports.apiTls = port;
    complaint = "";
  };
  /** Hosts' connections: what the cluster has for them, once they want it. */
  const give = async (): Promise<void> => {
    const view = unit.life?.follower.view;
    const options = authorityOptions(unit, world.seal);
    if (view === undefined || options === null) return;
    if (!nbd.isThere && !wantsTls(view)) return;
    const wish = clusterWish(unit, world);
    const isAsked = hasHostCertificates(view);
    const mark = `${wish.mark} ${isAsked}`;
    if (mark === given) return;
    given = mark;
    const authority = isAsked ? webAuthority(options).pem : null;
    await nbd.setCluster({ authority, pair: wish.make() });
    unit.reactor.send({ kind: "tls", isThere: true });
  };
  const round = async (address: string | null): Promise<void> => {
    try {
      if (address !== null && canSecure(unit)) await look(address);
      await give();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      shown = ""; // tried again
      given = "";
      if (error.message !== complaint) {
        world.log.write("warn", "TLS cannot be served", { reason: error.message });
      }
      complaint = error.message;
    }
    if (!isStopped) cancel = timers.after(LOOK_MS, () => void round(address));
  };
  void round(apiAddress);
  return {
    stop: () => {
      isStopped = true;
      cancel();
    },
  };
}

function wishOf(unit: Unit, world: World): Wish {
  const { certificateFile, keyFile } = unit.configuration.tls;
  if (certificateFile !== null && keyFile !== null) {
    const files = { certificateFile, keyFile, clientAuthorityFile: null };
    return {
      mark: tlsFilesMark(files),
      make: () => {
        const { cert = "", key = "" } = readTlsFiles(files);
        return { cert, key };
      },
    };
  }
  return clusterWish(unit, world);
}

/** Of the cluster's own authority. */
function clusterWish(unit: Unit, world: World): Wish {
  const nowMs = world.clock.wallMs();
  const names = namesOf(unit);
  return {
    mark: JSON.stringify([unit.life?.clusterId, names, Math.floor(nowMs / FRESH_MS)]),
    make: () => {
      const options = authorityOptions(unit, world.seal);
      if (options === null) throw new Fault("notReady", "this unit is in no cluster");
      return issueWebCertificate(options, { name: unit.name, names, nowMs });
    },
  };
}

/** What people and programs may ask it by. */
function namesOf(unit: Unit): string[] {
  const view = unit.life?.follower.view;
  const own = view?.units.get(unit.life?.unit ?? 0);
  const group = view?.settings.groupAddress ?? null;
  const names = [
    ...[unit.name, `${unit.name}.local`, ...ALWAYS_OURS],
    ...(own === undefined ? [] : [...own.addresses, own.ula]),
    ...(group === null ? [] : [group]),
  ];
  // An address of a link alone is told with its link, which no certificate knows.
  return [...new Set(names.filter((name) => !name.includes("%")))].sort();
}
