// SPDX-License-Identifier: Apache-2.0
//
// Control pipes over real sockets on the loopback: who gets through, what the caller is told when
// it does not, and how a pipe ends on both sides.

import { afterEach, expect, test } from "bun:test";
import { createSeal } from "#machine/seal.ts";
import { createTimers } from "#machine/timers.ts";
import { createClock } from "#machine/clock.ts";
import { Fault } from "#base/fault.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { connectControl, listenControl } from "#machine/control-socket.ts";
import type { ControlListener } from "#machine/control-socket.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState, unitIdOf } from "#protocol/peer-channel/identity.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { answerUnit, callUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";

const seal = createSeal();
const SECRET = new Uint8Array(32).fill(3);
const CLUSTER = new Uint8Array(16).fill(4);

function identity(unitNumber: number): OwnIdentity {
  const { publicKey, privateKey } = seal.ed25519KeyPair();
  return {
    unitId: unitIdOf(seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: seal.x25519KeyPair(),
    clusterId: CLUSTER,
    clusterState: ClusterState.used,
    unitNumber,
    featureLevel: 1,
  };
}

function unformed(): OwnIdentity {
  const none = { clusterId: new Uint8Array(16), clusterState: ClusterState.none };
  return { ...identity(0), ...none };
}

const world = { clock: createClock(), seal };

function security(own: OwnIdentity, more: Partial<PipeSecurity> = {}): PipeSecurity {
  const timers = createTimers();
  return { timers, own: () => own, preSharedKey: SECRET, authenticate: () => null, ...more };
}

interface Meeting {
  pipe: MessagePipe;
  peer: PeerIdentity;
}

/** A unit that listens, and whom it met. */
class Answerer {
  readonly own = identity(1);
  readonly met: Meeting[] = [];
  readonly received: unknown[] = [];
  readonly closed: string[] = [];
  readonly logged: string[] = [];
  readonly listener: ControlListener;
  #changed: () => void = () => {};

  constructor(more: Partial<PipeSecurity> = {}) {
    const logging = {
      ...world,
      log: {
        write: (_level: string, sentence: string, facts?: Record<string, unknown>) => {
          this.logged.push(`${sentence} ${JSON.stringify(facts)}`);
          this.#changed();
        },
      },
    };
    const made = security(this.own, more);
    this.listener = listenControl({ address: "127.0.0.1", port: 0 }, (socket) =>
      answerUnit(logging, made, socket, (pipe, peer) => {
        this.met.push({ pipe, peer });
        pipe.onMessage = (message) => {
          this.received.push(message);
          pipe.send({ echo: message });
          this.#changed();
        };
        pipe.onClose = (reason) => {
          this.closed.push(reason);
          this.#changed();
        };
      }),
    );
    open.push(this.listener);
  }

  /** By a unit of no cluster that asks to join. */
  async call(
    more: Partial<PipeSecurity> = {},
    unitId: Uint8Array | null = null,
  ): Promise<MessagePipe> {
    const to = { address: "127.0.0.1", port: this.listener.port, purpose: Purpose.join, unitId };
    const { pipe, peer } = await callUnit(world, security(unformed(), more), to);
    expect(peer.unitId).toEqual(this.own.unitId);
    return pipe;
  }
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

const open: ControlListener[] = [];
afterEach(() => {
  for (const listener of open.splice(0)) listener.close();
});

function nextMessage(pipe: MessagePipe): Promise<unknown> {
  return new Promise((resolve, reject) => {
    pipe.onMessage = resolve;
    pipe.onClose = (reason) => reject(new Error(reason));
  });
}

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("the call got through");
}

test("the same secret → messages both ways, each knows who the other is", async () => {
  const answerer = new Answerer();
  const pipe = await answerer.call({}, answerer.own.unitId);
  for (const message of [{ kind: "join" }, { text: "x".repeat(200_000) }]) {
    pipe.send(message);
    expect(await nextMessage(pipe)).toEqual({ echo: message });
  }
  expect(answerer.met[0]?.peer).toMatchObject({ unitNumber: 0, purpose: Purpose.join });
  pipe.close("done");
  await answerer.until(() => answerer.closed.length > 0);
  expect(answerer.closed).toHaveLength(1);
});

test("the answerer closes → the caller's onClose comes, once", async () => {
  const answerer = new Answerer();
  const pipe = await answerer.call();
  const ended = new Promise<string>((resolve) => {
    pipe.onClose = resolve;
  });
  answerer.met[0]?.pipe.close("enough");
  expect(await ended).not.toBe("");
  expect(pipe.send({})).toBe(false);
});

test("another secret → notAuthentic, never opened, a reason in the other's log", async () => {
  const answerer = new Answerer();
  const fault = await faultOf(answerer.call({ preSharedKey: new Uint8Array(32).fill(9) }));
  expect(fault.code).toBe("notAuthentic");
  await answerer.until(() => answerer.logged.length > 0);
  expect([answerer.met.length, answerer.logged[0]]).toEqual([
    0,
    expect.stringContaining("was refused"),
  ]);
});

test("a proved answerer refuses → forbidden, with its sentence", async () => {
  const answerer = new Answerer({ authenticate: () => "this unit was removed" });
  const fault = await faultOf(answerer.call());
  expect(fault.code).toBe("forbidden");
  expect(fault.message).toContain("this unit was removed");
  expect(answerer.met).toEqual([]);
});

test("a proved answerer says that the caller was removed → a fault of its own", async () => {
  const why = { code: "removed", sentence: "removed by its owner" } as const;
  const answerer = new Answerer({ authenticate: () => why });
  const fault = await faultOf(answerer.call());
  expect([fault.code, fault.message.includes(why.sentence)]).toEqual(["removed", true]);
  // Said by the caller of whom it called, it means nothing for itself.
  const unwanted = await faultOf(new Answerer().call({ authenticate: () => why }));
  expect(unwanted.code).toBe("notAuthentic");
});

test("the caller refuses whom it reached → notAuthentic: nobody who matters said no", async () => {
  const answerer = new Answerer();
  const elsewhere = await faultOf(answerer.call({}, identity(1).unitId));
  expect(elsewhere.code).toBe("notAuthentic");
  const unwanted = await faultOf(answerer.call({ authenticate: () => "not that one" }));
  expect(unwanted.code).toBe("notAuthentic");
  expect(unwanted.message).toContain("not that one");
  expect(answerer.met).toEqual([]);
});

test("nobody listens → notReady; it hangs up in the handshake → notAuthentic", async () => {
  const gone = listenControl({ address: "127.0.0.1", port: 0 }, () => {});
  const { port } = gone;
  gone.close();
  const to = { address: "127.0.0.1", port, purpose: Purpose.join, unitId: null };
  expect((await faultOf(callUnit(world, security(unformed()), to))).code).toBe("notReady");
  const rude = listenControl({ address: "127.0.0.1", port: 0 }, (socket) => {
    socket.onBytes = () => socket.close();
  });
  open.push(rude);
  const there = { ...to, port: rude.port };
  const fault = await faultOf(callUnit(world, security(unformed()), there));
  expect(fault.code).toBe("notAuthentic");
});

test("garbage and hang-ups → refused and logged; the next call gets through", async () => {
  const answerer = new Answerer();
  for (const bytes of [Buffer.from("GET / HTTP/1.1\r\n\r\n"), Buffer.alloc(3000, 0xfe)]) {
    const logged = answerer.logged.length;
    const socket = await connectControl("127.0.0.1", answerer.listener.port);
    socket.send(bytes);
    await answerer.until(() => answerer.logged.length > logged);
  }
  const silent = await connectControl("127.0.0.1", answerer.listener.port);
  const logged = answerer.logged.length;
  silent.close();
  await answerer.until(() => answerer.logged.length > logged);
  const pipe = await answerer.call();
  pipe.send({ still: "there" });
  expect(await nextMessage(pipe)).toEqual({ echo: { still: "there" } });
  pipe.close("done");
});

test("a call for a lane → not offered on the control port", async () => {
  const answerer = new Answerer();
  const caller = security(identity(2));
  const to = {
    ...{ address: "127.0.0.1", port: answerer.listener.port },
    ...{ purpose: Purpose.dataLane, unitId: null },
  };
  await faultOf(callUnit(world, caller, to));
  expect(answerer.met).toEqual([]);
});
