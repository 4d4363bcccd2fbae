// SPDX-License-Identifier: Apache-2.0
//
// One disk: how it is and why, what it tells of itself, what lies on it, and what its owner may do
// about it: find it by its light, retire it, or have it used again.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import type { Backend, DiskView } from "#appliance/backend.ts";
import { driveInWords, smartInWords } from "#appliance/figure-words.ts";
import type { DriveView } from "#appliance/unit-figures.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Form, Live, Notice, State, Table } from "./frame.tsx";
import { claimPath, diskTone, volumePath } from "./health.ts";
import { ifAnswered, partOf, type Reading, readAll, unitName } from "./reading.ts";
import { RemovalPage, nameTyped } from "./removal-form.tsx";
import type { Session } from "./sessions.ts";

const PLACE = "/disks";

export function addDiskPages(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const { neighbours } = backend;
  const show = async (call: Call, session: Session, fault: Fault | null) => {
    const { unit, disk: number } = diskIn(call, backend);
    const figures = await ifAnswered(neighbours.figures(unit));
    const drive = figures?.drives.find((one) => one.disk === number) ?? null;
    const seen = readAll(backend);
    const disk = diskIn(call, backend);
    const words = fault === null ? null : sentenceOf(fault);
    const content = <DiskPage {...{ disk, drive, seen, session, fault: words }} />;
    return desk.show(call, { title: `Disk ${disk.disk}`, place: PLACE, content, fault });
  };
  const doing = (word: "retire" | "return", note: string) => {
    app.post(
      `${PLACE}/:disk/${word}`,
      desk.guarded(async (call, session) => {
        await desk.form(call, session);
        const { disk } = diskIn(call, backend);
        const fault = await desk.attempt(call, () =>
          word === "retire" ? backend.retireDisk(disk) : backend.returnDisk(disk),
        );
        if (fault !== null) return show(call, session, fault);
        session.note = `Disk ${disk} ${note}.`;
        return desk.lead(call, `${PLACE}/${disk}`);
      }),
    );
  };
  addClaim(app, desk);
  app.get(
    `${PLACE}/:disk`,
    desk.guarded((call, session) => show(call, session, null)),
  );
  app.post(
    `${PLACE}/:disk/locate`,
    desk.guarded(async (call, session) => {
      const on = (await desk.form(call, session)).get("off") !== "yes";
      const { disk } = diskIn(call, backend);
      const fault = await desk.attempt(call, () => neighbours.lightDisk(disk, on));
      if (fault !== null) return show(call, session, fault);
      session.note = `The light at disk ${disk} is ${on ? "on" : "off"}.`;
      return desk.lead(call, `${PLACE}/${disk}`);
    }),
  );
  doing("retire", "is being retired");
  doing("return", "is taken again");
}

/** A disk of this unit that was left alone, used by its owner's word all the same. */
function addClaim(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (call: Call, session: Session, path: string, fault: Fault | null) => {
    const disk = backend.disks().find((one) => one.disk === 0 && one.path === path);
    if (disk === undefined) throw new Fault("notFound", `no disk ${path.slice(0, 100)} waits here`);
    const warning =
      `${path} (${sizeInWords(disk.sizeBytes)}) is left alone: ` +
      `${disk.reason.replace(/^left alone: /, "")}. All that is on it is lost.`;
    const content = (
      <RemovalPage
        {...{ noun: "disk", name: path, session, warning }}
        action={claimPath(path)}
        keep={PLACE}
        label="Erase it and use it"
        fault={fault === null ? null : sentenceOf(fault)}
        isCostly
      />
    );
    return desk.show(call, { title: "Use a disk that is not blank", place: PLACE, content, fault });
  };
  const pathIn = (call: Call) => call.req.query("path") ?? "";
  app.get(
    `${PLACE}/claim`,
    desk.guarded((call, session) => show(call, session, pathIn(call), null)),
  );
  app.post(
    `${PLACE}/claim`,
    desk.guarded(async (call, session) => {
      const path = pathIn(call);
      const form = await desk.form(call, session);
      const fault = await desk.attempt(call, async () => {
        nameTyped(form, path);
        await backend.neighbours.eraseDisk(backend.status().unit, path);
      });
      if (fault !== null) return show(call, session, path, fault);
      session.note = `${path} is erased, and comes into use.`;
      return desk.lead(call, PLACE);
    }),
  );
}

function diskIn(call: Call, backend: Pick<Backend, "disks">): DiskView {
  const word = call.req.param("disk") ?? "";
  const found = backend.disks().find((disk) => disk.disk !== 0 && String(disk.disk) === word);
  if (found === undefined) throw new Fault("notFound", `there is no disk ${word.slice(0, 40)}`);
  return found;
}

function DiskPage(options: {
  disk: DiskView;
  /** Null: its unit does not tell. */
  drive: DriveView | null;
  seen: Reading;
  session: Session;
  fault: string | null;
}) {
  const { disk, drive, seen, session, fault } = options;
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
            {[...factsOf(disk, seen), ...driveFacts(drive)].map(([word, value]) => (
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
      {drive === null || drive.light === null ? null : (
        <LightForm disk={disk} isOn={drive.light} session={session} />
      )}
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

function driveFacts(drive: DriveView | null): [string, string][] {
  if (drive === null) return [["Drive", "its unit does not tell at the moment"]];
  return [
    ["Drive", driveInWords(drive)],
    ["Bay", drive.bay ?? "no enclosure tells"],
    ["S.M.A.R.T.", smartInWords(drive)],
  ];
}

function LightForm({ disk, isOn, session }: { disk: DiskView; isOn: boolean; session: Session }) {
  return (
    <section aria-labelledby="light">
      <h2 id="light">Find the drive</h2>
      <Form session={session} action={`${PLACE}/${disk.disk}/locate`} class="card form">
        {isOn ? <input type="hidden" name="off" value="yes" /> : null}
        <p class="actions">
          <button type="submit" class="second">
            {isOn ? "Switch the light at its bay off" : "Switch the light at its bay on"}
          </button>
        </p>
      </Form>
    </section>
  );
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
      <Form session={session} action={`${PLACE}/${disk.disk}/${word}`} class="card form">
        <p class="actions">
          <button type="submit" class={isReturn ? "" : "danger"}>
            {isReturn ? "Use this disk again" : "Retire this disk"}
          </button>
        </p>
      </Form>
    </section>
  );
}
