// Listeners: what `onSnapshot` shows, and the Listen stream below it.

import { assert, fails, fresh, freshId, item, relay, sleep, watch } from './harness.mjs';
import { address, call, client, database, db, documents, duplex, int } from './clients.mjs';

const ids = (snapshot) => snapshot.docs.map((d) => d.id);
const changes = (snapshot) => snapshot.docChanges().map((c) => [c.type, c.doc.id, c.oldIndex, c.newIndex]);

item('onSnapshot: a document, from its absence to its absence', async () => {
  const doc = fresh().doc('a');
  const seen = watch(doc);
  assert.equal((await seen.next()).exists, false);
  const { writeTime } = await doc.set({ n: 1 });
  const made = await seen.next();
  assert.deepEqual(made.data(), { n: 1 });
  assert.ok(made.updateTime.isEqual(writeTime));
  assert.ok(made.readTime.valueOf() >= writeTime.valueOf());
  await doc.update({ n: 2 });
  assert.deepEqual((await seen.next()).data(), { n: 2 });
  await doc.delete();
  assert.equal((await seen.next()).exists, false);
  await doc.set({ n: 3 });
  assert.deepEqual((await seen.next()).data(), { n: 3 });
  seen.stop();
  await doc.set({ n: 4 });
  await sleep(100);
  assert.equal(seen.pending(), 0);
});

item('onSnapshot: a document that nobody changes is told once', async () => {
  const doc = fresh().doc('a');
  await doc.set({ n: 1 });
  const seen = watch(doc);
  assert.deepEqual((await seen.next()).data(), { n: 1 });
  await doc.parent.doc('other').set({ n: 1 });
  await doc.set({ n: 1 });
  await sleep(200);
  assert.equal(seen.pending(), 0);
  seen.stop();
});

item('onSnapshot: a query: added, modified, moved, removed, deleted', async () => {
  const c = fresh();
  await c.doc('b').set({ n: 2 });
  await c.doc('a').set({ n: 1 });
  await c.doc('hidden').set({ n: -1 });
  const seen = watch(c.where('n', '>', 0).orderBy('n'));
  const first = await seen.next();
  assert.deepEqual(changes(first), [['added', 'a', -1, 0], ['added', 'b', -1, 1]]);
  await c.doc('c').set({ n: 1.5 });
  assert.deepEqual(changes(await seen.next()), [['added', 'c', -1, 1]]);
  await c.doc('a').update({ n: 9 });
  const moved = await seen.next();
  assert.deepEqual(changes(moved), [['modified', 'a', 0, 2]]);
  assert.deepEqual(ids(moved), ['c', 'b', 'a']);
  await c.doc('b').update({ n: -5 });
  assert.deepEqual(changes(await seen.next()), [['removed', 'b', 1, -1]]);
  await c.doc('c').delete();
  const last = await seen.next();
  assert.deepEqual(changes(last), [['removed', 'c', 0, -1]]);
  assert.deepEqual(last.docs.map((d) => d.data()), [{ n: 9 }]);
  await c.doc('hidden').update({ n: 5 });
  assert.deepEqual(changes(await seen.next()), [['added', 'hidden', -1, 0]]);
  seen.stop();
});

item('onSnapshot: limits: what falls out, and what comes in when one leaves', async () => {
  const c = fresh();
  for (const n of [1, 2, 3, 4]) await c.doc(`d${n}`).set({ n });
  const seen = watch(c.orderBy('n').limit(2));
  const last = watch(c.orderBy('n').limitToLast(2));
  assert.deepEqual(ids(await seen.next()), ['d1', 'd2']);
  assert.deepEqual(ids(await last.next()), ['d3', 'd4']);
  await c.doc('d0').set({ n: 0 });
  assert.deepEqual(ids(await seen.next()), ['d0', 'd1']);
  await c.doc('d1').delete();
  assert.deepEqual(ids(await seen.next()), ['d0', 'd2']);
  await c.doc('d5').set({ n: 5 });
  assert.deepEqual(ids(await last.next()), ['d4', 'd5']);
  await c.doc('d0').update({ n: 100 });
  assert.deepEqual(ids(await seen.until((s) => s.docs[0].id === 'd2')), ['d2', 'd3']);
  assert.deepEqual(ids(await last.next()), ['d5', 'd0']);
  seen.stop();
  last.stop();
});

item('onSnapshot: collection groups, documents below documents, filters by OR and arrays', async () => {
  const group = freshId('g');
  const root = fresh();
  const seen = watch(db.collectionGroup(group).where('l', 'array-contains', 'x'));
  assert.equal((await seen.next()).size, 0);
  await root.doc('a').collection(group).doc('1').set({ l: ['x'] });
  assert.deepEqual(ids(await seen.next()), ['1']);
  await root.doc('a/b/c').collection(group).doc('2').set({ l: ['y', 'x'] });
  assert.deepEqual(ids(await seen.next()), ['2', '1'], 'in the order of names');
  await root.doc('a').collection(group).doc('1').update({ l: [] });
  assert.deepEqual(ids(await seen.next()), ['2']);
  seen.stop();
});

item('onSnapshot: a batch is seen whole or not at all', async () => {
  const c = fresh();
  const seen = watch(c);
  assert.equal((await seen.next()).size, 0);
  const rounds = 40;
  const writing = (async () => {
    for (let n = 1; n <= rounds; n += 1) await db.batch().set(c.doc('a'), { n }).set(c.doc('b'), { n }).set(c.doc('c'), { n }).commit();
  })();
  let last = 0;
  while (last < rounds) {
    const snapshot = await seen.next();
    const all = new Set(snapshot.docs.map((d) => d.get('n')));
    assert.deepEqual([snapshot.size, all.size], [3, 1], `${[...all]}`);
    const [n] = all;
    assert.ok(n > last, `${n} after ${last}`);
    last = n;
  }
  await writing;
  seen.stop();
});

item('onSnapshot: a hundred changes a second arrive, ends as the documents are', async () => {
  const c = fresh();
  const seen = [];
  const stops = [c.orderBy('n'), c.where('n', '<', 50), c.doc('d7')].map((target, i) => target.onSnapshot((s) => (seen[i] = s)));
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    for (let n = 0; n < 10; n += 1) await c.doc(`d${i}`).set({ n: (i * 13 + n * 7) % 100 });
  }));
  await sleep(1000);
  const truth = await c.orderBy('n').get();
  assert.deepEqual(seen[0].docs.map((d) => [d.id, d.data()]), truth.docs.map((d) => [d.id, d.data()]));
  assert.deepEqual(ids(seen[1]).sort(), ids(truth).filter((id) => truth.docs.find((d) => d.id === id).get('n') < 50).sort());
  assert.deepEqual(seen[2].data(), truth.docs.find((d) => d.id === 'd7').data());
  stops.forEach((stop) => stop());
});

item('onSnapshot: the connection is cut: what changed meanwhile arrives, and nothing else', async () => {
  const between = await relay(address);
  const remote = client({}, between.address);
  const name = freshId('cut');
  const c = db.collection(name);
  for (const n of [1, 2, 3, 4, 5]) await c.doc(`d${n}`).set({ n });
  const seen = watch(remote.collection(name).where('n', '<', 100).orderBy('n'));
  const doc = watch(remote.doc(`${name}/d2`));
  assert.equal((await seen.next()).size, 5);
  assert.deepEqual((await doc.next()).data(), { n: 2 });
  for (let round = 0; round < 2; round += 1) {
    between.cut();
    await c.doc('d1').delete();
    await c.doc('d2').set({ n: 20 + round });
    await c.doc('d3').set({ n: 1000 });
    await c.doc(`new${round}`).set({ n: 6 + round });
    between.mend();
    const after = await seen.until((s) => s.docs.some((d) => d.id === `new${round}`), 25_000);
    assert.deepEqual(
      after.docs.map((d) => [d.id, d.get('n')]),
      [['d4', 4], ['d5', 5], ['new0', 6], ...(round ? [['new1', 7]] : []), ['d2', 20 + round]],
    );
    const kinds = changes(after).map(([type, id]) => `${type} ${id}`).sort();
    const expected = round ? ['added new1', 'modified d2'] : ['added new0', 'modified d2', 'removed d1', 'removed d3'];
    assert.deepEqual(kinds, expected);
    assert.deepEqual((await doc.until((s) => s.get('n') === 20 + round, 25_000)).data(), { n: 20 + round });
    await sleep(200);
    assert.equal(seen.pending(), 0);
  }
  await c.doc('d4').delete();
  assert.deepEqual(changes(await seen.next()).map(([type, id]) => `${type} ${id}`), ['removed d4']);
  seen.stop();
  doc.stop();
  between.close();
}, { slow: true });

// Below the SDK.

const query = (id, structuredQuery) => ({ addTarget: { targetId: id, query: { parent: documents, structuredQuery } }, database });
const collection = (id) => ({ from: [{ collectionId: id }] });
const documentsTarget = (id, ...names) => ({ addTarget: { targetId: id, documents: { documents: names } }, database });

/** Messages until a target change that passes, and that one. */
async function until(pipe, good) {
  const messages = [];
  for (;;) {
    const message = await pipe.next();
    messages.push(message);
    if (message.targetChange && good(message.targetChange)) return messages;
  }
}

const current = (id) => (change) => change.targetChangeType === 'CURRENT' && change.targetIds.includes(id);
const settled = (change) => change.targetChangeType === 'NO_CHANGE' && change.readTime && !change.targetIds.length;
const changed = (messages) => messages.filter((m) => m.documentChange).map((m) => m.documentChange.document.name.split('/').pop());
const gone = (messages) => messages.flatMap((m) => (m.documentDelete ?? m.documentRemove ? [(m.documentDelete ?? m.documentRemove).document.split('/').pop()] : []));

item('Listen: several targets on one stream, each told of its own', async () => {
  const [one, other] = [freshId('one'), freshId('other')];
  await db.doc(`${one}/a`).set({ n: 1 });
  const pipe = duplex('listen');
  pipe.send(query(2, collection(one)));
  const opening = await until(pipe, current(2));
  assert.equal(opening[0].targetChange.targetChangeType, 'ADD');
  assert.deepEqual(opening[0].targetChange.targetIds, [2]);
  assert.deepEqual(changed(opening), ['a']);
  await until(pipe, settled);
  pipe.send(documentsTarget(20601, `${documents}/${other}/x`, `${documents}/${one}/a`));
  const second = await until(pipe, current(20601));
  assert.deepEqual(changed(second), ['a']);
  assert.deepEqual(gone(second), ['x']);
  await until(pipe, settled);
  await db.batch().set(db.doc(`${one}/a`), { n: 2 }).set(db.doc(`${other}/x`), { n: 1 }).set(db.doc(`${other}/y`), { n: 1 }).commit();
  const both = (await until(pipe, settled)).filter((m) => m.documentChange);
  const told = both.map((m) => [m.documentChange.document.name.split('/').pop(), [...m.documentChange.targetIds].sort()]).sort();
  const a = told.filter(([id]) => id === 'a').flatMap(([, targets]) => targets).sort();
  assert.deepEqual(a, [2, 20601]);
  assert.deepEqual(told.filter(([id]) => id === 'x').flatMap(([, targets]) => targets), [20601]);
  assert.ok(!told.some(([id]) => id === 'y'));
  pipe.send({ removeTarget: 2, database });
  const removed = await until(pipe, (change) => change.targetChangeType === 'REMOVE');
  assert.deepEqual(removed.at(-1).targetChange.targetIds, [2]);
  await db.doc(`${one}/b`).set({ n: 3 });
  await db.doc(`${other}/x`).delete();
  const last = await until(pipe, settled);
  assert.deepEqual(changed(last), []);
  assert.deepEqual(gone(last), ['x']);
  pipe.end();
});

item('Listen: a target for once ends when it is current', async () => {
  const one = freshId('one');
  await db.doc(`${one}/a`).set({ n: 1 });
  const pipe = duplex('listen');
  const request = query(5, collection(one));
  request.addTarget.once = true;
  pipe.send(request);
  const messages = await until(pipe, (change) => change.targetChangeType === 'REMOVE');
  assert.deepEqual(changed(messages), ['a']);
  assert.equal(messages.at(-1).targetChange.cause, null);
  pipe.end();
}, { hidane: 'keeps it' });

item('Listen: resumed by token and by time: only what changed, and a filter that counts', async () => {
  const one = freshId('one');
  for (const id of ['a', 'b', 'c']) await db.doc(`${one}/${id}`).set({ n: 1 });
  const first = duplex('listen');
  first.send(query(1, collection(one)));
  await until(first, current(1));
  const { resumeToken, readTime } = (await until(first, settled)).at(-1).targetChange;
  assert.ok(resumeToken.length > 0);
  first.end();
  await db.doc(`${one}/b`).update({ n: 2 });
  await db.doc(`${one}/d`).set({ n: 1 });
  await db.doc(`${one}/c`).delete();
  for (const [name, resume] of [['token', { resumeToken }], ['time', { readTime }]]) {
    const pipe = duplex('listen');
    const request = query(1, collection(one));
    Object.assign(request.addTarget, resume, { expectedCount: { value: 3 } });
    pipe.send(request);
    const messages = await until(pipe, current(1));
    messages.push(...(await until(pipe, settled)));
    assert.deepEqual(changed(messages).sort(), ['b', 'd'], `by ${name}`);
    const filter = messages.find((m) => m.filter)?.filter;
    assert.ok(filter?.count === 3 || gone(messages).includes('c'), `by ${name}: c is gone`);
    pipe.end();
  }
});

item('Listen: a resume that changed nothing tells nothing', async () => {
  const one = freshId('one');
  await db.doc(`${one}/a`).set({ n: 1 });
  const first = duplex('listen');
  first.send(query(1, collection(one)));
  await until(first, current(1));
  const { resumeToken } = (await until(first, settled)).at(-1).targetChange;
  first.end();
  await db.doc(`${freshId('elsewhere')}/a`).set({ n: 1 });
  const pipe = duplex('listen');
  const request = query(1, collection(one));
  request.addTarget.resumeToken = resumeToken;
  pipe.send(request);
  const messages = await until(pipe, current(1));
  assert.deepEqual(changed(messages), []);
  assert.deepEqual(gone(messages), []);
  pipe.end();
});

item('Listen: what it cannot do is refused', async () => {
  const bad = duplex('listen');
  bad.send(query(1, { from: [{ collectionId: 'a/b' }] }));
  const answer = await bad.next().catch((error) => ({ error }));
  const code = answer.error?.code ?? answer.targetChange?.cause?.code;
  assert.equal(code ?? (await bad.next().catch((error) => error.code)), 3);
});
