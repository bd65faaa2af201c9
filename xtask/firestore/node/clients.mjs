// The official client, from the folder that `cargo xtask firestore` installed it in, and the server's address.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const folder = process.env.WHIMBREL_FIRESTORE_NODE;
export const address = process.env.FIRESTORE_EMULATOR_HOST;
if (!folder || !address) {
  console.error('set WHIMBREL_FIRESTORE_NODE (a folder with node_modules) and FIRESTORE_EMULATOR_HOST (host:port)');
  process.exit(2);
}
const require = createRequire(join(folder, 'package.json'));
export const sdk = require('@google-cloud/firestore');
export const { FieldPath, FieldValue, Filter, Timestamp, GeoPoint, AggregateField, Firestore } = sdk;
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

export const project = process.env.GCLOUD_PROJECT ?? 'demo-test';
export const database = `projects/${project}/databases/(default)`;
export const documents = `${database}/documents`;

/** The client as an app makes it. */
export const db = new Firestore({ projectId: project });

/** A client of its own: `settings` as the SDK takes them, and perhaps another address. */
export function client(settings = {}, at = address) {
  const before = process.env.FIRESTORE_EMULATOR_HOST;
  process.env.FIRESTORE_EMULATOR_HOST = at;
  try {
    return new Firestore({ projectId: project, ...settings });
  } finally {
    process.env.FIRESTORE_EMULATOR_HOST = before;
  }
}

/** The protocol itself, from the client's own protocol files: for what the SDK hides, and without its retries. */
const loaded = loader.loadSync('google/firestore/v1/firestore.proto', {
  includeDirs: [join(dirname(require.resolve('@google-cloud/firestore')), '../protos')],
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { Firestore: Service } = grpc.loadPackageDefinition(loaded).google.firestore.v1;
export const raw = new Service(address, grpc.credentials.createInsecure(), { 'grpc.max_receive_message_length': -1 });

function metadata() {
  const headers = new grpc.Metadata();
  headers.set('authorization', 'Bearer owner');
  headers.set('google-cloud-resource-prefix', database);
  return headers;
}

/** One call: its response. `commit`, `getDocument` … */
export function call(method, request) {
  return new Promise((resolve, reject) => {
    raw[method](request, metadata(), (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** One call that answers with a stream: its messages. */
export function stream(method, request) {
  return new Promise((resolve, reject) => {
    const messages = [];
    const answers = raw[method](request, metadata());
    answers.on('data', (message) => messages.push(message));
    answers.on('end', () => resolve(messages));
    answers.on('error', reject);
  });
}

/** A stream both ways: `send`, `next` (waits), `end`. */
export function duplex(method) {
  const pipe = raw[method](metadata());
  const arrived = [];
  const waiting = [];
  const deliver = (what) => (waiting.length ? waiting.shift()(what) : arrived.push(what));
  pipe.on('data', (message) => deliver({ message }));
  pipe.on('error', (error) => deliver({ error }));
  pipe.on('end', () => deliver({ error: new Error('the stream ended') }));
  return {
    send: (request) => pipe.write(request),
    end: () => pipe.end(),
    async next(within_ms = 10_000) {
      const what = arrived.length
        ? arrived.shift()
        : await new Promise((resolve, reject) => {
            const timer = setTimeout(() => reject(new Error(`nothing came within ${within_ms} ms`)), within_ms);
            waiting.push((answer) => {
              clearTimeout(timer);
              resolve(answer);
            });
          });
      if (what.error) throw what.error;
      return what.message;
    },
  };
}

// Values as the protocol writes them.
export const int = (i) => ({ integerValue: String(i) });
export const double = (d) => ({ doubleValue: d });
export const string = (s) => ({ stringValue: s });
export const array = (...values) => ({ arrayValue: { values } });
export const map = (fields) => ({ mapValue: { fields } });
