// SPDX-License-Identifier: Apache-2.0
//
// This unit's etcd: whether it runs, started by which ticket, and whether it votes, so that the
// unit's control proxy may use it before all others.
//
// As a leader of the control store that is slow, or in maintenance, it hands the lead to another
// voter.
//
// R12: what is done with an etcd directory is decided by `voterAct` from what the directory holds
// and from what the control store, read through another voter, says about it.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { StoreMember } from "#cluster/control-store.ts";
import type { ControlProxyClient } from "#cluster/control-proxy.ts";
import type { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { GRAY_LOOK_MS, GrayLeader, parseFigures } from "#cluster/gray-leader.ts";
import { keys, valueText } from "#cluster/state.ts";
import type { VoterRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { voterAct, voterName } from "#cluster/voters.ts";
import type { EtcdCertificates } from "#machine/etcd-certificates.ts";
import { clearEtcdDirectory, etcdDirectoryState } from "#machine/etcd-child.ts";
import type { EtcdChild } from "#machine/etcd-child.ts";

const LOOK_EVERY_MS = 1000;
/** How often it is looked whether a unit in maintenance leads. */
const GOING_LOOK_MS = 2000;
/** An answer to somebody else's request this young spares one of our own: a lease's renewal. */
const VOUCHED_MS_MAX = 1500;
/** Looks in a row at which our own etcd did not answer before another voter is used. */
const FAILED_LOOKS = 3;

export interface VoterParts {
  unit: UnitNumber;
  child: EtcdChild;
  certificates: EtcdCertificates;
  /** Our own etcd. */
  local: EtcdControlStore;
  /** How long ago it last answered what only a voter with a leader can answer, ms. */
  vouchedAgoMs(): number;
  /** This unit's way to the control store. */
  store: ControlProxyClient;
  view: ClusterView;
  /** etcd's members as last read, and what our own counts of itself. */
  members(): readonly StoreMember[];
  metrics(): Promise<string>;
  /** Told when this unit hands the raft lead over, with the reason. */
  handedOver(why: string): void;
}

export class Voter {
  readonly #world: Pick<World, "clock" | "log">;
  readonly #timers: Timers;
  readonly #parts: VoterParts;
  readonly #gray = new GrayLeader();
  #grayAtMs = 0;
  #votes = false;
  #failedLooks = 0;
  #cancel: (() => void) | null = null;
  #stopped = false;

  constructor(world: Pick<World, "clock" | "log">, timers: Timers, parts: VoterParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
  }

  /** Whether this unit's own etcd answers for the cluster. */
  get votes(): boolean {
    return this.#votes;
  }

  start(): void {
    void this.#look();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await this.#parts.child.stop();
  }

  async #look(): Promise<void> {
    try {
      await this.#act();
      await this.#chooseWay();
      await this.#lookAtLead();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("debug", "the voter waits", { reason: error.message });
    }
    if (this.#stopped) return;
    this.#cancel = this.#timers.after(LOOK_EVERY_MS, () => void this.#look());
  }

  async #act(): Promise<void> {
    const { child, view, unit } = this.#parts;
    const local = etcdDirectoryState(child.place.directory);
    // Read through our own etcd it would vouch for itself; before the first reading nothing is
    // known.
    const known = !this.votes && view.revision > 0 && this.#othersVote();
    const act = voterAct(local, known ? (view.voters.get(unit) ?? null) : undefined);
    switch (act.kind) {
      case "none":
        return;
      case "run":
        if (!child.wanted) child.start({ kind: "resume" }, this.#parts.certificates);
        return;
      case "start":
        return this.#startNew(view.voters.get(unit) as VoterRecord);
      case "clear":
        this.#world.log.write("info", "this unit votes no more; its voter's data is cleared");
        await child.stop();
        clearEtcdDirectory(child.place.directory);
        return;
      case "report-lost":
        await this.#mark(view.voters.get(unit) as VoterRecord, "lost");
    }
  }

  #othersVote(): boolean {
    return [...this.#parts.view.voters.keys()].some((unit) => unit !== this.#parts.unit);
  }

  /** The ticket is spent in the control store before the empty directory is started (R12). */
  async #startNew(record: VoterRecord): Promise<void> {
    if (!(await this.#mark(record, "used"))) return;
    this.#world.log.write("info", "this unit starts to keep the control state");
    this.#parts.child.start(
      {
        kind: "first",
        ticket: record.ticket,
        initialCluster: record.initialCluster,
        found: false,
        token: this.#parts.view.cluster?.uuid ?? "",
      },
      this.#parts.certificates,
    );
  }

  async #mark(record: VoterRecord, state: "used" | "lost"): Promise<boolean> {
    const { store, view, unit } = this.#parts;
    const key = keys.voter(unit);
    const { committed } = await store.transaction({
      ifs: [view.compare(key)],
      puts: [{ key, value: valueText({ ...record, state }) }],
    });
    return committed;
  }

  async #chooseWay(): Promise<void> {
    const { store, child, unit } = this.#parts;
    const answers = child.running && (await this.#localAnswers());
    this.#failedLooks = answers ? 0 : this.#failedLooks + 1;
    const votes = answers || (this.#votes && this.#failedLooks < FAILED_LOOKS);
    if (votes === this.#votes) return;
    this.#votes = votes;
    const sentence = votes
      ? "this unit votes in the control store"
      : "this unit's own voter does not answer; others are asked";
    this.#world.log.write("info", sentence, { unit });
    store.votersChanged();
  }

  /** Where our etcd leads and is slow (gray-leader.ts), or goes, another one is to lead. */
  async #lookAtLead(): Promise<void> {
    const nowMs = this.#world.clock.nowMs();
    const { members, metrics, view, unit } = this.#parts;
    const isGoing = view.units.get(unit)?.maintenance !== undefined;
    const everyMs = isGoing ? GOING_LOOK_MS : GRAY_LOOK_MS;
    if (!this.#votes || nowMs - this.#grayAtMs < everyMs) return;
    this.#grayAtMs = nowMs;
    const own = voterName(unit);
    const leads = isGoing || members().some((member) => member.leader && member.name === own);
    // Its counters are a long text: asked for by the leader, or who is not to be it, only.
    const figures = leads ? parseFigures(await metrics()) : null;
    const others = members().filter(({ learner, name }) => !learner && name !== "" && name !== own);
    if (!isGoing) return this.#handLead(this.#gray.look(figures, others, nowMs));
    const heir = others.find(({ name }) => this.#mayLead(name));
    if (figures?.isLeader !== true || heir === undefined) return;
    await this.#handLead({ to: heir.id, why: "it is in maintenance" });
  }

  /** A voter whose unit is up and stays. */
  #mayLead(name: string): boolean {
    const { view } = this.#parts;
    for (const unit of view.units.values()) {
      if (voterName(unit.number) !== name) continue;
      return view.isAlive(unit.number) && unit.maintenance === undefined;
    }
    return false;
  }

  async #handLead(move: { to: string; why: string } | null): Promise<void> {
    if (move === null) return;
    const { to, why } = move;
    const { local } = this.#parts;
    this.#world.log.write("warn", "the lead of the control store is handed over", { to, why });
    await local.moveLeader(to);
    this.#parts.handedOver(why);
  }

  /** A learner answers no linearizable read, so it is not taken for a voter. */
  async #localAnswers(): Promise<boolean> {
    if (this.#votes && this.#parts.vouchedAgoMs() <= VOUCHED_MS_MAX) return true;
    try {
      const { entry } = await this.#parts.local.get(keys.cluster);
      return entry !== null;
    } catch (error) {
      if (error instanceof Fault) return false;
      throw error;
    }
  }
}
