// SPDX-License-Identifier: Apache-2.0
//
// Which reactor has which disk, and whom a message is for.

import { describe, expect, test } from "bun:test";
import type { OpenedDisk, ToReactor } from "./reactor-messages.ts";
import { ReactorRoutes } from "./reactor-routes.ts";

function open(uuid: string, path: string): ToReactor {
  const place = { path, offsetBytes: 0, sizeBytes: 1, direct: false };
  const identity = { clusterId: "c", uuid };
  const rest = { leftClusters: [], anew: false, cacheLost: false };
  return { kind: "openDisk", place, identity, ...rest };
}

function opened(uuid: string, number: number): OpenedDisk {
  return { uuid, number } as OpenedDisk;
}

function joined(running: number, most = running): ReactorRoutes {
  const routes = new ReactorRoutes(most);
  routes.started(running);
  const keys = { publicKey: "", privateKey: "", linkKey: "" };
  expect(routes.of({ kind: "join", unit: 7, clusterId: "c", ...keys })).toBeNull();
  return routes;
}

describe("disks", () => {
  test("new ones → shared out evenly, the first to the last reactor", () => {
    const routes = joined(3);
    const places = ["a", "b", "c", "d"].map((uuid) => routes.of(open(uuid, `/dev/${uuid}`)));
    expect(places).toEqual([2, 1, 0, 2]);
  });

  test("all that run have one, and another may → to the next", () => {
    const routes = joined(1, 3);
    const place = (uuid: string) => routes.of(open(uuid, `/dev/${uuid}`));
    expect(place("a")).toBe(0);
    expect(place("b")).toBe(1);
    routes.started(2);
    expect([place("c"), place("a")]).toEqual([2, 0]);
    routes.started(3);
    expect(place("d")).toBe(2);
    // Of those that were started at once, one without a disk comes first.
    const three = joined(2, 3);
    expect(["a", "b", "c"].map((uuid) => three.of(open(uuid, `/dev/${uuid}`)))).toEqual([1, 0, 2]);
  });

  test("opened again, by another path or as another disk at its path → the same reactor", () => {
    const routes = joined(2);
    expect(routes.of(open("a", "/dev/x"))).toBe(1);
    expect(routes.of(open("b", "/dev/y"))).toBe(0);
    expect(routes.of(open("a", "/dev/z"))).toBe(1);
    expect(routes.of(open("c", "/dev/y"))).toBe(0);
    // Its identity counts for more than where it is.
    expect(routes.of(open("a", "/dev/y"))).toBe(1);
  });

  test("messages about one → its reactor's, also by the identity that was found on it", () => {
    const routes = joined(2);
    routes.of(open("a", "/dev/x"));
    routes.opened(opened("found", 5), 1);
    expect(routes.of({ kind: "numberDisk", uuid: "a", number: 5 })).toBe(1);
    expect(routes.of({ kind: "dropDisk", uuid: "found", reason: "" })).toBe(1);
    expect(routes.of({ kind: "closeDisk", uuid: "never seen" })).toBe(0);
    expect(routes.of({ kind: "tellHeld", disk: 5, from: 0 })).toBe(1);
    expect(routes.of({ kind: "tellHeld", disk: 6, from: 0 })).toBe(0);
  });

  test("of those here it is said which reactor has them, of others not", () => {
    const routes = joined(2);
    expect(routes.ready(5, 1)).toEqual({ disk: 5, unit: 7, reactor: 1 });
    const places = [
      { disk: 5, unit: 7 },
      { disk: 6, unit: 7 },
      { disk: 8, unit: 9 },
    ];
    expect(routes.located(places).map(({ reactor }) => reactor)).toEqual([1, undefined, undefined]);
    // It went to another unit.
    expect(routes.located([{ disk: 5, unit: 9 }])).toEqual([{ disk: 5, unit: 9 }]);
  });
});

test("what is about no disk → for all; other units and a drill's host for the first", () => {
  const routes = joined(2);
  expect(routes.of({ kind: "stop" })).toBeNull();
  expect(routes.of({ kind: "sliceGone", slice: 3 })).toBeNull();
  expect(routes.of({ kind: "peers", peers: [] })).toBe(0);
  expect(routes.of({ kind: "probe", act: "finish" })).toBe(0);
});
