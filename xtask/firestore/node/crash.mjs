// Load for a server that is killed, and the look at what it kept.
//   node crash.mjs write LOG ROUND     commits batches until it is killed itself; logs each that was acknowledged
//   node crash.mjs check LOG           reads everything and compares it with the log

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { client, FieldValue } from './clients.mjs';

const [verb, path, round] = process.argv.slice(2);
const TASKS = 16;
const DOCUMENTS = 7;
const db = client();
const documents = db.collection('crash');
const heads = db.collection('heads');

if (verb === 'write') {
  const log = openSync(path, 'a');
  const text = 'x'.repeat(400);
  // A batch is whole or not there: new documents, one that is updated, one that comes and goes, and a count.
  const commit = (task, seq) => {
    const batch = db.batch();
    for (let k = 0; k < DOCUMENTS; k += 1) batch.create(documents.doc(`${round}-${task}-${seq}-${k}`), { round: Number(round), task, seq, k, text });
    batch.set(heads.doc(`${task}`), { round: Number(round), seq, batches: FieldValue.increment(1) }, { merge: true });
    const passing = db.collection('passing').doc(`${task}`);
    if (seq % 2) batch.set(passing, { round: Number(round), seq });
    else batch.delete(passing);
    return batch.commit();
  };
  await Promise.all(Array.from({ length: TASKS }, async (_, task) => {
    for (let seq = 0; ; seq += 1) {
      await commit(task, seq);
      // Not before it was acknowledged, and at once: this process ends by a kill.
      writeSync(log, `${round} ${task} ${seq}\n`);
    }
  }));
  closeSync(log);
}

const acknowledged = readFileSync(path, 'utf8').split('\n').filter(Boolean).map((line) => line.split(' ').map(Number));
const wrong = [];
const batches = new Map();
for (const { id, data } of (await documents.get()).docs.map((d) => ({ id: d.id, data: d.data() }))) {
  const key = `${data.round} ${data.task} ${data.seq}`;
  batches.set(key, [...(batches.get(key) ?? []), data.k]);
  if (id !== `${data.round}-${data.task}-${data.seq}-${data.k}` || data.text.length !== 400) wrong.push(`${id} is not what was written`);
}
for (const line of acknowledged) if (!batches.has(line.join(' '))) wrong.push(`batch ${line.join(' ')} was acknowledged and is gone`);
for (const [key, found] of batches) if (found.length !== DOCUMENTS) wrong.push(`batch ${key} has ${found.length} of ${DOCUMENTS} documents`);
for (let task = 0; task < TASKS; task += 1) {
  const mine = [...batches.keys()].map((key) => key.split(' ').map(Number)).filter(([, t]) => t === task);
  if (!mine.length) continue;
  mine.sort((a, b) => a[0] - b[0] || a[2] - b[2]);
  const [lastRound, , lastSeq] = mine.at(-1);
  const head = (await heads.doc(`${task}`).get()).data();
  if (head?.batches !== mine.length) wrong.push(`task ${task}: ${mine.length} batches are there, ${head?.batches} were counted with them`);
  if (head?.round !== lastRound || head?.seq !== lastSeq) wrong.push(`task ${task}: the head is not that of the last batch`);
  const passing = (await db.collection('passing').doc(`${task}`).get()).data();
  if (lastSeq % 2 ? passing?.seq !== lastSeq : passing !== undefined) wrong.push(`task ${task}: the passing document is not of the last batch`);
  // By an index, which must have been cut off with the documents.
  const indexed = await documents.where('task', '==', task).orderBy('round').orderBy('seq').select('k').get();
  if (indexed.size !== mine.length * DOCUMENTS) wrong.push(`task ${task}: an index shows ${indexed.size} documents of ${mine.length * DOCUMENTS}`);
}
for (const line of wrong.slice(0, 20)) console.log(`failed: ${line}`);
console.log(`${acknowledged.length} acknowledged batches are there, ${batches.size - acknowledged.length} more are whole`);
process.exit(wrong.length ? 1 : 0);
