// SPDX-License-Identifier: Apache-2.0
//
// Dry runs of changes: what is asked goes its whole way to where it would be asked of the control
// station, or done. There the very decision is made on a draft that nobody commits, and its end is
// what the history would say. So a dry run refuses what would be refused, by the same Fault.
//
// Invariant: nothing before that point changes anything (tested for each operation of the API).

import { Draft } from "#cluster/draft.ts";
import { parseArguments } from "#cluster/commands.ts";
import type { CommandArguments, CommandName } from "#cluster/commands.ts";
import { decisions } from "#cluster/station-changes.ts";
import type { ChangeFacts } from "#cluster/station-changes.ts";
import type { ClusterView } from "#cluster/view.ts";
import { asyncContext } from "#machine/async-context.ts";

const dry = asyncContext<true>();

/** The end of a dry run: no failure, and no answer of the operation's own. */
export class DryRunEnd extends Error {
  override name = "DryRunEnd";
  /** What the history would say; empty: nothing would change. */
  readonly sentences: readonly string[];

  constructor(sentences: readonly string[]) {
    super("a dry run came to its end");
    this.sentences = sentences;
  }
}

/** All that `act` calls is a dry run; it ends by a DryRunEnd, or by the Fault of a refusal. */
export function runDry<T>(act: () => Promise<T>): Promise<T> {
  return dry.run(true, act);
}

/** Where something would be done from here on, without the control station. */
export function endDryRun(sentence: string): void {
  if (dry.get() === true) throw new DryRunEnd([sentence]);
}

/** The same where the control station would be asked: it is decided here, as it would be there. */
export function decideDry<N extends CommandName>(
  view: ClusterView,
  name: N,
  args: CommandArguments<N>,
  facts: () => ChangeFacts,
): void {
  if (dry.get() !== true) return;
  const draft = new Draft(view);
  decisions[name](draft, parseArguments(name, args) as never, facts());
  const { sentences } = draft;
  throw new DryRunEnd(sentences.length > 0 || draft.isEmpty ? sentences : ["it would be done"]);
}
