// Single documents, lists of them, names and times.

import { assert, fails, fresh, freshId, item, sleep } from './harness.mjs';
import { call, database, db, documents, FieldPath, FieldValue, int, stream, string, Timestamp } from './clients.mjs';

const ids = (list) => list.map((document) => document.id);
const name = (path) => `${documents}/${path}`;
const before = (a, b) => a.valueOf() < b.valueOf();

item('documents: get, with times; a missing one', async () => {
  const doc = fresh().doc('a');
  const missing = await doc.get();
  assert.equal(missing.exists, false);
  assert.equal(missing.data(), undefined);
  assert.ok(missing.readTime);
  const { writeTime } = await doc.set({ n: 1, s: 'x' });
  const snapshot = await doc.get();
  assert.deepEqual(snapshot.data(), { n: 1, s: 'x' });
  assert.ok(snapshot.createTime.isEqual(writeTime));
  assert.ok(snapshot.updateTime.isEqual(writeTime));
  assert.ok(!before(snapshot.readTime, writeTime));
  assert.equal(writeTime.nanoseconds % 1000, 0, 'times are whole microseconds');
});

item('documents: create; of an existing one ALREADY_EXISTS', async () => {
  const doc = fresh().doc('a');
  await doc.create({ n: 1 });
  await fails('ALREADY_EXISTS', doc.create({ n: 2 }));
  assert.deepEqual((await doc.get()).data(), { n: 1 });
});

item('documents: set replaces, merges, merges fields', async () => {
  const doc = fresh().doc('a');
  await doc.set({ a: 1, m: { x: 1, y: 2 } });
  await doc.set({ m: { y: 3, z: FieldValue.delete() }, b: 2 }, { merge: true });
  assert.deepEqual((await doc.get()).data(), { a: 1, b: 2, m: { x: 1, y: 3 } });
  await doc.set({ a: 9, m: { x: 8, q: 7 }, ignored: 1 }, { mergeFields: ['a', 'm.q'] });
  assert.deepEqual((await doc.get()).data(), { a: 9, b: 2, m: { x: 1, y: 3, q: 7 } });
  await doc.set({ m: {} }, { merge: true });
  assert.deepEqual((await doc.get()).data(), { a: 9, b: 2, m: {} }, 'a merged empty map replaces');
  await doc.set({ only: true });
  assert.deepEqual((await doc.get()).data(), { only: true });
});

item('documents: update by paths; delete of fields; of a missing one NOT_FOUND', async () => {
  const doc = fresh().doc('a');
  await fails('NOT_FOUND', doc.update({ a: 1 }), /No document to update|not found/i);
  await doc.set({ a: 1, m: { x: 1, y: { deep: [1, 2] } }, 'dotted.name': 1, '`': 2 });
  await doc.update({ 'm.y.new': true, a: FieldValue.delete(), 'm.none': FieldValue.delete() });
  await doc.update(new FieldPath('dotted.name'), 5, new FieldPath('`'), FieldValue.delete(), new FieldPath('ü\\'), 6);
  assert.deepEqual((await doc.get()).data(), {
    m: { x: 1, y: { deep: [1, 2], new: true } },
    'dotted.name': 5,
    'ü\\': 6,
  });
  await doc.update({ 'm.x.over': 1 });
  assert.deepEqual((await doc.get()).get('m.x'), { over: 1 }, 'a path through a number replaces it');
});

item('documents: delete, also of a missing one', async () => {
  const doc = fresh().doc('a');
  await doc.delete();
  await doc.set({ a: 1 });
  await doc.delete();
  assert.equal((await doc.get()).exists, false);
  await fails('NOT_FOUND', doc.delete({ exists: true }));
});

item('documents: preconditions on update times', async () => {
  const doc = fresh().doc('a');
  const first = (await doc.set({ n: 1 })).writeTime;
  const second = (await doc.update({ n: 2 }, { lastUpdateTime: first })).writeTime;
  assert.ok(before(first, second));
  await fails('FAILED_PRECONDITION', doc.update({ n: 3 }, { lastUpdateTime: first }));
  await fails('FAILED_PRECONDITION', doc.delete({ lastUpdateTime: first }));
  assert.deepEqual((await doc.get()).data(), { n: 2 });
  await doc.delete({ lastUpdateTime: second });
  assert.equal((await doc.get()).exists, false);
  const gone = [{ update: { name: name(doc.path), fields: {} }, currentDocument: { updateTime: protoTime(second) } }];
  await fails('FAILED_PRECONDITION', call('commit', { database, writes: gone }));
});

const protoTime = (at) => ({ seconds: String(at.seconds), nanos: at.nanoseconds });

item('documents: getAll in order, twice the same, missing, masked', async () => {
  const c = fresh();
  await c.doc('a').set({ n: 1, m: { x: 1, y: 2 } });
  await c.doc('b').set({ n: 2 });
  const all = await db.getAll(c.doc('b'), c.doc('none'), c.doc('a'), c.doc('b'));
  assert.deepEqual(ids(all), ['b', 'none', 'a', 'b']);
  assert.deepEqual(all.map((d) => d.exists), [true, false, true, true]);
  const masked = await db.getAll(c.doc('a'), c.doc('b'), { fieldMask: ['m.y', 'none'] });
  assert.deepEqual(masked.map((d) => d.data()), [{ m: { y: 2 } }, {}]);
});

item('documents: listDocuments shows missing parents', async () => {
  const c = fresh();
  await c.doc('b').set({ n: 1 });
  await c.doc('a').collection('sub').doc('x').set({ n: 1 });
  await c.doc('c').collection('sub').doc('y').collection('deeper').doc('z').set({ n: 1 });
  const list = await c.listDocuments();
  assert.deepEqual(ids(list), ['a', 'b', 'c']);
  assert.deepEqual((await db.getAll(...list)).map((d) => d.exists), [false, true, false]);
  assert.deepEqual(ids(await c.doc('c').collection('sub').listDocuments()), ['y']);
  assert.deepEqual(ids((await c.get()).docs), ['b'], 'a query shows no missing ones');
});

item('documents: ListDocuments in pages, masked, ordered, missing', async () => {
  const c = fresh();
  for (const i of [1, 2, 3, 4, 5]) await c.doc(`d${i}`).set({ n: 10 - i, m: i });
  await c.doc('d0').collection('s').doc('x').set({});
  const request = { parent: documents, collectionId: c.id, pageSize: 2 };
  const pages = [];
  let pageToken = '';
  do {
    const page = await call('listDocuments', { ...request, pageToken });
    pages.push(page.documents.map(lastId));
    pageToken = page.nextPageToken;
  } while (pageToken && pages.length < 9);
  assert.deepEqual(pages.slice(0, 3), [['d1', 'd2'], ['d3', 'd4'], ['d5']]);
  assert.deepEqual(pages.slice(3).flat(), []);
  const masked = { ...request, pageSize: 100, orderBy: 'n desc, __name__ desc', mask: { fieldPaths: ['m'] } };
  const ordered = (await call('listDocuments', masked)).documents;
  assert.deepEqual(ordered.map((d) => Object.keys(d.fields).join()), ['m', 'm', 'm', 'm', 'm']);
  assert.deepEqual(ordered.map(lastId), ['d1', 'd2', 'd3', 'd4', 'd5']);
  const missing = (await call('listDocuments', { ...request, pageSize: 100, showMissing: true })).documents;
  assert.deepEqual(missing.map((d) => [lastId(d), d.createTime != null]).slice(0, 2), [['d0', false], ['d1', true]]);
  await fails('INVALID_ARGUMENT', call('listDocuments', { ...request, showMissing: true, orderBy: 'n' }));
});

const lastId = (document) => document.name.split('/').pop();

item('documents: collection ids of a document and of the root, in pages', async () => {
  const doc = fresh().doc('parent');
  for (const id of ['b', 'a', 'ü', 'c d']) await doc.collection(id).doc('x').set({});
  await doc.collection('e').doc('x').collection('f').doc('y').set({});
  assert.deepEqual(ids(await doc.listCollections()), ['a', 'b', 'c d', 'e', 'ü']);
  const roots = ids(await db.listCollections());
  assert.ok(roots.includes(doc.parent.id));
  assert.deepEqual(roots, [...roots].sort());
  assert.ok(!roots.includes('f'));
  const seen = [];
  let pageToken = '';
  for (let page = 0; page < 9; page += 1) {
    const response = await call('listCollectionIds', { parent: name(doc.path), pageSize: 2, pageToken });
    assert.ok(response.collectionIds.length <= 2);
    seen.push(...response.collectionIds);
    pageToken = response.nextPageToken;
    if (!pageToken) break;
  }
  assert.deepEqual(seen, ['a', 'b', 'c d', 'e', 'ü']);
});

item('documents: the single calls (CreateDocument, GetDocument, UpdateDocument, DeleteDocument)', async () => {
  const c = freshId();
  const made = await call('createDocument', { parent: documents, collectionId: c, document: { fields: { n: int(1) } } });
  assert.match(made.name, new RegExp(`^${escape(documents)}/${c}/[A-Za-z0-9]{20}$`));
  assert.deepEqual(made.createTime, made.updateTime);
  const request = { parent: documents, collectionId: c, documentId: 'a', document: { fields: { n: int(1), m: string('x') } } };
  assert.equal((await call('createDocument', request)).name, name(`${c}/a`));
  await fails('ALREADY_EXISTS', call('createDocument', request));
  const got = await call('getDocument', { name: name(`${c}/a`), mask: { fieldPaths: ['m'] } });
  assert.deepEqual(Object.keys(got.fields), ['m']);
  await fails('NOT_FOUND', call('getDocument', { name: name(`${c}/none`) }), /not found/i);
  const updated = await call('updateDocument', {
    document: { name: name(`${c}/a`), fields: { n: int(2), ignored: int(3) } },
    updateMask: { fieldPaths: ['n', 'm'] },
    mask: { fieldPaths: ['n', 'm', 'ignored'] },
  });
  assert.deepEqual(Object.entries(updated.fields).map(([k, v]) => [k, v.integerValue]), [['n', '2']]);
  const upsert = await call('updateDocument', { document: { name: name(`${c}/new`), fields: { n: int(7) } } });
  assert.equal(upsert.name, name(`${c}/new`));
  const strict = { document: { name: name(`${c}/no`), fields: {} }, currentDocument: { exists: true } };
  await fails('NOT_FOUND', call('updateDocument', strict));
  await call('deleteDocument', { name: name(`${c}/a`) });
  await call('deleteDocument', { name: name(`${c}/a`) });
  await fails('NOT_FOUND', call('deleteDocument', { name: name(`${c}/a`), currentDocument: { exists: true } }));
});

const escape = (text) => text.replace(/[()[\].*+?^$|\\]/g, '\\$&');

item('documents: names: unicode, numeric ids, 1,500 bytes; what is no id is refused', async () => {
  const c = fresh();
  const good = ['__id7__', '__id-7__', 'a b', 'é', '文', '😀', '%2F', '`', 'a'.repeat(1500), 'é'.repeat(750), '__id9007199254740993__'];
  for (const id of good.filter((id) => id !== '__id-7__')) await c.doc(id).set({ id });
  for (const id of good.filter((id) => id !== '__id-7__')) assert.equal((await c.doc(id).get()).get('id'), id);
  for (const id of ['a'.repeat(1501), '.', '..', '__bad__', '____', '__idx__']) {
    const writes = [{ update: { name: name(`${c.id}/${id}`), fields: {} } }];
    await fails('INVALID_ARGUMENT', call('commit', { database, writes }));
  }
  for (const path of ['', 'only', 'a/b/c', 'a//b/c', '/a/b']) {
    await fails('INVALID_ARGUMENT', call('commit', { database, writes: [{ update: { name: name(path), fields: {} } }] }));
  }
  await fails('INVALID_ARGUMENT', call('commit', { database, writes: [{ update: { name: 'nonsense', fields: {} } }] }));
});

item('documents: numeric ids come first, in the order of numbers; then by UTF-8 bytes', async () => {
  const c = fresh();
  const order = ['__id7__', '__id70__', '__id100__', '0', 'B', 'a', 'é', '\uFFFD', '😀'];
  for (const id of [...order].reverse()) await c.doc(id).set({});
  assert.deepEqual(ids((await c.get()).docs), order);
  assert.deepEqual(ids(await c.listDocuments()), order);
  assert.deepEqual(ids((await c.where(FieldPath.documentId(), '>', '__id70__').limit(2).get()).docs), ['__id100__', '0']);
});

item('documents: names in descending order', async () => {
  const c = fresh();
  for (const id of ['__id7__', 'b', 'a', '__id10__']) await c.doc(id).set({});
  assert.deepEqual(ids((await c.orderBy(FieldPath.documentId(), 'desc').get()).docs), ['b', 'a', '__id10__', '__id7__']);
  assert.deepEqual(ids((await c.orderBy(FieldPath.documentId(), 'desc').startAfter('b').limit(2).get()).docs), ['a', '__id10__']);
}, { hidane: 'refuses descending scans of keys, as production without an index of its own does' });

item('times: a write that changes nothing keeps the update time', async () => {
  const doc = fresh().doc('a');
  const first = (await doc.set({ n: 1, m: { x: [1, 'a'] } })).writeTime;
  const again = (await doc.set({ m: { x: [1, 'a'] }, n: 1 })).writeTime;
  assert.ok(again.isEqual(first));
  assert.ok((await doc.get()).updateTime.isEqual(first));
  await doc.update({ n: 2 });
  assert.ok(before(first, (await doc.get()).updateTime));
  assert.ok((await doc.get()).createTime.isEqual(first));
});

item('times: update times grow; made again, a document is new', async () => {
  const doc = fresh().doc('a');
  let last = (await doc.set({ n: 0 })).writeTime;
  const created = last;
  for (let n = 1; n <= 20; n += 1) {
    const { writeTime } = await doc.update({ n });
    assert.ok(before(last, writeTime));
    last = writeTime;
  }
  await doc.delete();
  await doc.set({ n: 1 });
  assert.ok(before(created, (await doc.get()).createTime));
});

item('times: a read at a past time sees that time', async () => {
  const c = fresh();
  const doc = c.doc('a');
  const times = [];
  for (const n of [1, 2, 3]) {
    times.push((await doc.set({ n })).writeTime);
    await sleep(5);
  }
  const other = (await c.doc('b').set({ n: 9 })).writeTime;
  const deleted = (await doc.delete()).writeTime;
  const at = async (readTime) => {
    const [found] = await stream('batchGetDocuments', { database, documents: [name(doc.path)], readTime: protoTime(readTime) });
    return found.found ? Number(found.found.fields.n.integerValue) : null;
  };
  for (const [i, time] of times.entries()) assert.equal(await at(time), i + 1);
  assert.equal(await at(minus(times[0], 1)), null, 'before it was made');
  assert.equal(await at(minus(times[1], 1)), 1, 'a microsecond before the second write');
  assert.equal(await at(other), 3);
  assert.equal(await at(minus(deleted, 1)), 3);
  assert.equal(await at(deleted), null);
  const count = await db.runTransaction(async (t) => (await t.get(c.count())).data().count, { readOnly: true, readTime: other });
  assert.equal(count, 2);
  const then = await db.runTransaction(async (t) => (await t.get(c.orderBy('n'))).docs.map((d) => d.get('n')), {
    readOnly: true,
    readTime: times[1],
  });
  assert.deepEqual(then, [2]);
  const listed = await call('listDocuments', { parent: documents, collectionId: c.id, readTime: protoTime(times[2]) });
  assert.deepEqual(listed.documents.map((d) => d.fields.n.integerValue), ['3']);
  const single = await call('getDocument', { name: name(doc.path), readTime: protoTime(times[0]) });
  assert.equal(single.fields.n.integerValue, '1');
});

function minus(at, micros) {
  const total = BigInt(at.seconds) * 1_000_000n + BigInt(at.nanoseconds / 1000) - BigInt(micros);
  return new Timestamp(Number(total / 1_000_000n), Number(total % 1_000_000n) * 1000);
}

item('times: reads in the future and too long ago are refused', async () => {
  const doc = fresh().doc('a');
  await doc.set({});
  const read = (ms) => call('getDocument', { name: name(doc.path), readTime: protoTime(Timestamp.fromMillis(Date.now() + ms)) });
  await fails('INVALID_ARGUMENT', read(3600_000));
  await fails('FAILED_PRECONDITION', read(-8 * 24 * 3600_000));
});
