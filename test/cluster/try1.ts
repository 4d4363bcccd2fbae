import { startCluster, leads, Probes, healed } from "#test/cluster/cluster-fixture.ts";
process.env["CAIRN_LAB_KEEP"] = "1";
await using lab = await startCluster();
const { head } = await leads(lab);
const probes = new Probes(
  lab,
  lab.units.filter((u) => u !== head),
);
await probes.write();
const t = performance.now();
const w = new Date();
await head.stop();
console.log(head.name, "stop took", performance.now() - t, w.toISOString());
await probes.write();
console.log(
  probes.gapsSince(t),
  new Date(performance.timeOrigin + probes.direct.gapSince(t).fromMs).toISOString(),
  probes.direct.lastFailure,
);
await probes.direct[Symbol.asyncDispose]();
await probes.inband[Symbol.asyncDispose]();
