// Limits, and what is refused because it is no data.

import { assert, fails, fresh, freshId, item } from './harness.mjs';
import { array, call, client, database, db, documents, double, int, map, sdk, stream, string, Timestamp } from './clients.mjs';

const put = (fields, path = `${freshId('l')}/a`) =>
  call('commit', { database, writes: [{ update: { name: `${documents}/${path}`, fields } }] });

item('limits: a document of 1 MiB, and not more', async () => {
  const doc = fresh().doc('a');
  await doc.set({ s: 'x'.repeat(1_000_000) });
  assert.equal((await doc.get()).get('s').length, 1_000_000);
  await fails('INVALID_ARGUMENT', doc.set({ s: 'x'.repeat(1_048_577) }), /longer|maximum|exceeds|larger/i);
  await fails('INVALID_ARGUMENT', doc.update({ t: 'y'.repeat(100_000) }));
  assert.deepEqual(Object.keys((await doc.get()).data()), ['s']);
  assert.equal((await doc.parent.where('s', '>', 'x').get()).size, 1, 'long strings are found');
});

item('limits: requests of nearly 10 MiB, and not of more', async () => {
  const c = fresh();
  const fill = (n) => {
    const batch = db.batch();
    for (let i = 0; i < n; i += 1) batch.set(c.doc(`d${i}`), { s: 'x'.repeat(950_000) });
    return batch.commit();
  };
  await fill(10);
  assert.equal((await c.get()).size, 10);
  await fails('INVALID_ARGUMENT', fill(12));
}, { slow: true, hidane: 'does not count the bytes of requests' });

item('limits: maps and arrays 20 deep', async () => {
  const maps = (n) => (n === 0 ? int(1) : map({ m: maps(n - 1) }));
  const mixed = (n) => (n === 0 ? int(1) : n % 2 ? map({ m: mixed(n - 1) }) : array(mixed(n - 1)));
  for (const nest of [maps, mixed]) {
    await put({ v: nest(20) });
    await fails('INVALID_ARGUMENT', put({ v: nest(21) }), /deep|depth|nest|level/i);
  }
});

item('limits: arrays directly in arrays, reserved and empty names, bad values', async () => {
  await fails('INVALID_ARGUMENT', put({ a: array(array(int(1))) }), /array/i);
  await put({ a: array(map({ b: array(int(1)) })) });
  await fails('INVALID_ARGUMENT', put({ __reserved__: int(1) }), /reserved/i);
  await fails('INVALID_ARGUMENT', put({ m: map({ __x__: int(1) }) }), /reserved/i);
  await fails('INVALID_ARGUMENT', put({ '': int(1) }));
  await fails('INVALID_ARGUMENT', put({ ['f'.repeat(1501)]: int(1) }));
  await put({ ['f'.repeat(1500)]: int(1), '__': int(1), _x_: int(2), '.': int(1), '*[]~/`': int(1) });
  await fails('INVALID_ARGUMENT', put({ g: { geoPointValue: { latitude: 91, longitude: 0 } } }));
  await fails('INVALID_ARGUMENT', put({ g: { geoPointValue: { latitude: 0, longitude: -181 } } }));
  await fails('INVALID_ARGUMENT', put({ r: { referenceValue: 'nonsense' } }));
});

item('limits: timestamps of the years 1 to 9999', async () => {
  const at = (seconds) => put({ t: { timestampValue: { seconds } } });
  for (const seconds of ['253402300799', '-62135596800']) await at(seconds);
  for (const seconds of ['253402300800', '-62135596801']) await fails('INVALID_ARGUMENT', at(seconds));
}, { hidane: 'takes any' });

item('limits: timestamps are cut to microseconds', async () => {
  const doc = fresh().doc('a');
  await doc.set({ t: new Timestamp(1, 999999999), before: new Timestamp(-1, 1999) });
  const data = (await doc.get()).data();
  assert.deepEqual([data.t.seconds, data.t.nanoseconds], [1, 999999000]);
  assert.deepEqual([data.before.seconds, data.before.nanoseconds], [-1, 1000]);
});

item('limits: vectors are doubles only, and at most 2048 of them', async () => {
  const vector = (...values) => map({ __type__: string('__vector__'), value: array(...values) });
  await put({ v: vector(double(1), double(2)) });
  await put({ v: vector(...Array.from({ length: 2048 }, (_, i) => double(i))) });
  await fails('INVALID_ARGUMENT', put({ v: vector(...Array.from({ length: 2049 }, (_, i) => double(i))) }));
  await fails('INVALID_ARGUMENT', put({ v: vector(string('x')) }));
});

item('limits: U+0000 in text is kept, or refused where the store cannot hold it, with all of its commit', async () => {
  const c = fresh();
  const batch = db.batch().set(c.doc('before'), { n: 1 }).set(c.doc('a'), { s: 'x\u0000y', ['n\u0000']: '\u0000' });
  const refused = await batch.commit().then(() => null, (error) => error);
  const found = (await c.get()).docs.map((d) => d.data());
  if (refused) {
    assert.deepEqual([refused.code, found], [3, []]);
    assert.match(refused.message, /U\+0000/);
  } else {
    assert.deepEqual(found, [{ s: 'x\u0000y', ['n\u0000']: '\u0000' }, { n: 1 }]);
    assert.deepEqual((await c.where('s', '>', 'x').get()).size, 1);
  }
});

item('limits: databases side by side; a project is only a name in names', async () => {
  const other = client({ databaseId: 'other' });
  const id = freshId('db');
  await other.doc(`${id}/a`).set({ in: 'other' });
  assert.equal((await db.doc(`${id}/a`).get()).exists, false);
  await db.doc(`${id}/a`).set({ in: 'default' });
  assert.deepEqual((await other.collection(id).get()).docs.map((d) => [d.data(), d.ref.path]), [[{ in: 'other' }, `${id}/a`]]);
  assert.deepEqual((await other.collectionGroup(id).where('in', '>', '').get()).size, 1);
  assert.ok((await other.listCollections()).map((c) => c.id).includes(id));
  const mixed = [{ update: { name: `projects/demo-test/databases/other/documents/${id}/x`, fields: {} } }];
  await fails('INVALID_ARGUMENT', call('commit', { database, writes: mixed }));
});

item('limits: what the server does not do, it says', async () => {
  const request = { database, structuredPipeline: { pipeline: { stages: [{ name: 'collection', args: [{ referenceValue: '/x' }] }] } } };
  const error = await stream('executePipeline', request).then(() => null, (e) => e);
  assert.ok(error && [3, 9, 12].includes(error.code), String(error?.message));
});
