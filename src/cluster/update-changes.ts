// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides when it is asked about updates: an update is announced, a roll
// is started or stopped. What happens in a roll is update-roll.ts.

import { Fault } from "#base/fault.ts";
import { compareVersions } from "#base/release.ts";
import type { CommandArguments } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { keys } from "./state.ts";
import { parseManifest } from "./update-manifest.ts";
import { updatePlan } from "./update-plan.ts";
import type { KnownVoters } from "./update-plan.ts";
import { beginRoll, stopRoll } from "./update-roll.ts";
import type { UpdateRecord } from "./update-state.ts";

/** A unit holds a payload whose signature it has checked; others will check it again. */
export function announceUpdate(
  draft: Draft,
  args: CommandArguments<"announceUpdate">,
): Record<string, never> {
  const { view } = draft;
  const known = view.update;
  if (known?.state === "rolling" && known.digest !== args.digest) {
    throw new Fault("conflict", `the update to version ${known.version} is rolling; stop it first`);
  }
  // Said again, by a unit that has fetched it as well or was told to load it once more.
  if (known?.digest === args.digest) return {};
  const { version } = parseManifest(args.manifest);
  const sentence = `version ${version} is loaded and can be started`;
  const next: UpdateRecord = {
    ...args,
    version,
    state: "loaded",
    attempt: (known?.attempt ?? 0) + 1,
    accept: false,
    downgrade: false,
    only: null,
    current: null,
    done: [],
    sentence,
  };
  draft.put(keys.update, next);
  draft.tell({ kind: "update-loaded", severity: "info", sentence });
  return {};
}

/** Throws Fault notFitting with the reasons, or with what the owner has to accept. */
export function startUpdate(
  draft: Draft,
  args: CommandArguments<"startUpdate">,
  voters: KnownVoters,
): Record<string, never> {
  const update = wanted(draft, args.version);
  if (update.state === "rolling") {
    throw new Fault("conflict", `the update to version ${update.version} is rolling already`);
  }
  const { accept, downgrade, only } = args;
  const plan = updatePlan(draft.view, { ...update, downgrade, only }, voters);
  if (plan.refusals.length > 0) throw new Fault("notFitting", plan.refusals.join("; "));
  if (plan.consequences.length > 0 && !accept) {
    throw new Fault(
      "notFitting",
      `say yes to accept that ${plan.consequences.join("; and that ")}`,
    );
  }
  beginRoll(draft, update, { accept, downgrade, only });
  return {};
}

export function stopUpdate(draft: Draft): Record<string, never> {
  const { update } = draft.view;
  if (update?.state !== "rolling") return {}; // it has stopped or ended by itself: what was wanted
  stopRoll(draft, update, "it was told to");
  return {};
}

function wanted(draft: Draft, version: string | null): UpdateRecord {
  const { update } = draft.view;
  if (update === null) throw new Fault("notFound", "no update is loaded; load one first");
  if (version !== null && compareVersions(version, update.version) !== 0) {
    throw new Fault("notFound", `version ${update.version} is loaded, not ${version}`);
  }
  return update;
}
