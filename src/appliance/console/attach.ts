// SPDX-License-Identifier: Apache-2.0
//
// How a host attaches to a volume, as lines to copy. The address is the front's: where most of the
// volume's slices are headed; every other unit takes it too (in-band).

import type { VolumeView } from "#appliance/backend.ts";

export interface AttachWay {
  id: string;
  title: string;
  note: string;
  text: string;
}

/** Seconds that a host waits for the volume to come back before an error reaches its programs. */
const RECONNECT_SECONDS = 60;

/** Empty while no unit offers it. */
export function attachWays(volume: Pick<VolumeView, "name" | "uris">): AttachWay[] {
  const uri = volume.uris[0];
  const place = uri === undefined ? null : URL.parse(uri);
  if (uri === undefined || place === null) return [];
  const { name } = volume;
  const host = place.hostname.replace(/^\[|\]$/g, "");
  const port = place.port === "" ? "10809" : place.port;
  return [
    linux({ name, host, port }),
    qemu({ name, host, port }),
    libvirt({ name, host, port }),
    proxmox(name, uri),
  ];
}

interface Place {
  name: string;
  host: string;
  port: string;
}

function linux({ name, host, port }: Place): AttachWay {
  const text = [
    "sudo apt install nbd-client",
    "sudo modprobe nbd",
    `sudo nbd-client ${host} ${port} /dev/nbd0 -name ${name} -persist -block-size 4096`,
  ].join("\n");
  const note = "A block device, /dev/nbd0, by the kernel's own NBD client.";
  return { id: "linux", title: "Linux", note, text };
}

function qemu({ name, host, port }: Place): AttachWay {
  const blockdev = [
    "driver=nbd",
    "node-name=cairn0",
    "server.type=inet",
    `server.host=${host}`,
    `server.port=${port}`,
    `export=${name}`,
    `reconnect-delay=${RECONNECT_SECONDS}`,
    "discard=unmap",
  ].join(",");
  const text = `-blockdev ${blockdev} \\\n-device virtio-blk-pci,drive=cairn0`;
  return { id: "qemu", title: "QEMU", note: "Two arguments for qemu-system.", text };
}

function libvirt({ name, host, port }: Place): AttachWay {
  const text = [
    '<disk type="network" device="disk">',
    '  <driver name="qemu" type="raw" cache="none" discard="unmap"/>',
    `  <source protocol="nbd" name="${name}">`,
    `    <host name="${host}" port="${port}"/>`,
    `    <reconnect delay="${RECONNECT_SECONDS}"/>`,
    "  </source>",
    '  <target dev="vdb" bus="virtio"/>',
    "</disk>",
  ].join("\n");
  const note = "Save as cairn.xml, then: virsh attach-device GUEST cairn.xml --persistent";
  return { id: "libvirt", title: "libvirt", note, text };
}

function proxmox(name: string, uri: string): AttachWay {
  const drive = `file=${uri},if=none,id=cairn0,format=raw,cache=none,discard=unmap`;
  const text = `qm set 100 --args '-drive ${drive} -device virtio-blk-pci,drive=cairn0'`;
  const note = `For the guest 100; ${name} is there when the guest starts next.`;
  return { id: "proxmox", title: "Proxmox VE", note, text };
}
