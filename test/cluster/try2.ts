import { startCluster, leads, Probes, healed } from "#test/cluster/cluster-fixture.ts";
import { assembled, protectedEverywhere } from "#test/cluster/assembled.ts";
process.env["CAIRN_LAB_KEEP"] = "1";
await using lab = await startCluster();
for (let i = 0; i < 12; i++) {
  const { head } = await leads(lab);
  await using probes = new Probes(
    lab,
    lab.units.filter((u) => u !== head),
  );
  await probes.write();
  await head.stop();
  await probes.write();
  head.start();
  try {
    await lab.until("one", () => assembled(lab), 140000);
    await lab.until("whole", () => protectedEverywhere(lab, "vol"), 140000);
    await probes.write();
    await probes.finish();
    console.log("round", i, head.name, "fine");
  } catch (e) {
    console.log("STUCK after", head.name, new Date().toISOString());
    for (const u of lab.units) {
      const r = await fetch("http://localhost/metrics", {
        unix: u.stateFolder + "/api.sock",
      } as any);
      console.log(
        u.name,
        (await r.text())
          .split("\n")
          .filter((l) => !l.startsWith("#") && !/ 0$/.test(l))
          .join("\n"),
      );
    }
    for (const u of lab.units) process.kill(u.pid!, 0);
    await new Promise((r) => setTimeout(r, 1000));
    break;
  }
}
