// Queries: filters, orders, cursors, projections, groups, aggregations, partitions, vectors, explain.

import { assert, fails, fresh, freshId, item, sleep } from './harness.mjs';
import {
  AggregateField, array, call, db, documents, double, FieldPath, FieldValue, Filter, GeoPoint, int, stream, string, Timestamp,
} from './clients.mjs';

const ids = async (query) => (await query.get()).docs.map((d) => d.id);
const run = async (structuredQuery, parent = documents) =>
  (await stream('runQuery', { parent, structuredQuery })).filter((m) => m.document).map((m) => m.document);
const lastId = (document) => document.name.split('/').pop();

/** A collection with these documents, written at once. */
async function filled(all) {
  const c = fresh('q');
  const batch = db.batch();
  for (const [id, data] of Object.entries(all)) batch.set(c.doc(id), data);
  await batch.commit();
  return c;
}

const eleven = () => [
  ['null', null],
  ['false', false],
  ['true', true],
  ['nan', NaN],
  ['-inf', -Infinity],
  ['-max', -Number.MAX_VALUE],
  ['-1', -1],
  ['-min', -Number.MIN_VALUE],
  ['0', 0],
  ['min', Number.MIN_VALUE],
  ['1', 1],
  ['1.5', 1.5],
  ['2', 2],
  ['2^53', 2 ** 53],
  ['inf', Infinity],
  ['t-', new Timestamp(-62135596800, 0)],
  ['t0', new Timestamp(0, 0)],
  ['t1', new Timestamp(0, 1000)],
  ['t+', new Timestamp(253402300799, 999999000)],
  ['s', ''],
  ['s1', '\u0001'],
  ['sA', 'A'],
  ['sa', 'a'],
  ['saa', 'aa'],
  ['sfffd', '\uFFFD'],
  ['smile', '😀'],
  ['b', Buffer.from([])],
  ['b0', Buffer.from([0])],
  ['b00', Buffer.from([0, 0])],
  ['bff', Buffer.from([255])],
  ['r1', db.doc('a/__id7__')],
  ['r2', db.doc('a/__id10__')],
  ['r3', db.doc('a/b')],
  ['r4', db.doc('a/b/c/d')],
  ['r5', db.doc('a/b-')],
  ['r6', db.doc('b/a')],
  ['g1', new GeoPoint(-90, 180)],
  ['g2', new GeoPoint(0, -180)],
  ['g3', new GeoPoint(0, 0)],
  ['g4', new GeoPoint(90, 0)],
  ['l0', []],
  ['l1', [null]],
  ['l2', [1]],
  ['l3', [1, 'a']],
  ['l4', ['a']],
  ['v1', FieldValue.vector([5])],
  ['v2', FieldValue.vector([1, 2])],
  ['v3', FieldValue.vector([1, 3])],
  ['m0', {}],
  ['m1', { a: 1 }],
  ['m2', { a: 1, b: 0 }],
  ['m3', { a: 2 }],
  ['m4', { b: 0 }],
];

const TYPES = [['null', /^null$/], ['bool', /^(true|false)$/], ['number', /^(nan|-?inf|-?max|-?min|-?[\d.^]+)$/], ['time', /^t[-01+]$/], ['string', /^s/], ['bytes', /^b/], ['ref', /^r\d/], ['geo', /^g/], ['list', /^l/], ['vector', /^v/], ['map', /^m\d/]];
const typeOf = (id) => TYPES.find(([, pattern]) => pattern.test(id))[0];

item('queries: the order across all types, both ways, and cursors at every place', async () => {
  const values = eleven();
  const c = await filled(Object.fromEntries([...values].reverse().map(([id, v]) => [id, { v }])));
  const order = values.map(([id]) => id);
  assert.deepEqual(await ids(c.orderBy('v')), order);
  assert.deepEqual(await ids(c.orderBy('v', 'desc')), [...order].reverse());
  for (const [i, [id, v]] of values.entries()) {
    assert.deepEqual(await ids(c.orderBy('v').startAt(v)), order.slice(i), `from ${id}`);
    assert.deepEqual(await ids(c.orderBy('v').endBefore(v)), order.slice(0, i), `before ${id}`);
  }
}, { slow: true });

item('queries: inequality stays within a type; equality and != and in and not-in', async () => {
  const values = eleven();
  const c = await filled(Object.fromEntries(values.map(([id, v]) => [id, { v }])));
  await c.doc('absent').set({ other: 1 });
  const order = values.map(([id]) => id);
  for (const [i, [id, v]] of values.entries()) {
    if (['null', 'nan'].includes(id)) continue;
    const kin = order.filter((other) => typeOf(other) === typeOf(id) && other !== 'nan');
    assert.deepEqual(await ids(c.where('v', '==', v)), [id]);
    if (i % 3 === 0) {
      assert.deepEqual(await ids(c.where('v', '>', v)), kin.filter((o) => order.indexOf(o) > i), `> ${id}`);
      assert.deepEqual(await ids(c.where('v', '<=', v)), kin.filter((o) => order.indexOf(o) <= i), `<= ${id}`);
      assert.deepEqual(await ids(c.where('v', '>=', v).orderBy('v', 'desc')), kin.filter((o) => order.indexOf(o) >= i).reverse());
      assert.deepEqual(await ids(c.where('v', '!=', v)), order.filter((o) => o !== id && o !== 'null'), `!= ${id}`);
    }
  }
  assert.deepEqual(await ids(c.where('v', '==', null)), ['null']);
  assert.deepEqual(await ids(c.where('v', '!=', null)), order.filter((o) => o !== 'null'));
  assert.deepEqual(await ids(c.where('v', '==', NaN)), ['nan']);
  assert.deepEqual(await ids(c.where('v', '!=', NaN)), order.filter((o) => o !== 'nan' && o !== 'null'));
  assert.deepEqual(await ids(c.where('v', 'in', [2, 'a', true, 99, []])), ['2', 'l0', 'sa', 'true']);
  assert.deepEqual(await ids(c.where('v', 'not-in', [2, 'a', true])), order.filter((o) => !['null', 'true', '2', 'sa'].includes(o)));
  assert.deepEqual(await ids(c.where('v', 'not-in', [null, 1])), []);
}, { slow: true });

item('queries: integers above 2^53 are told from doubles beside them', async () => {
  const c = freshId('q');
  const big = '9007199254740993';
  const all = { a: double(2 ** 53), b: int(big), c: double(2 ** 53 + 2), d: int('9223372036854775807'), e: double(2 ** 63), f: int('9007199254740992') };
  const writes = Object.entries(all).map(([id, n]) => ({ update: { name: `${documents}/${c}/${id}`, fields: { n } } }));
  await call('commit', { database: documents.slice(0, -10), writes });
  const query = (more) => ({ from: [{ collectionId: c }], orderBy: [{ field: { fieldPath: 'n' } }], ...more });
  const where = (op, value) => ({ where: { fieldFilter: { field: { fieldPath: 'n' }, op, value } } });
  assert.deepEqual((await run(query({}))).map(lastId), ['a', 'f', 'b', 'c', 'd', 'e']);
  assert.deepEqual((await run(query(where('EQUAL', int(big))))).map(lastId), ['b']);
  assert.deepEqual((await run(query(where('EQUAL', double(2 ** 53))))).map(lastId), ['a', 'f']);
  assert.deepEqual((await run(query(where('GREATER_THAN', int('9223372036854775806'))))).map(lastId), ['d', 'e']);
  assert.deepEqual((await run(query(where('LESS_THAN', double(2 ** 63))))).map(lastId), ['a', 'f', 'b', 'c', 'd']);
});

item('queries: -0 and 0 are equal; names break the tie', async () => {
  const c = await filled({ c: { n: -0 }, a: { n: 0 }, b: { n: 0.0 }, d: { n: 1 } });
  assert.deepEqual(await ids(c.where('n', '==', 0)), ['a', 'b', 'c']);
  assert.deepEqual(await ids(c.where('n', '==', -0).orderBy(FieldPath.documentId())), ['a', 'b', 'c']);
  assert.deepEqual(await ids(c.orderBy('n').limit(2)), ['a', 'b']);
  assert.ok(Object.is((await c.doc('c').get()).get('n'), -0));
});

item('queries: arrays: contains, contains any', async () => {
  const c = await filled({
    a: { l: [1, 'x', NaN, null, { k: 1 }] }, b: { l: [2, [].length, 'y'] }, c: { l: [] }, d: { l: 'x' }, e: { l: { 0: 1 } }, f: { l: [1, 1, 'y'] },
  });
  assert.deepEqual(await ids(c.where('l', 'array-contains', 1)), ['a', 'f']);
  assert.deepEqual(await ids(c.where('l', 'array-contains', 'x')), ['a']);
  assert.deepEqual(await ids(c.where('l', 'array-contains', { k: 1 })), ['a']);
  assert.deepEqual(await ids(c.where('l', 'array-contains-any', [1, 'y'])), ['a', 'b', 'f']);
  assert.deepEqual(await ids(c.where('l', 'array-contains-any', ['z', 2])), ['b']);
  assert.deepEqual(await ids(c.where('l', '==', [1, 1, 'y'])), ['f']);
  assert.deepEqual(await ids(c.where('l', 'array-contains', 1).where('l', '==', [1, 1, 'y'])), ['f']);
  assert.deepEqual(await ids(c.where('l', 'in', [[], [1, 1, 'y']])), ['c', 'f']);
});

item('queries: nested fields, quoted names, whole maps, document ids', async () => {
  const c = await filled({ a: { m: { x: { y: 1 } } }, b: { m: { x: { y: 2 } } }, c: { 'm.x': { y: 1 }, 'ö`\\': 1 }, d: { m: 1 } });
  assert.deepEqual(await ids(c.where('m.x.y', '>', 0)), ['a', 'b']);
  assert.deepEqual(await ids(c.where('m.x', '==', { y: 2 })), ['b']);
  assert.deepEqual(await ids(c.where(new FieldPath('m.x', 'y'), '==', 1)), ['c']);
  assert.deepEqual(await ids(c.where(new FieldPath('ö`\\'), '==', 1)), ['c']);
  assert.deepEqual(await ids(c.orderBy('m.x.y', 'desc')), ['b', 'a']);
  const id = FieldPath.documentId();
  assert.deepEqual(await ids(c.where(id, '>=', 'b').where(id, '<', 'd')), ['b', 'c']);
  assert.deepEqual(await ids(c.where(id, 'in', ['d', 'a', 'none'])), ['a', 'd']);
  assert.deepEqual(await ids(c.where(id, '==', 'c')), ['c']);
  assert.deepEqual(await ids(c.where(id, '!=', 'c')), ['a', 'b', 'd']);
  assert.deepEqual(await ids(c.where(id, 'not-in', ['c', 'a'])), ['b', 'd']);
  assert.deepEqual(await ids(c.where('m.x.y', '>', 0).where(id, '<', 'b').orderBy('m.x.y')), ['a']);
});

const grid = () => {
  const all = {};
  for (let a = 0; a < 4; a += 1) for (let b = 0; b < 4; b += 1) all[`d${a}${b}`] = { a, b, sum: a + b, t: a % 2 ? 'odd' : 'even', l: [a, b] };
  all.none = { other: 1 };
  return all;
};

item('queries: AND, OR, nested', async () => {
  const c = await filled(grid());
  assert.deepEqual(await ids(c.where('a', '==', 1).where('b', '>=', 2)), ['d12', 'd13']);
  assert.deepEqual(await ids(c.where(Filter.or(Filter.where('a', '==', 3), Filter.where('b', '==', 3)))), ['d03', 'd13', 'd23', 'd30', 'd31', 'd32', 'd33']);
  const nested = Filter.and(
    Filter.where('t', '==', 'odd'),
    Filter.or(Filter.and(Filter.where('a', '==', 1), Filter.where('b', '==', 0)), Filter.where('b', '==', 3)),
  );
  assert.deepEqual(await ids(c.where(nested)), ['d10', 'd13', 'd33']);
  const ranged = Filter.or(Filter.where('a', '>', 2), Filter.where('b', '<', 1));
  assert.deepEqual(await ids(c.where(ranged)), ['d00', 'd10', 'd20', 'd30', 'd31', 'd32', 'd33']);
  assert.deepEqual(await ids(c.where(Filter.or(Filter.where('a', '==', 0), Filter.where('a', '==', 2))).orderBy('sum', 'desc').limit(3)), ['d23', 'd22', 'd21']);
  assert.deepEqual(await ids(c.where('a', 'in', [0, 2]).where('b', 'in', [1, 3])), ['d01', 'd03', 'd21', 'd23']);
  assert.deepEqual(await ids(c.where(Filter.or(Filter.where('l', 'array-contains', 3), Filter.where('sum', '==', 0)))), ['d00', 'd03', 'd13', 'd23', 'd30', 'd31', 'd32', 'd33']);
  assert.deepEqual(await ids(c.where('a', 'in', [1, 2]).where('l', 'array-contains', 3)), ['d13', 'd23']);
});

item('queries: several inequality fields; implied orders; mixed directions', async () => {
  const c = await filled(grid());
  assert.deepEqual(await ids(c.where('a', '>', 1).where('b', '<', 1)), ['d20', 'd30']);
  assert.deepEqual(await ids(c.where('a', '>=', 2).where('b', '>', 1).orderBy('b', 'desc')), ['d33', 'd23', 'd32', 'd22']);
  assert.deepEqual(await ids(c.where('a', '>=', 2).where('b', '>', 1)), ['d22', 'd23', 'd32', 'd33']);
  assert.deepEqual(await ids(c.orderBy('sum', 'desc').orderBy('a').limit(5)), ['d33', 'd23', 'd32', 'd13', 'd22']);
  assert.deepEqual(await ids(c.where('a', '!=', 1).where('b', '==', 0)), ['d00', 'd20', 'd30']);
  assert.deepEqual(await ids(c.where('t', '==', 'odd').orderBy('b').orderBy('a', 'desc').limit(3)), ['d30', 'd10', 'd31']);
});

item('queries: cursors by values and by documents; prefixes', async () => {
  const c = await filled(grid());
  const q = c.orderBy('a').orderBy('b', 'desc');
  assert.deepEqual(await ids(q.startAt(2).limit(2)), ['d23', 'd22']);
  assert.deepEqual(await ids(q.startAfter(2).limit(2)), ['d33', 'd32']);
  assert.deepEqual(await ids(q.startAfter(2, 2).endAt(3, 2)), ['d21', 'd20', 'd33', 'd32']);
  assert.deepEqual(await ids(q.startAt(2, 2).endBefore(3)), ['d22', 'd21', 'd20']);
  const snapshot = await c.doc('d12').get();
  assert.deepEqual(await ids(q.startAfter(snapshot).limit(2)), ['d11', 'd10']);
  assert.deepEqual(await ids(q.endAt(snapshot)), ['d03', 'd02', 'd01', 'd00', 'd13', 'd12']);
  assert.deepEqual(await ids(c.orderBy('sum').startAt(snapshot).limit(3)), ['d12', 'd21', 'd30']);
  assert.deepEqual(await ids(c.orderBy('sum').orderBy(FieldPath.documentId()).startAt(3, 'd20').limit(2)), ['d21', 'd30']);
  assert.deepEqual(await ids(c.orderBy('a').startAt('text')), []);
  assert.deepEqual(await ids(c.where('a', '>', 0).orderBy('a').startAt(-5).limit(1)), ['d10']);
  assert.deepEqual(await ids(c.where('t', '==', 'odd').startAfter(snapshot).limit(2)), ['d13', 'd30']);
});

item('queries: limit, offset, limitToLast', async () => {
  const c = await filled(grid());
  const q = c.orderBy('sum').orderBy('a');
  const all = await ids(q);
  assert.equal(all.length, 16);
  assert.deepEqual(await ids(q.offset(3).limit(4)), all.slice(3, 7));
  assert.deepEqual(await ids(q.offset(14).limit(4)), all.slice(14));
  assert.deepEqual(await ids(q.offset(20)), []);
  assert.deepEqual(await ids(q.limitToLast(3)), all.slice(-3));
  assert.deepEqual(await ids(q.limitToLast(100)), all);
  assert.deepEqual(await ids(q.endBefore(4).limitToLast(2)), all.filter((id) => Number(id[1]) + Number(id[2]) < 4).slice(-2));
  assert.deepEqual(await ids(q.startAt(5).limitToLast(9)), ['d23', 'd32', 'd33']);
  assert.deepEqual(await ids(c.where('a', '==', 2).orderBy('b', 'desc').limitToLast(2)), ['d21', 'd20']);
});

item('queries: select gives what is asked for', async () => {
  const c = await filled({ a: { m: { x: 1, y: 2 }, n: 3, o: 4 }, b: { n: 5 } });
  const data = async (q) => (await q.get()).docs.map((d) => d.data());
  assert.deepEqual(await data(c.select('m.x', 'n')), [{ m: { x: 1 }, n: 3 }, { n: 5 }]);
  assert.deepEqual(await data(c.select()), [{}, {}]);
  assert.deepEqual(await data(c.where('o', '==', 4).select('n')), [{ n: 3 }]);
  assert.deepEqual(await data(c.orderBy('n', 'desc').select('none')), [{}, {}]);
  const [first] = (await c.select('n').get()).docs;
  assert.ok(first.createTime && first.updateTime);
});

item('queries: collection groups', async () => {
  const group = freshId('group');
  const root = fresh();
  for (const path of ['a', 'b/x/1', 'b/x/2/y/3']) await root.doc(path).collection(group).doc('d').set({ path, n: path.length });
  await db.collection(group).doc('top').set({ path: '', n: 0 });
  await root.doc('a').collection(`${group}x`).doc('d').set({ path: 'no', n: 1 });
  const paths = async (q) => (await q.get()).docs.map((d) => d.get('path'));
  const all = db.collectionGroup(group);
  assert.deepEqual(await paths(all.orderBy('n')), ['', 'a', 'b/x/1', 'b/x/2/y/3']);
  assert.deepEqual(await paths(all.where('n', '>', 1).orderBy('n', 'desc')), ['b/x/2/y/3', 'b/x/1']);
  assert.deepEqual((await paths(all)).sort(), ['', 'a', 'b/x/1', 'b/x/2/y/3']);
  const id = FieldPath.documentId();
  const below = all.where(id, '>=', `${root.id}/b`).where(id, '<', `${root.id}/c/${group}/x`);
  assert.deepEqual(await paths(below), ['b/x/1', 'b/x/2/y/3']);
  assert.equal((await all.count().get()).data().count, 4);
  // All descendants of one document only.
  const from = [{ collectionId: group, allDescendants: true }];
  assert.equal((await run({ from }, `${documents}/${root.id}/b`)).length, 2);
  // Every descendant, whatever its collection is called.
  const every = await run({ from: [{ allDescendants: true }] }, `${documents}/${root.id}/a`);
  assert.deepEqual(every.map((d) => d.fields.path.stringValue).sort(), ['a', 'no']);
});

item('queries: a group does not see collections whose id only begins alike; a parent not its siblings', async () => {
  const c = fresh();
  for (const path of ['a/s/1', 'ab/s/2', 'a-/s/3', 'a/s/1/s/4', 'a/st/5']) await c.doc(path).set({ path });
  const paths = async (q) => (await q.get()).docs.map((d) => d.get('path'));
  assert.deepEqual(await paths(c.doc('a').collection('s')), ['a/s/1']);
  assert.deepEqual(await paths(c.doc('a/s/1').collection('s')), ['a/s/1/s/4']);
  assert.deepEqual((await run({ from: [{ collectionId: 's', allDescendants: true }] }, `${documents}/${c.id}/a`)).map(lastId).sort(), ['1', '4']);
});

item('aggregations: count, sum, average', async () => {
  const c = await filled({ a: { n: 1, x: 1 }, b: { n: 2, x: 'no' }, c: { n: 4.5 }, d: { s: 1 }, e: { n: null } });
  const sums = async (q) => (await q.aggregate({ count: AggregateField.count(), sum: AggregateField.sum('n'), average: AggregateField.average('n') }).get()).data();
  assert.deepEqual(await sums(c), { count: 4, sum: 7.5, average: 2.5 }, 'only documents that have the field');
  assert.equal((await c.count().get()).data().count, 5);
  assert.deepEqual(await sums(c.where('n', '<', 4)), { count: 2, sum: 3, average: 1.5 });
  assert.deepEqual(await sums(c.where('n', '>', 100)), { count: 0, sum: 0, average: null });
  assert.deepEqual(await sums(c.where('n', '>', 0).orderBy('n', 'desc').limit(2)), { count: 2, sum: 6.5, average: 3.25 });
  assert.deepEqual(await sums(c.where('n', '>', 0).orderBy('n').offset(1)), { count: 2, sum: 6.5, average: 3.25 });
  assert.equal((await c.limit(3).count().get()).data().count, 3);
  assert.equal((await c.offset(3).count().get()).data().count, 2);
  assert.equal((await c.orderBy('n').limitToLast(2).count().get()).data().count, 2);
  assert.equal((await c.where('n', 'in', [1, 2, 3]).count().get()).data().count, 2);
});

item('aggregations: whole numbers stay whole, and overflow into doubles; NaN', async () => {
  const c = freshId('q');
  const max = '9223372036854775807';
  const sum = async (values) => {
    const id = `${c}x${Math.random()}`;
    const writes = values.map((n, i) => ({ update: { name: `${documents}/${id}/${i}`, fields: { n } } }));
    await call('commit', { database: documents.slice(0, -10), writes });
    const aggregations = [{ sum: { field: { fieldPath: 'n' } } }, { alias: 'mean', avg: { field: { fieldPath: 'n' } } }, { count: {} }, { alias: 'two', count: { upTo: { value: 2 } } }];
    const structuredAggregationQuery = { structuredQuery: { from: [{ collectionId: id }] }, aggregations };
    const [answer] = await stream('runAggregationQuery', { parent: documents, structuredAggregationQuery });
    return answer.result.aggregateFields;
  };
  const whole = await sum([int(1), int(2), int('4611686018427387904')]);
  assert.deepEqual(Object.keys(whole).sort(), ['field_1', 'field_2', 'mean', 'two']);
  assert.deepEqual([whole.field_1.valueType, whole.field_1.integerValue], ['integerValue', '4611686018427387907']);
  assert.equal(whole.field_2.integerValue, '3');
  assert.equal(whole.two.integerValue, '2');
  assert.equal(whole.mean.doubleValue, (3 + 4611686018427387904) / 3);
  const over = await sum([int(max), int(max)]);
  assert.deepEqual([over.field_1.valueType, over.field_1.doubleValue], ['doubleValue', 2 ** 64]);
  const back = await sum([int(max), int(max), int(`-${max}`)]);
  assert.equal(Number(back.field_1.integerValue ?? back.field_1.doubleValue), Number(max));
  assert.ok(Number.isNaN((await sum([double(NaN), int(1)])).field_1.doubleValue));
  assert.equal((await sum([double(0.5), int(1)])).field_1.doubleValue, 1.5);
  const nothing = await sum([string('x')]);
  assert.deepEqual([nothing.field_1.integerValue, nothing.mean.valueType], ['0', 'nullValue']);
});

item('partitions: together they are the whole group, once each', async () => {
  const group = freshId('parts');
  const root = fresh();
  const writer = db.bulkWriter();
  for (let i = 0; i < 400; i += 1) void writer.set(root.doc(`p${i % 7}`).collection(group).doc(`d${i}`), { i });
  await writer.close();
  const partitions = [];
  for await (const partition of db.collectionGroup(group).getPartitions(5)) partitions.push(partition);
  assert.ok(partitions.length >= 1 && partitions.length <= 5, `${partitions.length} partitions`);
  const seen = [];
  for (const partition of partitions) seen.push(...(await partition.toQuery().get()).docs.map((d) => d.get('i')));
  assert.equal(seen.length, 400);
  assert.equal(new Set(seen).size, 400);
  // Raw: cursors in pages, at most as many as asked for.
  const structuredQuery = { from: [{ collectionId: group, allDescendants: true }], orderBy: [{ field: { fieldPath: '__name__' }, direction: 'ASCENDING' }] };
  const cursors = [];
  let pageToken = '';
  do {
    const page = await call('partitionQuery', { parent: documents, structuredQuery, partitionCount: 6, pageSize: 2, pageToken });
    assert.ok(page.partitions.length <= 2);
    cursors.push(...page.partitions);
    pageToken = page.nextPageToken;
  } while (pageToken);
  assert.ok(cursors.length <= 6);
  for (const cursor of cursors) assert.ok(cursor.values[0].referenceValue.startsWith(documents));
  const filtered = { ...structuredQuery, where: { fieldFilter: { field: { fieldPath: 'i' }, op: 'EQUAL', value: int(1) } } };
  await fails('INVALID_ARGUMENT', call('partitionQuery', { parent: documents, structuredQuery: filtered, partitionCount: 6 }));
}, { slow: true, hidane: 'has no PartitionQuery' });

item('partitions: of a group without documents', async () => {
  const partitions = [];
  for await (const partition of db.collectionGroup(freshId('none')).getPartitions(3)) partitions.push(partition);
  assert.equal(partitions.length, 1);
  assert.equal((await partitions[0].toQuery().get()).size, 0);
}, { hidane: 'has no PartitionQuery' });

item('vectors: findNearest by each measure, threshold, distance, filter', async () => {
  const v = (...numbers) => FieldValue.vector(numbers);
  const c = await filled({ a: { v: v(1, 0), k: 1 }, b: { v: v(0, 2), k: 1 }, c: { v: v(3, 4), k: 2 }, d: { v: v(1, 0, 0) }, e: { v: [1, 0] }, f: { k: 1 }, g: { v: v(-1, 0), k: 1 } });
  const near = async (q, options) => (await q.findNearest({ vectorField: 'v', queryVector: [1, 0], limit: 10, ...options }).get()).docs;
  const idsOf = (docs) => docs.map((d) => d.id);
  assert.deepEqual(idsOf(await near(c, { distanceMeasure: 'EUCLIDEAN' })), ['a', 'g', 'b', 'c']);
  assert.deepEqual(idsOf(await near(c, { distanceMeasure: 'COSINE' })), ['a', 'c', 'b', 'g']);
  assert.deepEqual(idsOf(await near(c, { distanceMeasure: 'DOT_PRODUCT' })), ['c', 'a', 'b', 'g']);
  assert.deepEqual(idsOf(await near(c, { distanceMeasure: 'EUCLIDEAN', limit: 2 })), ['a', 'g']);
  assert.deepEqual(idsOf(await near(c.where('k', '==', 1), { distanceMeasure: 'EUCLIDEAN' })), ['a', 'g', 'b']);
  const told = await near(c, { distanceMeasure: 'EUCLIDEAN', distanceResultField: 'far', distanceThreshold: 2.5 });
  assert.deepEqual(told.map((d) => [d.id, Number(d.get('far').toFixed(6))]), [['a', 0], ['g', 2], ['b', 2.236068]]);
  const dots = await near(c, { distanceMeasure: 'DOT_PRODUCT', distanceResultField: 'dot', distanceThreshold: 1 });
  assert.deepEqual(dots.map((d) => [d.id, d.get('dot')]), [['c', 3], ['a', 1]]);
  await fails('INVALID_ARGUMENT', near(c, { distanceMeasure: 'EUCLIDEAN', limit: 1001 }));
});

item('explain: the plan alone, and with its run', async () => {
  const c = await filled(grid());
  const query = c.where('a', '>', 1).orderBy('a').limit(3);
  const plan = await query.explain();
  assert.equal(plan.snapshot, null);
  assert.equal(plan.metrics.executionStats, null);
  assert.ok(plan.metrics.planSummary.indexesUsed.length > 0);
  const whole = await query.explain({ analyze: true });
  assert.equal(whole.snapshot.size, 3);
  assert.equal(whole.metrics.executionStats.resultsReturned, 3);
  assert.ok(whole.metrics.executionStats.readOperations >= 3);
  assert.ok(whole.metrics.executionStats.executionDuration.nanoseconds >= 0);
  assert.ok(Object.keys(whole.metrics.executionStats.debugStats).length > 0);
  const count = await c.where('a', '>', 1).count().explain({ analyze: true });
  assert.equal(count.snapshot.data().count, 8);
  assert.equal(count.metrics.executionStats.resultsReturned, 1);
  const none = await c.count().explain({ analyze: false });
  assert.equal(none.snapshot, null);
  const vectors = await c.findNearest({ vectorField: 'v', queryVector: [1], limit: 2, distanceMeasure: 'COSINE' }).explain({ analyze: true });
  assert.equal(vectors.snapshot.size, 0);
}, { hidane: 'has no explain' });

item('queries: streamed, and thousands of results', async () => {
  const c = fresh();
  const writer = db.bulkWriter();
  const text = 'x'.repeat(500);
  for (let i = 0; i < 3000; i += 1) void writer.set(c.doc(`d${String(i).padStart(4, '0')}`), { i, mod: i % 3, text });
  await writer.close();
  let n = 0;
  for await (const snapshot of c.orderBy('i').stream()) {
    assert.equal(snapshot.get('i'), n);
    n += 1;
  }
  assert.equal(n, 3000);
  assert.equal((await c.where('mod', '==', 1).orderBy('i', 'desc').get()).size, 1000);
  assert.equal((await c.get()).size, 3000);
  assert.equal((await c.where('i', '>=', 1500).count().get()).data().count, 1500);
  assert.equal((await c.aggregate({ sum: AggregateField.sum('i') }).get()).data().sum, (2999 * 3000) / 2);
}, { slow: true });

item('queries: an index keeps up with updates and deletes', async () => {
  const c = await filled({ a: { n: 1, l: [1, 2] }, b: { n: 2, l: [2] }, c: { n: 3 } });
  const q = c.where('n', '>', 0).orderBy('n');
  assert.deepEqual(await ids(q), ['a', 'b', 'c']);
  await c.doc('a').update({ n: 9, l: FieldValue.arrayRemove(2) });
  await c.doc('b').delete();
  await c.doc('c').set({ m: 1 });
  await c.doc('d').set({ n: 4 });
  assert.deepEqual(await ids(q), ['d', 'a']);
  assert.deepEqual(await ids(c.where('l', 'array-contains', 2)), []);
  assert.deepEqual(await ids(c.where('l', 'array-contains', 1)), ['a']);
  await c.doc('b').set({ n: 'text' });
  assert.deepEqual(await ids(c.orderBy('n')), ['d', 'a', 'b']);
});

item('queries: at a past time, also through indexes', async () => {
  const c = await filled({ a: { n: 1 }, b: { n: 2 } });
  const q = c.where('n', '>', 0).orderBy('n');
  await ids(q);
  const { writeTime } = await c.doc('c').set({ n: 3 });
  await sleep(5);
  await c.doc('a').update({ n: 10 });
  await c.doc('b').delete();
  await c.doc('d').set({ n: 0.5 });
  const then = (query) => db.runTransaction(async (t) => (await t.get(query)).docs.map((d) => [d.id, d.get('n')]), { readOnly: true, readTime: writeTime });
  assert.deepEqual(await then(q), [['a', 1], ['b', 2], ['c', 3]]);
  assert.deepEqual(await then(q.limit(1)), [['a', 1]]);
  assert.deepEqual(await then(c.orderBy('n', 'desc').limit(2)), [['c', 3], ['b', 2]]);
  assert.deepEqual(await then(c.where('n', '==', 2)), [['b', 2]]);
  assert.deepEqual(await ids(q), ['d', 'c', 'a']);
});

item('queries: what is no query is refused', async () => {
  const c = freshId('q');
  const from = [{ collectionId: c }];
  const field = (fieldPath) => ({ field: { fieldPath } });
  const filter = (path, op, value) => ({ fieldFilter: { ...field(path), op, value } });
  const refused = [
    { from, where: filter('a', 'IN', array()) },
    { from, where: filter('a', 'IN', int(1)) },
    { from, where: filter('a', 'NOT_IN', array()) },
    { from, where: filter('a', 'ARRAY_CONTAINS_ANY', array()) },
    { from, where: filter('a', 'IN', array(...Array.from({ length: 31 }, (_, i) => int(i)))) },
    { from, where: { compositeFilter: { op: 'AND', filters: [filter('a', 'NOT_IN', array(int(1))), filter('a', 'NOT_EQUAL', int(2))] } } },
    { from, where: { compositeFilter: { op: 'AND', filters: [filter('a', 'NOT_IN', array(int(1))), filter('b', 'IN', array(int(2)))] } } },
    { from, where: filter('a', 'OPERATOR_UNSPECIFIED', int(1)) },
    { from, where: filter('__name__', 'EQUAL', string('x')) },
    { from, limit: { value: -1 } },
    { from, offset: -1 },
    { from, orderBy: [field('a')], startAt: { values: [int(1), int(2), int(3)] } },
    { from: [{ collectionId: 'a/b' }] },
    { from, where: filter('a..b', 'EQUAL', int(1)) },
  ];
  for (const query of refused) await fails('INVALID_ARGUMENT', run(query), /./).catch((error) => {
    throw new Error(`${JSON.stringify(query)}: ${error.message}`);
  });
});
