// SPDX-License-Identifier: Apache-2.0
//
// What smartctl prints of drives of three kinds (shortened from its own examples), and drives that
// tell nothing of themselves.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { driveFacts, setLight, smartFrom } from "./drive-facts.ts";

test("ATA: reallocated sectors, hours, temperature", () => {
  const output = JSON.stringify({
    json_format_version: [1, 0],
    smart_status: { passed: true },
    temperature: { current: 31 },
    power_on_time: { hours: 8123 },
    ata_smart_attributes: {
      table: [
        { id: 1, name: "Raw_Read_Error_Rate", raw: { value: 0, string: "0" } },
        { id: 5, name: "Reallocated_Sector_Ct", raw: { value: 12, string: "12" } },
      ],
    },
  });
  expect(smartFrom(output)).toEqual({
    passed: true,
    temperatureCelsius: 31,
    powerOnHours: 8123,
    wearPercent: null,
    mediaErrors: 12,
  });
});

test("NVMe: wear and errors of the medium; a drive that fails", () => {
  const output = JSON.stringify({
    smart_status: { passed: false, nvme: { value: 4 } },
    nvme_smart_health_information_log: { percentage_used: 104, media_errors: 7 },
  });
  expect(smartFrom(output)).toMatchObject({ passed: false, wearPercent: 104, mediaErrors: 7 });
});

test("SCSI: grown defects", () => {
  const output = JSON.stringify({ smart_status: { passed: true }, scsi_grown_defect_list: 3 });
  expect(smartFrom(output)).toMatchObject({ mediaErrors: 3, temperatureCelsius: null });
});

test("no verdict, no JSON → a Fault", () => {
  for (const output of ["", "{}", '{"smart_status":{}}', "not json"]) {
    expect(() => smartFrom(output)).toThrow(Fault);
  }
});

test("a file is no drive: nothing is known, its light cannot be switched", async () => {
  expect(await driveFacts("/var/tmp/disk.img")).toMatchObject({
    bay: null,
    light: null,
    smart: null,
    smartMissing: "it is a file, no drive",
  });
  expect(() => setLight("/var/tmp/disk.img", true)).toThrow("there is no light");
  expect(() => setLight("/dev/../etc/passwd", true)).toThrow(Fault);
});
