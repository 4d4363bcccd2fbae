// SPDX-License-Identifier: Apache-2.0
//
// Who leads the control store's etcd, seen and moved through the JSON gateway of the voters
// themselves (https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/, maintenance service).

import path from "node:path";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NotYet } from "./until.ts";

const ANSWER_MS = 3_000;
const MOVE_MS = 20_000;

interface Status {
  memberId: string;
  leaderId: string;
}

async function ask(unit: LabUnit, route: string, body: object): Promise<Record<string, unknown>> {
  const answer = await fetch(`http://localhost/v3/maintenance/${route}`, {
    unix: path.join(unit.stateFolder, "etcd", "client.sock"),
    method: "POST",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  if (!answer.ok) throw new NotYet(`etcd of ${unit.name}: ${await answer.text()}`);
  return (await answer.json()) as Record<string, unknown>;
}

/** Null: it runs no voter, or one that does not answer now. */
async function statusOf(unit: LabUnit): Promise<Status | null> {
  try {
    const { header, leader } = (await ask(unit, "status", {})) as {
      header?: { member_id?: string };
      leader?: string;
    };
    return { memberId: header?.member_id ?? "", leaderId: leader ?? "" };
  } catch {
    return null; // its socket is not there, or nobody answers on it
  }
}

/** The unit whose etcd leads. */
export async function etcdLeader(lab: Lab): Promise<LabUnit> {
  for (const unit of lab.running) {
    const status = await statusOf(unit);
    if (status !== null && status.memberId !== "" && status.memberId === status.leaderId) {
      return unit;
    }
  }
  throw new NotYet("no etcd leads at the moment");
}

/** Makes the unit's etcd lead. */
export async function moveEtcdLead(lab: Lab, target: LabUnit): Promise<void> {
  const look = async () => {
    const leader = await etcdLeader(lab);
    if (leader === target) return true;
    const status = await statusOf(target);
    if (status === null) throw new NotYet(`${target.name} runs no voter`);
    await ask(leader, "transfer-leadership", { targetID: status.memberId });
    throw new NotYet(`asked ${leader.name} to hand over to ${target.name}`);
  };
  await lab.until(`etcd of ${target.name} leads`, look, MOVE_MS);
}
