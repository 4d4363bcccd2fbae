// SPDX-License-Identifier: Apache-2.0
//
// What the console is told about updates and may ask: this unit's own from its agent, the cluster's
// from the view; changes are commands to the control station.

import { Fault } from "#base/fault.ts";
import { unitNameOf, updateOrder, updatePlan } from "#cluster/update-plan.ts";
import { UPDATE_SETTINGS_DEFAULT } from "#cluster/update-state.ts";
import type { UpdateRecord } from "#cluster/update-state.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { AgentCluster, UpdateAgent } from "./update-agent.ts";
import type {
  UpdateBackend,
  UpdatePlanView,
  UpdateRollView,
  UpdateStart,
  UpdateStatusView,
  UpdateUnitView,
  UploadState,
} from "./update-backend.ts";

/**
 * Outside a trial nobody changes a slot but the agent, which looks by itself then; and each look
 * mounts the ESP, which a power cut should find at rest.
 */
const SLOTS_EVERY_MS = 3600_000;

export class UpdateConsole implements UpdateBackend {
  readonly #agent: UpdateAgent;

  constructor(agent: UpdateAgent) {
    this.#agent = agent;
  }

  status(): UpdateStatusView {
    const agent = this.#agent;
    agent.refreshSlots(SLOTS_EVERY_MS);
    const { cluster, failed } = agent;
    const settings = cluster?.view.settings.update ?? UPDATE_SETTINGS_DEFAULT;
    const { window } = settings;
    return {
      appliance: agent.isAppliance,
      version: agent.version,
      trial: agent.isOnTrial,
      slots: agent.slots.map(({ version, state, running, tries }) => {
        return { version, state, running, triesLeft: tries?.left ?? null };
      }),
      holds: agent.payloads.kept?.manifest.version ?? null,
      work: this.#workView(),
      sentence: agent.sentence,
      failed: failed === null ? null : { code: failed.code, message: failed.message },
      roll: cluster === null ? null : rollView(cluster),
      units: cluster === null ? [] : unitViews(cluster.view),
      automatic: {
        auto: settings.auto,
        window: window === null ? null : { from: window.from, to: window.to },
      },
    };
  }

  #workView(): UpdateStatusView["work"] {
    const { doing, payloads, unannounced } = this.#agent;
    const { progress } = payloads;
    const { doneBytes, totalBytes } = progress ?? { doneBytes: 0, totalBytes: 0 };
    if (doing !== null) return { sentence: doing, doneBytes, totalBytes };
    if (progress !== null) {
      return { sentence: `takes the files of version ${progress.version}`, doneBytes, totalBytes };
    }
    // Whoever starts the update as soon as it is loaded must not be told that there is none.
    if (unannounced === null) return null;
    return { sentence: `tells the cluster of version ${unannounced}`, doneBytes, totalBytes };
  }

  async load(place: string): Promise<void> {
    this.#agent.load(place);
  }

  async beginUpload(signed: { manifest: string; signature: string }): Promise<UploadState> {
    const { payloads } = this.#agent;
    const paper = { text: signed.manifest, signature: signed.signature };
    this.#agent.checkLoad(payloads.open(paper));
    return this.#announced(await payloads.beginUpload(paper));
  }

  async uploadPiece(name: string, offsetBytes: number, piece: Uint8Array): Promise<UploadState> {
    return this.#announced(await this.#agent.payloads.uploadPiece(name, offsetBytes, piece));
  }

  #announced(state: UploadState): UploadState {
    const { kept } = this.#agent.payloads;
    if (state.wants === null && kept !== null) this.#agent.loaded(kept);
    return state;
  }

  plan(start: UpdateStart): UpdatePlanView {
    const { view, voters } = this.#cluster();
    const update = wanted(view, start.version);
    const { only, downgrade } = start;
    const plan = updatePlan(view, { ...update, only, downgrade }, voters);
    return {
      version: update.version,
      order: plan.order.map((unit) => ({ unit, name: unitNameOf(view, unit) })),
      consequences: plan.consequences,
      refusals: plan.refusals,
    };
  }

  async start(start: UpdateStart): Promise<void> {
    const { version, accept, downgrade, only } = start;
    await this.#cluster().commands.ask("startUpdate", { version, accept, downgrade, only });
  }

  async stop(): Promise<void> {
    await this.#cluster().commands.ask("stopUpdate", {});
  }

  async startAlone(options: { downgrade: boolean }): Promise<void> {
    this.#agent.updateAlone(options);
  }

  async setAutomatic(settings: UpdateStatusView["automatic"]): Promise<void> {
    await this.#cluster().commands.ask("setSettings", { update: settings });
  }

  #cluster(): AgentCluster {
    const { cluster } = this.#agent;
    if (cluster === null) {
      throw new Fault("notReady", "this unit is in no cluster yet; it can be updated alone");
    }
    return cluster;
  }
}

function wanted(view: ClusterView, version: string | null): UpdateRecord {
  const { update } = view;
  if (update === null) throw new Fault("notFound", "no update is loaded; load one first");
  if (version === null || version === update.version) return update;
  throw new Fault("notFound", `version ${update.version} is loaded, not ${version}`);
}

function rollView({ view, voters }: AgentCluster): UpdateRollView | null {
  const { update } = view;
  if (update === null) return null;
  const { version, state, sentence, current, done } = update;
  return {
    version,
    state,
    sentence,
    current:
      current === null
        ? null
        : { unit: current.unit, name: unitNameOf(view, current.unit), phase: current.phase },
    done,
    waiting: updateOrder(view, update, voters).filter((unit) => unit !== current?.unit),
  };
}

function unitViews(view: ClusterView): UpdateUnitView[] {
  const digest = view.update?.digest;
  return [...view.units.values()]
    .filter((unit) => unit.state === "admitted")
    .sort((one, other) => one.number - other.number)
    .map((unit) => {
      const report = view.unitUpdates.get(unit.number);
      const task = report?.task?.digest === digest ? report?.task : null;
      return {
        unit: unit.number,
        name: unit.name,
        alive: view.isAlive(unit.number),
        version: report?.version ?? unit.version,
        appliance: report?.appliance ?? false,
        trial: report?.trial ?? false,
        holds: digest !== undefined && report?.holds === digest,
        sentence:
          task === null || task === undefined ? "" : `${task.state} ${task.sentence}`.trim(),
      };
    });
}
