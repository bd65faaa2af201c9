// 50 clients, each with 200 transactional increments of one document, at the SDK's own retry settings.
//   node contention.mjs [CLIENTS] [INCREMENTS]

import { client } from './clients.mjs';

const [clients, increments] = [Number(process.argv[2] ?? 50), Number(process.argv[3] ?? 200)];
const all = Array.from({ length: clients }, () => client());
const path = `contention-${Math.random().toString(36).slice(2, 8)}/counter`;
await all[0].doc(path).set({ n: 0 });
const start = Date.now();
let attempts = 0;
const results = await Promise.allSettled(
  all.map(async (db) => {
    const doc = db.doc(path);
    for (let i = 0; i < increments; i += 1) {
      await db.runTransaction(async (t) => {
        attempts += 1;
        t.update(doc, { n: (await t.get(doc)).get('n') + 1 });
      });
    }
  }),
);
const n = (await all[0].doc(path).get()).get('n');
const failed = results.filter((result) => result.status === 'rejected');
for (const { reason } of failed.slice(0, 3)) console.log(`a client gave up: ${reason.message}`);
const seconds = ((Date.now() - start) / 1000).toFixed(1);
const good = n === clients * increments && !failed.length;
console.log(`${good ? 'ok     ' : 'FAILED '} contention: ${clients} clients × ${increments} increments end at ${n} (${attempts} attempts, ${seconds} s)`);
process.exit(good ? 0 : 1);
