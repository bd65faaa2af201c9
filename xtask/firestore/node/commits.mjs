// Commits, transforms, BatchWrite, the Write stream, BulkWriter, recursive deletes.

import { assert, fails, fresh, freshId, item } from './harness.mjs';
import { array, call, database, db, documents, double, duplex, FieldValue, int, map, string } from './clients.mjs';

const name = (path) => `${documents}/${path}`;
const update = (path, fields, more = {}) => ({ update: { name: name(path), fields }, ...more });
const commit = (...writes) => call('commit', { database, writes });
const exists = (exists) => ({ currentDocument: { exists } });
const data = async (doc) => (await doc.get()).data();

item('commit: a batch whose second write fails leaves nothing', async () => {
  const c = fresh();
  await c.doc('there').set({ n: 0 });
  await c.doc('counter').set({ n: 0 });
  const failing = [
    ['ALREADY_EXISTS', (batch) => batch.create(c.doc('there'), {})],
    ['NOT_FOUND', (batch) => batch.update(c.doc('missing'), { n: 1 })],
    ['NOT_FOUND', (batch) => batch.delete(c.doc('missing'), { exists: true })],
  ];
  for (const [code, second] of failing) {
    const batch = db.batch();
    batch.set(c.doc('first'), { n: 1 });
    batch.update(c.doc('counter'), { n: FieldValue.increment(1) });
    second(batch);
    batch.set(c.doc('last'), { n: 1 });
    await fails(code, batch.commit());
    assert.deepEqual((await c.get()).docs.map((d) => [d.id, d.data()]), [['counter', { n: 0 }], ['there', { n: 0 }]]);
  }
});

item('commit: writes of one batch happen in order, also to one document', async () => {
  const c = fresh();
  const doc = c.doc('a');
  const results = await db
    .batch()
    .create(doc, { n: 1 })
    .update(doc, { m: 2 })
    .delete(doc)
    .create(doc, { n: 3 })
    .update(doc, { n: FieldValue.increment(4), l: FieldValue.arrayUnion('x') })
    .set(c.doc('b'), { n: 1 })
    .commit();
  assert.equal(results.length, 6);
  assert.deepEqual(await data(doc), { n: 7, l: ['x'] });
  assert.ok(results[4].writeTime.isEqual(results[5].writeTime));
});

item('commit: a thousand writes, and none', async () => {
  const c = fresh();
  const batch = db.batch();
  for (let i = 0; i < 1000; i += 1) batch.set(c.doc(String(i)), { i });
  assert.equal((await batch.commit()).length, 1000);
  assert.equal((await c.count().get()).data().count, 1000);
  const empty = await commit();
  assert.deepEqual(empty.writeResults, []);
});

item('commit: a masked field that the write does not hold is deleted', async () => {
  const doc = fresh().doc('a');
  await doc.set({ a: 1, b: { c: 2, d: 3 }, e: 4 });
  await commit(update(doc.path, { b: map({ d: int(5) }), e: int(9) }, { updateMask: { fieldPaths: ['a', 'b.c', 'b.d', 'x.y'] } }));
  assert.deepEqual(await data(doc), { b: { d: 5 }, e: 4 });
  await commit(update(doc.path, { q: int(1) }, { updateMask: { fieldPaths: [] } }));
  assert.deepEqual(await data(doc), { b: { d: 5 }, e: 4 }, 'an empty mask touches nothing');
  for (const path of ['', '.', 'a.', '.a', 'a..b', '`a', 'a b']) {
    await fails('INVALID_ARGUMENT', commit(update(doc.path, {}, { updateMask: { fieldPaths: [path] } })));
  }
});

item('transforms: server time, the same in the whole commit', async () => {
  const c = fresh();
  const at = FieldValue.serverTimestamp();
  const [{ writeTime }] = await db
    .batch()
    .set(c.doc('a'), { at, m: { at, x: 1 } })
    .set(c.doc('b'), { keep: 1 })
    .update(c.doc('b'), { at, 'm.at': at })
    .set(c.doc('c'), { at, gone: FieldValue.delete() }, { merge: true })
    .commit();
  const [a, b, third] = (await c.get()).docs.map((d) => d.data());
  assert.deepEqual(Object.keys(a).sort(), ['at', 'm']);
  for (const time of [a.m.at, b.at, b.m.at, third.at]) assert.ok(time.isEqual(a.at), `${time.valueOf()} ${a.at.valueOf()}`);
  assert.equal(a.at.nanoseconds % 1_000_000, 0, 'whole milliseconds');
  const behind_ms = writeTime.toMillis() - a.at.toMillis();
  assert.ok(behind_ms >= 0 && behind_ms < 1000, `${behind_ms} ms before the commit`);
  assert.equal(a.m.x, 1);
  assert.equal(b.keep, 1);
});

item('transforms: increment of integers and doubles, of nothing, of no number; it saturates', async () => {
  const max = '9223372036854775807';
  const min = '-9223372036854775808';
  const cases = [
    [int(5), int(3), int(8)],
    [int(5), int(-7), int(-2)],
    [int(max), int(1), int(max)],
    [int(min), int(-1), int(min)],
    [int(max), int(min), int(-1)],
    [int(1), double(0.5), double(1.5)],
    [double(0.5), int(1), double(1.5)],
    [double(0.1), double(0.2), double(0.30000000000000004)],
    [double(1e308), double(1e308), double(Infinity)],
    [double(NaN), int(1), double(NaN)],
    [null, int(4), int(4)],
    [null, double(4), double(4)],
    [string('x'), int(4), int(4)],
    [array(int(1)), double(2.5), double(2.5)],
  ];
  for (const [before, by, after] of cases) await transforms(before, { increment: by }, after);
});

item('transforms: maximum and minimum across types of numbers', async () => {
  const cases = [
    ['maximum', int(3), int(5), int(5)],
    ['maximum', int(5), int(3), int(5)],
    ['minimum', int(3), int(5), int(3)],
    ['maximum', int(3), double(3.5), double(3.5)],
    ['minimum', double(2.5), int(3), double(2.5)],
    ['maximum', int(3), double(3), int(3)],
    ['minimum', double(3), int(3), double(3)],
    ['maximum', double(0), double(-0), double(0)],
    ['maximum', double(NaN), int(1), double(NaN)],
    ['minimum', int(1), double(NaN), double(NaN)],
    ['maximum', null, int(1), int(1)],
    ['minimum', string('x'), int(9), int(9)],
  ];
  for (const [kind, before, by, after] of cases) await transforms(before, { [kind]: by }, after);
});

item('transforms: arrays take what they lack and lose what they are told', async () => {
  const cases = [
    ['appendMissingElements', array(int(1), string('a')), [int(2), string('a'), int(2)], array(int(1), string('a'), int(2))],
    ['appendMissingElements', array(int(1)), [double(1), double(1.5)], array(int(1), double(1.5))],
    ['appendMissingElements', array(double(NaN)), [double(NaN)], array(double(NaN))],
    ['appendMissingElements', null, [int(1), int(1)], array(int(1))],
    ['appendMissingElements', string('x'), [map({ a: int(1) })], array(map({ a: int(1) }))],
    ['appendMissingElements', array(map({ a: int(1), b: int(2) })), [map({ b: int(2), a: int(1) })], array(map({ a: int(1), b: int(2) }))],
    ['removeAllFromArray', array(int(1), int(2), int(1), double(1)), [int(1)], array(int(2))],
    ['removeAllFromArray', array(string('a'), { nullValue: 'NULL_VALUE' }), [{ nullValue: 'NULL_VALUE' }], array(string('a'))],
    ['removeAllFromArray', null, [int(1)], array()],
    ['removeAllFromArray', int(7), [int(1)], array()],
  ];
  for (const [kind, before, values, after] of cases) await transforms(before, { [kind]: { values } }, after);
});

/** Sets a field, transforms it, and looks at it: by bytes where doubles are concerned. */
async function transforms(before, transform, after) {
  const path = `${freshId('t')}/a`;
  await commit(update(path, before ? { f: before, other: int(1) } : { other: int(1) }));
  const response = await commit({ transform: { document: name(path), fieldTransforms: [{ fieldPath: 'f', ...transform }] } });
  const { fields } = await call('getDocument', { name: name(path) });
  const said = JSON.stringify([before, transform]);
  assert.deepEqual(plain(fields.f), plain(after), said);
  assert.deepEqual(plain(fields.other), int(1));
  const [result] = response.writeResults[0].transformResults;
  const silent = 'appendMissingElements' in transform || 'removeAllFromArray' in transform;
  assert.deepEqual(plain(result), silent ? { nullValue: 'NULL_VALUE' } : plain(after), `result of ${said}`);
}

/** Without the loader's defaults; NaN and -0 made visible. */
function plain(value) {
  const { valueType, ...rest } = value;
  const kind = valueType ?? Object.keys(rest)[0];
  const inner = rest[kind];
  switch (kind) {
    case 'doubleValue':
      return { doubleValue: Object.is(inner, -0) ? '-0' : String(inner) };
    case 'arrayValue':
      return { arrayValue: (inner.values ?? []).map(plain) };
    case 'mapValue':
      return { mapValue: Object.fromEntries(Object.entries(inner.fields ?? {}).sort().map(([k, v]) => [k, plain(v)])) };
    default:
      return { [kind]: inner };
  }
}

item('transforms: after the update of the same write; in order; their results', async () => {
  const path = `${freshId('t')}/a`;
  const fieldTransforms = [
    { fieldPath: 'n', increment: int(2) },
    { fieldPath: 'n', increment: int(3) },
    { fieldPath: 'm.at', setToServerValue: 'REQUEST_TIME' },
    { fieldPath: 'l', appendMissingElements: { values: [int(1)] } },
  ];
  const response = await commit(update(path, { n: int(10) }, { updateTransforms: fieldTransforms }));
  const results = response.writeResults[0].transformResults.map(plain);
  assert.deepEqual(results.slice(0, 2), [int(12), int(15)]);
  const { fields: { m } } = await call('getDocument', { name: name(path) });
  assert.deepEqual(results[2], plain(m).mapValue.at);
  const { fields } = await call('getDocument', { name: name(path) });
  assert.deepEqual(plain(fields.n), int(15));
  assert.deepEqual(Object.keys(fields).sort(), ['l', 'm', 'n']);
});

item('transforms: 500 of one document in a commit, not 501', async () => {
  const path = `${freshId('t')}/a`;
  const many = (n) => Array.from({ length: n }, (_, i) => ({ fieldPath: `f${i}`, increment: int(1) }));
  await commit(update(path, {}, { updateTransforms: many(500) }));
  await fails('INVALID_ARGUMENT', commit(update(path, {}, { updateTransforms: many(501) })));
}, { hidane: 'does not count them' });

item('transforms: with preconditions; a transform alone makes the document', async () => {
  const c = freshId('t');
  const transform = { document: name(`${c}/a`), fieldTransforms: [{ fieldPath: 'n', increment: int(1) }] };
  await fails('NOT_FOUND', commit({ transform, ...exists(true) }));
  await commit({ transform });
  await commit({ transform, ...exists(true) });
  assert.deepEqual(plain((await call('getDocument', { name: name(`${c}/a`) })).fields.n), int(2));
  await fails('ALREADY_EXISTS', commit({ transform, ...exists(false) }));
});

item('BatchWrite: a status for each write; what fails takes nothing with it', async () => {
  const c = freshId('b');
  await commit(update(`${c}/there`, { n: int(1) }));
  const response = await call('batchWrite', {
    database,
    writes: [
      update(`${c}/a`, { n: int(1) }),
      update(`${c}/missing`, { n: int(1) }, exists(true)),
      update(`${c}/there`, { n: int(2) }, exists(false)),
      { delete: name(`${c}/none`) },
      update(`${c}/b`, { n: int(3) }, { updateTransforms: [{ fieldPath: 'n', increment: int(4) }] }),
    ],
  });
  assert.deepEqual(response.status.map((s) => s.code), [0, 5, 6, 0, 0]);
  assert.equal(response.writeResults.length, 5);
  assert.deepEqual(plain(response.writeResults[4].transformResults[0]), int(7));
  const now = (await db.collection(c).get()).docs.map((d) => [d.id, d.get('n')]);
  assert.deepEqual(now, [['a', 1], ['b', 7], ['there', 1]]);
  await fails('INVALID_ARGUMENT', call('batchWrite', { database, writes: [update(`${c}/x`, {}), { delete: name(`${c}/x`) }] }));
});

item('BulkWriter: hundreds of writes; failures named; retries as asked', async () => {
  const c = fresh();
  await c.doc('7').set({ taken: true });
  const writer = db.bulkWriter();
  const errors = [];
  let attempts = 0;
  writer.onWriteError((error) => {
    if (error.documentRef.id === 'missing' && attempts < 2) {
      attempts += 1;
      return true;
    }
    errors.push([error.operationType, error.documentRef.id, error.code]);
    return false;
  });
  const done = [];
  for (let i = 0; i < 300; i += 1) done.push(writer.create(c.doc(String(i)), { i }).catch((e) => e.code));
  done.push(writer.update(c.doc('missing'), { a: 1 }).catch((e) => e.code));
  await writer.flush();
  done.push(writer.update(c.doc('8'), { i: FieldValue.increment(100) }));
  done.push(writer.delete(c.doc('9')));
  await writer.close();
  const results = await Promise.all(done);
  assert.deepEqual([...new Set(results.filter((r) => typeof r === 'number'))].sort(), [5, 6]);
  assert.deepEqual(errors.sort(), [['create', '7', 6], ['update', 'missing', 5]]);
  assert.equal(attempts, 2);
  assert.equal((await c.count().get()).data().count, 299);
  assert.equal((await c.doc('8').get()).get('i'), 108);
}, { slow: true });

item('recursiveDelete: a document with everything below it, and a whole collection', async () => {
  const c = fresh();
  const twig = (path) => c.doc(path);
  for (const path of ['a', 'a/s/1', 'a/s/2/t/deep', 'a/u/3', 'b', 'b/s/1', 'ab/s/1']) await twig(path).set({ path });
  await db.recursiveDelete(c.doc('a'));
  assert.deepEqual((await c.listDocuments()).map((d) => d.id), ['ab', 'b']);
  assert.deepEqual((await c.doc('a').listCollections()).length, 0);
  assert.equal((await twig('b/s/1').get()).exists, true);
  await db.recursiveDelete(c);
  assert.deepEqual(await c.listDocuments(), []);
}, { slow: true });

item('Write stream: token by token, in order; a failing write ends it', async () => {
  const c = freshId('w');
  const pipe = duplex('write');
  pipe.send({ database });
  const opened = await pipe.next();
  assert.ok(opened.streamToken.length > 0);
  let { streamToken } = opened;
  for (let n = 1; n <= 3; n += 1) {
    pipe.send({ streamToken, writes: [update(`${c}/a`, { n: int(n) }), update(`${c}/b${n}`, { n: int(n) })] });
    const answer = await pipe.next();
    assert.equal(answer.writeResults.length, 2);
    assert.ok(answer.commitTime);
    ({ streamToken } = answer);
  }
  assert.deepEqual((await db.collection(c).get()).docs.map((d) => [d.id, d.get('n')]), [['a', 3], ['b1', 1], ['b2', 2], ['b3', 3]]);
  pipe.send({ streamToken, writes: [update(`${c}/c`, { n: int(1) }), update(`${c}/missing`, {}, exists(true))] });
  await fails('NOT_FOUND', pipe.next());
  assert.equal((await db.collection(c).doc('c').get()).exists, false);
});
