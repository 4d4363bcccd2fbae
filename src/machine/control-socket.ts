// SPDX-License-Identifier: Apache-2.0
//
// TCP on the control thread: for joining and for the control proxy, where promises live and speed
// does not matter. What carries hosts' data is on the reactor's ring, never here.
//
// Invariants: `onClose` comes exactly once; unsent bytes are bounded, and a peer that does not take
// them is cut off.

import { Fault } from "#base/fault.ts";

/** Bytes accepted by `send` and not yet taken by the kernel. */
const UNSENT_BYTES_MAX = 32 << 20;
const CONNECT_MS_MAX = 3000;

export interface ControlSocket {
  readonly peerAddress: string;
  /** Accepted by `send` and not yet taken by the kernel. */
  readonly queuedBytes: number;
  onBytes: (bytes: Uint8Array) => void;
  onClose: (reason: string) => void;
  /** Copies nothing that it need not; false once the connection is over. */
  send(bytes: Uint8Array): boolean;
  /** Ends the connection once what was sent is out. */
  close(): void;
}

export interface ControlListener {
  readonly port: number;
  close(): void;
}

class Connection implements ControlSocket {
  peerAddress = "";
  onBytes: (bytes: Uint8Array) => void = () => {};
  onClose: (reason: string) => void = () => {};
  #socket: Bun.Socket<Connection> | null = null;
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #over = false;
  #closing = false;

  get queuedBytes(): number {
    return this.#unsentBytes;
  }

  opened(socket: Bun.Socket<Connection>): void {
    this.#socket = socket;
    this.peerAddress = socket.remoteAddress;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 1000);
  }

  send(bytes: Uint8Array): boolean {
    if (this.#over || this.#socket === null) return false;
    const took = this.#unsent.length > 0 ? 0 : this.#socket.write(bytes);
    if (took < 0) return false;
    if (took === bytes.length) return true;
    const rest = bytes.slice(took);
    this.#unsent.push(rest);
    this.#unsentBytes += rest.length;
    if (this.#unsentBytes > UNSENT_BYTES_MAX)
      this.ended("the other side does not take what is sent");
    return !this.#over;
  }

  drained(): void {
    while (this.#unsent.length > 0 && this.#socket !== null && !this.#over) {
      const first = this.#unsent[0] as Uint8Array;
      const took = this.#socket.write(first);
      if (took <= 0) return;
      this.#unsentBytes -= took;
      if (took < first.length) {
        this.#unsent[0] = first.subarray(took);
        return;
      }
      this.#unsent.shift();
    }
    if (this.#closing) this.ended("closed");
  }

  close(): void {
    if (this.#unsent.length === 0) return this.ended("closed");
    this.#closing = true;
  }

  ended(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#unsent = [];
    this.#socket?.end();
    queueMicrotask(() => this.onClose(reason));
  }
}

const handlers: Bun.SocketHandler<Connection> = {
  data(socket, bytes) {
    socket.data.onBytes(bytes);
  },
  drain(socket) {
    socket.data.drained();
  },
  close(socket) {
    socket.data.ended("the other side closed");
  },
  end(socket) {
    socket.data.ended("the other side closed");
  },
  error(socket, error) {
    socket.data.ended(error.message);
  },
};

/**
 * Listens; throws Fault badConfiguration where that cannot be. `onAccept` must set the callbacks.
 */
export function listenControl(
  place: { address: string; port: number },
  onAccept: (socket: ControlSocket) => void,
): ControlListener {
  try {
    const listener = Bun.listen<Connection>({
      hostname: place.address,
      port: place.port,
      socket: {
        ...handlers,
        open(socket) {
          socket.data = new Connection();
          socket.data.opened(socket);
          onAccept(socket.data);
        },
      },
      data: undefined as unknown as Connection,
    });
    return { port: listener.port, close: () => listener.stop(true) };
  } catch (cause) {
    const at = `${place.address} port ${place.port}`;
    throw new Fault("badConfiguration", `cannot listen for units on ${at}`, { cause });
  }
}

/** Connects, or rejects with Fault notReady. The callbacks must be set before the next turn. */
export async function connectControl(address: string, port: number): Promise<ControlSocket> {
  const connection = new Connection();
  const connecting = Bun.connect<Connection>({
    hostname: address,
    port,
    data: connection,
    socket: {
      ...handlers,
      open(socket) {
        connection.opened(socket);
      },
      connectError() {},
    },
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer")), CONNECT_MS_MAX);
  });
  try {
    await Promise.race([connecting, late]);
    return connection;
  } catch (cause) {
    connection.ended("never connected");
    connecting.then((socket) => socket.end()).catch(() => undefined);
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("notReady", `${address} port ${port} cannot be reached (${why})`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Whether the machine at this address refuses a connection to the port: it is there, and nobody
 * listens. No answer, or a connection, is no refusal.
 */
export async function isRefused(address: string, port: number): Promise<boolean> {
  try {
    const socket = await connectControl(address, port);
    socket.close();
    return false;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return (error.cause as { code?: unknown } | undefined)?.code === "ECONNREFUSED";
  }
}
