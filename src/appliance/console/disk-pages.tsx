// SPDX-License-Identifier: Apache-2.0
//
// One disk: how it is and why, what lies on it, and what its owner may do about it: retire it, or
// have it used again.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import type { DiskView } from "#appliance/backend.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { FormToken, Live, Notice, State, Table } from "./frame.tsx";
import { diskTone, volumePath } from "./health.ts";
import { partOf, type Reading, readAll, unitName } from "./reading.ts";
import type { Session } from "./sessions.ts";

const PLACE = "/disks";

export function addDiskPages(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const seen = readAll(backend);
    const disk = diskIn(call, seen);
    const words = fault === null ? null : sentenceOf(fault);
    const content = <DiskPage {...{ disk, seen, session, fault: words }} />;
    return desk.show(call, { title: `Disk ${disk.disk}`, place: PLACE, content, fault });
  };
  const doing = (word: "retire" | "return", note: string) => {
    app.post(
      `${PLACE}/:disk/${word}`,
      desk.guarded(async (call, session) => {
        await desk.form(call, session);
        const { disk } = diskIn(call, readAll(backend));
        const fault = await desk.attempt(call, () =>
          word === "retire" ? backend.retireDisk(disk) : backend.returnDisk(disk),
        );
        if (fault !== null) return show(call, session, fault);
        session.note = `Disk ${disk} ${note}.`;
        return desk.lead(call, `${PLACE}/${disk}`);
      }),
    );
  };
  app.get(
    `${PLACE}/:disk`,
    desk.guarded((call, session) => show(call, session, null)),
  );
  doing("retire", "is being retired");
  doing("return", "is taken again");
}

function diskIn(call: Call, seen: Reading): DiskView {
  const word = call.req.param("disk") ?? "";
  const found = seen.disks.find((disk) => disk.disk !== 0 && String(disk.disk) === word);
  if (found === undefined) throw new Fault("notFound", `there is no disk ${word.slice(0, 40)}`);
  return found;
}

function DiskPage(options: {
  disk: DiskView;
  seen: Reading;
  session: Session;
  fault: string | null;
}) {
  const { disk, seen, session, fault } = options;
  const volumes = new Map((seen.volumes ?? []).map((volume) => [volume.volume, volume]));
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Live id="disk">
        <section class="card" aria-labelledby="state">
          <h2 id="state">
            <State tone={diskTone(disk)} words={disk.state} />
          </h2>
          <p>{disk.reason === "" ? "in use by this cluster" : disk.reason}</p>
          <dl>
            {factsOf(disk, seen).map(([word, value]) => (
              <div>
                <dt>{word}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </section>
        <Table
          id="disk-slices"
          caption="Slices on this disk"
          columns={["Volume", "Slice", "Part it plays"]}
          empty="It holds no slice of anything."
          rows={partOf(disk.slices, "1").rows.map(({ slice, volume, state }) => {
            const known = volumes.get(volume);
            const name = known?.name ?? String(volume);
            return [
              known === undefined ? name : <a href={volumePath(known)}>{name}</a>,
              String(slice),
              state,
            ];
          })}
        />
      </Live>
      <DiskAction disk={disk} session={session} />
    </div>
  );
}

function factsOf(disk: DiskView, seen: Reading): [string, string][] {
  return [
    ["Unit", unitName(seen.units, disk.unit)],
    ["Path", disk.path],
    ["Size", `${sizeInWords(disk.sizeBytes)}, ${sizeInWords(disk.freeBytes)} free`],
    ["Slices", String(disk.slices.length)],
    ["Identity", disk.uuid],
  ];
}

/** What its owner may do: one thing at a time. */
function DiskAction({ disk, session }: { disk: DiskView; session: Session }) {
  const isReturn = disk.state === "leaving" || disk.state === "failed";
  const word = isReturn ? "return" : "retire";
  return (
    <section aria-labelledby="action">
      <h2 id="action">{isReturn ? "Use it again" : "Take it out of use"}</h2>
      <p>
        {isReturn
          ? "A disk that failed is opened anew, and what it missed is copied to it; one that is " +
            "being retired keeps what it still holds."
          : "What it holds is copied to other disks first; hosts go on meanwhile. Once it holds " +
            "no slice it can be pulled."}
      </p>
      <form method="post" action={`${PLACE}/${disk.disk}/${word}`} class="card form">
        <FormToken session={session} />
        <p class="actions">
          <button type="submit" class={isReturn ? "" : "danger"}>
            {isReturn ? "Use this disk again" : "Retire this disk"}
          </button>
        </p>
      </form>
    </section>
  );
}
