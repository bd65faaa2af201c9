// Items of a list: each runs, prints one line, and says exactly what was wrong.

import assert from 'node:assert/strict';
import net from 'node:net';
import { db } from './clients.mjs';

const items = [];
const run = Math.random().toString(36).slice(2, 8);
let names = 0;

export { assert };

/**
 * Something to prove. `slow` ones may take a minute; `hidane` says why the emulator, when it is the one that is
 * tested, cannot do it.
 */
export function item(name, prove, { slow = false, hidane } = {}) {
  items.push({ name, prove, within_ms: slow ? 120_000 : 30_000, hidane });
}

const against = process.env.WHIMBREL_FIRESTORE_AGAINST ?? 'whimbrel';

/** A collection that nobody used before. */
export function fresh(name = 'c') {
  return db.collection(freshId(name));
}

export function freshId(name = 'c') {
  names += 1;
  return `${name}-${run}-${names}`;
}

const CODES = [
  'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS',
  'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED',
  'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED',
];

/** The promise must fail with this code (its protocol name), and the message must match. */
export async function fails(code, promise, message = /./) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    const got = CODES[error.code] ?? error.code;
    assert.equal(got, code, `expected ${code}, got ${got}: ${error.message}`);
    assert.match(String(error.message), message);
    return error;
  }
  assert.fail(`expected ${code}, but it succeeded with ${JSON.stringify(value)?.slice(0, 200)}`);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A promise and its ends. */
export function gate() {
  let open;
  let shut;
  const passed = new Promise((resolve, reject) => {
    open = resolve;
    shut = reject;
  });
  return { passed, open, shut };
}

/** The snapshots of a listener, one after another. */
export function watch(target) {
  const arrived = [];
  const waiting = [];
  const deliver = (what) => (waiting.length ? waiting.shift()(what) : arrived.push(what));
  const stop = target.onSnapshot(
    (snapshot) => deliver({ snapshot }),
    (error) => deliver({ error }),
  );
  return {
    stop,
    pending: () => arrived.length,
    async next(within_ms = 15_000) {
      const what = arrived.length
        ? arrived.shift()
        : await new Promise((resolve, reject) => {
            const timer = setTimeout(() => reject(new Error(`no snapshot within ${within_ms} ms`)), within_ms);
            waiting.push((answer) => {
              clearTimeout(timer);
              resolve(answer);
            });
          });
      if (what.error) throw what.error;
      return what.snapshot;
    },
    /** The first snapshot that is so; those before it are passed over. */
    async until(good, within_ms = 20_000) {
      const end = Date.now() + within_ms;
      for (;;) {
        const snapshot = await this.next(Math.max(end - Date.now(), 1));
        if (good(snapshot)) return snapshot;
      }
    },
  };
}

/** A relay in front of the server whose connections can be cut, as networks do. */
export async function relay(address) {
  const at = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))];
  const open = new Set();
  let refusing = false;
  const server = net.createServer((near) => {
    if (refusing) return near.destroy();
    const far = net.connect(port, host);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${server.address().port}`,
    /** Cuts what is open and lets nobody in, until `mend`. */
    cut() {
      refusing = true;
      for (const socket of open) socket.destroy();
    },
    mend() {
      refusing = false;
    },
    close() {
      this.cut();
      server.close();
    },
  };
}

/** Runs every item (whose name holds a word, where one is given) and ends the process. */
export async function finish(wanted = process.argv[2]) {
  const failed = [];
  const began = Date.now();
  let ran = 0;
  for (const { name, prove, within_ms, hidane } of items) {
    if (wanted && !name.includes(wanted)) continue;
    if (hidane && against === 'hidane') {
      console.log(`left    ${name}: hidane ${hidane}`);
      continue;
    }
    ran += 1;
    const start = Date.now();
    let timer;
    try {
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done within ${within_ms} ms`)), within_ms);
      });
      await Promise.race([prove(), late]);
      console.log(`ok      ${name} (${Date.now() - start} ms)`);
    } catch (error) {
      failed.push(name);
      const where = String(error.stack).split('\n').filter((line) => line.includes('/xtask/firestore/')).slice(0, 3);
      console.log(`FAILED  ${name}\n    ${String(error.message).replaceAll('\n', '\n    ')}\n${where.join('\n')}`);
    } finally {
      clearTimeout(timer);
    }
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  console.log(`\n${ran - failed.length} of ${ran} items hold (${seconds} s)`);
  for (const name of failed) console.log(`failed: ${name}`);
  process.exit(failed.length || !ran ? 1 : 0);
}
