// SPDX-License-Identifier: Apache-2.0
//
// What an owner must decide, in plain words: a question, and for each answer how it is given and
// what it loses. Pure: read from a view. What the cluster decides by itself is not asked; what is
// asked waits for as long as it takes, and loses nothing meanwhile.

import type { SliceRecord } from "#base/record.ts";
import { diskInWords } from "./disk-changes.ts";
import { evacuationOf } from "./evacuation.ts";
import { otherClusters } from "./events.ts";
import { goOnOffer, isStopped, keptSentence, keptVolumes } from "./lineages.ts";
import { bytesInWords } from "./placement.ts";
import type { DiskRecord, VolumeRecord } from "./state.ts";
import { gathered, holdsNothing, waitingSlices } from "./restored-changes.ts";
import { missingDisks, settledRecord, strangerDisks } from "./restored-slices.ts";
import { hasRoomFor } from "./upkeep.ts";
import type { ClusterView } from "./view.ts";

/** More are not shown at once: the first ones are the worst. */
const QUESTIONS_MAX = 32;
/** Places named in one question. */
const PLACES_MAX = 4;
/** Slices of one volume that are looked at for room. */
const LOOKED_AT_MAX = 32;

export interface Answer {
  /** What to do; a command where there is one. */
  answer: string;
  /** What it loses, or that it loses nothing. */
  costs: string;
}

export interface Question {
  /** Of what: a disk, a volume, a unit. */
  about: string;
  sentence: string;
  answers: Answer[];
}

/** The worst first. */
export function questionsOf(view: ClusterView, wallMs: number): Question[] {
  const volumes = ready(view);
  const unsound = volumes.filter((volume) => !isSound(view, volume));
  const found = [
    ...gathering(view),
    ...unsettled(view, volumes),
    ...stopped(view, unsound),
    ...failed(view),
    ...roomless(view, unsound),
    ...stuck(view, wallMs),
    ...keptCopies(view, unsound),
    ...others(view),
  ];
  return found.slice(0, QUESTIONS_MAX);
}

function ready(view: ClusterView): VolumeRecord[] {
  // What is deleted, and can be taken back, is nothing to decide about.
  return [...view.volumes.values()].filter((volume) => {
    return volume.state === "ready" && volume.trash === undefined;
  });
}

/** Whether every slice has all its copies, none with its memory lost, and nothing kept besides. */
function isSound(view: ClusterView, volume: VolumeRecord): boolean {
  return volume.slices.every((slice) => {
    const record = view.slices.get(slice);
    if (record === undefined) return true;
    const { inSync, copies, kept } = record;
    if (inSync.length < copies || (kept?.length ?? 0) > 0) return false;
    return inSync.every(({ disk, incarnation }) => {
      return view.diskServes(disk) && view.disks.get(disk)?.incarnation === incarnation;
    });
  });
}

/** After a rebuild: whether all disks are there that are left. */
function gathering(view: ClusterView): Question[] {
  if (view.cluster?.gathering !== true) return [];
  const { told, telling } = gathered(view);
  const named = [...view.restored.values()].flatMap(missingDisks);
  const missing = [...new Set(named)].filter((disk) => !told.includes(disk));
  const shown = missing.slice(0, PLACES_MAX).map((disk) => diskInWords(view, disk));
  const more = missing.length > PLACES_MAX ? ` and ${missing.length - PLACES_MAX} more` : "";
  const expected = missing.length === 0 ? "" : `; they name ${shown.join(" and ")}${more} besides`;
  const yet = telling.length === 0 ? "" : ` (${telling.length} more about to)`;
  const count = told.length === 1 ? "1 disk has" : `${told.length} disks have`;
  return [
    {
      about: "the control state",
      sentence:
        `the control state is being rebuilt: ${count} told what they hold${yet}${expected}. ` +
        "Is any other disk or unit of this cluster left that can be brought back?",
      answers: [
        { answer: "yes: bring it back, and let it start", costs: "nothing; no volume serves yet" },
        {
          answer: "no, those are all: cairn control settle",
          costs:
            "nothing that these disks hold; where you once had a volume go on from another disk, " +
            "and that is not there, the volume goes on from before that",
        },
      ],
    },
  ];
}

/** After a restore: volumes of which not every disk that may hold the truth has told it. */
function unsettled(view: ClusterView, volumes: readonly VolumeRecord[]): Question[] {
  if (view.cluster?.gathering === true) return [];
  return volumes.flatMap((volume) => {
    const waiting = waitingSlices(view, volume).filter((claim) => settledRecord(claim) === null);
    if (waiting.length === 0) return [];
    const missing = waiting.flatMap((claim) =>
      [...missingDisks(claim), ...strangerDisks(claim)].map((disk) => ({ claim, disk })),
    );
    const emptyOnes = missing.every(({ claim, disk }) => holdsNothing(view, claim, disk));
    const disks = [...new Set(missing.map(({ disk }) => placeOf(view, disk)))];
    const shown = disks.slice(0, PLACES_MAX).join(" and ");
    const sentence = emptyOnes
      ? `after the restore no disk was found that holds all of volume ${volume.name}: ` +
        "was it deleted after the backup, or is a disk still to come?"
      : `after the restore volume ${volume.name} waits for ${shown}, which may hold newer ` +
        "writes than the disks that answered: can that be brought back?";
    const all = `all that is on ${volume.name} (${bytesInWords(volume.sizeBytes)})`;
    return [
      {
        about: `volume ${volume.name}`,
        sentence,
        answers: [
          { answer: "bring it back", costs: "nothing; the volume serves again by itself" },
          {
            answer: `it never comes back: cairn volume accept ${volume.name}`,
            costs: "every write that only the missing disks hold; what is found is kept",
          },
          { answer: `give it up: cairn volume delete ${volume.name}`, costs: all },
        ],
      },
    ];
  });
}

/** Volumes that cannot serve before somebody brings something back. */
function stopped(view: ClusterView, volumes: readonly VolumeRecord[]): Question[] {
  return volumes.flatMap((volume) => {
    const waiting = view
      .slicesOfVolume(volume)
      .filter((record): record is SliceRecord => record !== null && isStopped(view, record));
    if (waiting.length === 0) return [];
    const missing = waiting.flatMap((record) => {
      return record.inSync.map(({ disk }) => disk).filter((disk) => !view.diskServes(disk));
    });
    if (missing.length === 0) return [];
    const where = [...new Set(missing.map((disk) => placeOf(view, disk)))].join(" and ");
    const only = waiting.some(({ inSync }) => !inSync.some(({ disk }) => view.diskServes(disk)));
    const { name, sizeBytes } = volume;
    return [
      {
        about: `volume ${name}`,
        sentence: only
          ? `the only current copies of part of volume ${name} are on ${where}: ` +
            "can that be brought back?"
          : `volume ${name} waits for ${where}, to know what was written last: ` +
            "can that be brought back?",
        answers: [
          { answer: "yes: bring it back", costs: "nothing; the volume serves again by itself" },
          ...goOnAnswer(view, volume),
          {
            answer: `no: cairn volume delete ${name}`,
            costs: `all that is on ${name} (${bytesInWords(sizeBytes)})`,
          },
        ],
      },
    ];
  });
}

/** R3's override, where other disks hold something that the volume could go on from. */
function goOnAnswer(view: ClusterView, volume: VolumeRecord): Answer[] {
  const offer = goOnOffer(view, volume);
  if (offer === null) return [];
  const answer = `no, go on from what ${offer.from} holds: cairn volume go-on ${volume.name}`;
  return [{ answer, costs: offer.costs }];
}

/** Copies of before an override that are there, and may be wanted no more. */
function keptCopies(view: ClusterView, volumes: readonly VolumeRecord[]): Question[] {
  return volumes.flatMap((volume) => {
    return keptVolumes(view, volume)
      .filter(({ isReadable }) => isReadable)
      .map((kept) => ({
        about: `volume ${volume.name}`,
        sentence:
          `${kept.name}, what volume ${volume.name} was before you went on without it, is kept ` +
          `(${keptSentence(view, kept)}): is it still wanted?`,
        answers: [
          {
            answer: `yes: leave it, or read it as ${kept.name}`,
            costs: "nothing; its disks take no current copy of those slices meanwhile",
          },
          {
            answer: `no: cairn volume discard ${kept.name}`,
            costs: "what only that copy holds",
          },
        ],
      }));
  });
}

function placeOf(view: ClusterView, disk: number): string {
  const unit = view.unitOfDisk(disk);
  const isAway = unit !== null && !view.isAlive(unit.number);
  return isAway ? `${unit.name}, which is away` : `${diskInWords(view, disk)}, which is out of use`;
}

/** Disks that gave an error: nothing is retried into success, unless somebody says so. */
function failed(view: ClusterView): Question[] {
  const disks = [...view.disks.values()].filter((disk) => {
    return disk.state === "failed" && disk.lost?.isOut === false && disk.why === undefined;
  });
  return disks.map((disk) => failedQuestion(view, disk));
}

function failedQuestion(view: ClusterView, disk: DiskRecord): Question {
  const words = diskInWords(view, disk.number);
  const alone = view.slicesOfDisk(disk.number).filter(({ inSync }) => {
    return inSync.length === 1 && inSync[0]?.disk === disk.number;
  });
  const why = disk.lost?.reason ?? "it failed";
  const lost = alone.length === 0 ? "nothing" : "what has its only copy there";
  return {
    about: words,
    sentence: `${words} is out of use (${why}): is it to be used again?`,
    answers: [
      {
        answer: `yes: cairn disk return ${disk.number}`,
        costs: "nothing; what it missed is copied to it, and if it fails again it is out again",
      },
      {
        answer: `no: cairn disk retire ${disk.number}, then pull it`,
        costs: `${lost}; its other copies are made anew on other disks, where there is room`,
      },
    ],
  };
}

/** Volumes that lack a copy, and nothing could take it. */
function roomless(view: ClusterView, volumes: readonly VolumeRecord[]): Question[] {
  return volumes.flatMap((volume) => {
    const lacking = view.slicesOfVolume(volume).filter((record): record is SliceRecord => {
      if (record === null) return false;
      let copies = record.resyncing.length;
      for (const { disk } of record.inSync) copies += Number(view.diskServes(disk));
      return copies < record.copies && view.diskServes(record.head);
    });
    const without = lacking.slice(0, LOOKED_AT_MAX).filter((record) => !hasRoomFor(view, record));
    if (without.length === 0) return [];
    return [
      {
        about: `volume ${volume.name}`,
        sentence:
          `volume ${volume.name} lacks a copy, and no other unit has room for it: ` +
          "is there to be more room?",
        answers: [
          { answer: "yes: bring back what is away, or add a disk or a unit", costs: "nothing" },
          {
            answer: "no: leave it as it is",
            costs: "nothing now; one more loss may stop the volume, or lose what is on it",
          },
        ],
      },
    ];
  });
}

/** Evacuations that wait for room. */
function stuck(view: ClusterView, wallMs: number): Question[] {
  return [...view.units.values()].flatMap((unit) => {
    const state = evacuationOf(view, unit.number, wallMs);
    if (unit.state !== "admitted" || state === null || !state.isStuck) return [];
    return [
      {
        about: unit.name,
        sentence: `${unit.name} cannot be emptied (${state.sentence}): is there to be more room?`,
        answers: [
          { answer: "yes: add a disk or a unit", costs: "nothing; the evacuation goes on" },
          { answer: `no: cairn unit keep ${unit.name}`, costs: "nothing; the unit stays" },
        ],
      },
    ];
  });
}

/** Clusters in use that share our join secret: they never merge by themselves. */
function others(view: ClusterView): Question[] {
  return otherClusters(view).map((other) => {
    return {
      about: "the cluster",
      sentence:
        `the cluster ${other} is in use with the same join secret, and stays another one: ` +
        "are they to become one?",
      answers: [
        {
          answer: "no: give the units of one of them another join secret",
          costs: "nothing; until then a new unit may join either",
        },
        {
          answer:
            "yes: copy what is on the volumes of one to the other, then reset its units " +
            "to the factory state, one after the other: they join the other",
          costs: "what was not copied from the units that are reset",
        },
      ],
    };
  });
}
