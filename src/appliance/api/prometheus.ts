// SPDX-License-Identifier: Apache-2.0
//
// Metrics as Prometheus reads them: text exposition format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). Samples of one name stand
// together under one HELP and one TYPE line, as the format demands.

import { assert } from "#base/assert.ts";
import type { MetricSample } from "#appliance/backend.ts";

export const METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function metricsText(samples: readonly MetricSample[]): string {
  const families = new Map<string, MetricSample[]>();
  for (const sample of samples) {
    assert(/^cairn_[a-z0-9_]+$/.test(sample.name), "a metric's name is cairn_<object>_<quantity>");
    const family = families.get(sample.name);
    if (family === undefined) families.set(sample.name, [sample]);
    else family.push(sample);
  }
  let text = "";
  for (const [name, family] of families) {
    const [first] = family;
    text += `# HELP ${name} ${escaped(first?.help ?? "", false)}\n`;
    text += `# TYPE ${name} ${first?.type ?? "gauge"}\n`;
    for (const sample of family) text += `${name}${labels(sample)} ${value(sample.value)}\n`;
  }
  return text;
}

function labels(sample: MetricSample): string {
  const pairs = Object.entries(sample.labels);
  if (pairs.length === 0) return "";
  return `{${pairs.map(([name, text]) => `${name}="${escaped(text, true)}"`).join(",")}}`;
}

function escaped(text: string, quotes: boolean): string {
  const plain = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return quotes ? plain.replaceAll('"', '\\"') : plain;
}

function value(number: number): string {
  if (number === Number.POSITIVE_INFINITY) return "+Inf";
  if (number === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(number);
}
