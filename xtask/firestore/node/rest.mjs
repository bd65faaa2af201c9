// The v1 REST mapping: by the SDK (`preferRest`) and by plain HTTP.

import { assert, freshId, item } from './harness.mjs';
import { address, client, db, documents, FieldValue, Filter, GeoPoint, Timestamp } from './clients.mjs';

const base = `http://${address}/v1`;

async function http(method, path, body) {
  const response = await fetch(`${base}/${path}`, {
    method,
    headers: { 'content-type': 'application/json', authorization: 'Bearer owner' },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : undefined };
}

item('REST: the SDK without gRPC', async () => {
  const authClient = { getRequestHeaders: async () => new Headers({ authorization: 'Bearer owner' }), fetch: (url, options) => fetch(url, options) };
  const rest = client({ preferRest: true, protocol: 'http', authClient });
  const c = rest.collection(freshId('rest'));
  const data = {
    n: 1, big: 2 ** 53, d: 0.5, nan: NaN, inf: -Infinity, s: 'é😀', b: Buffer.from([0, 255]), at: new Timestamp(1, 1000), g: new GeoPoint(1, -2),
    l: [1, 'a', null], m: { x: {} }, r: rest.doc('a/b'), v: FieldValue.vector([1, 2]), none: null, yes: true,
  };
  await c.doc('a').create(data);
  const got = (await c.doc('a').get()).data();
  assert.equal(got.r.path, 'a/b');
  assert.deepEqual(got.v.toArray(), [1, 2]);
  for (const key of ['n', 'big', 'd', 'nan', 'inf', 's', 'b', 'l', 'm', 'none', 'yes']) assert.deepEqual(got[key], data[key], key);
  assert.ok(got.at.isEqual(data.at) && got.g.isEqual(data.g));
  await rest.batch().set(c.doc('b'), { n: 5 }).update(c.doc('a'), { n: FieldValue.increment(2), gone: FieldValue.delete() }).commit();
  assert.deepEqual((await c.where('n', '>', 1).orderBy('n', 'desc').select('n').get()).docs.map((d) => [d.id, d.data()]), [['b', { n: 5 }], ['a', { n: 3 }]]);
  assert.equal((await c.where(Filter.or(Filter.where('n', '==', 3), Filter.where('n', '==', 9))).count().get()).data().count, 1);
  const n = await rest.runTransaction(async (t) => {
    const n = (await t.get(c.doc('b'))).get('n') + 1;
    t.update(c.doc('b'), { n });
    return n;
  });
  assert.equal(n, 6);
  assert.deepEqual((await c.listDocuments()).map((d) => d.id), ['a', 'b']);
  await assert.rejects(c.doc('a').create({}), (error) => error.code === 6 || error.code === 409);
  await c.doc('a').delete();
  assert.equal((await c.doc('a').get()).exists, false);
}, { slow: true });

item('REST: documents by HTTP', async () => {
  const id = freshId('rest');
  const made = await http('POST', `${documents}/${id}?documentId=a`, { fields: { n: { integerValue: '1' }, m: { mapValue: { fields: { x: { doubleValue: 'NaN' } } } } } });
  assert.equal(made.status, 200, JSON.stringify(made.body));
  assert.equal(made.body.name, `${documents}/${id}/a`);
  assert.match(made.body.createTime, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.deepEqual(made.body.fields, { n: { integerValue: '1' }, m: { mapValue: { fields: { x: { doubleValue: 'NaN' } } } } });
  const again = await http('POST', `${documents}/${id}?documentId=a`, { fields: {} });
  assert.deepEqual([again.status, again.body.error.code, again.body.error.status], [409, 409, 'ALREADY_EXISTS']);
  const patched = await http('PATCH', `${documents}/${id}/a?updateMask.fieldPaths=s&updateMask.fieldPaths=n&currentDocument.exists=true`, { fields: { s: { stringValue: 'x' } } });
  assert.deepEqual(patched.body.fields, { m: made.body.fields.m, s: { stringValue: 'x' } });
  const got = await http('GET', `${documents}/${id}/a?mask.fieldPaths=s`);
  assert.deepEqual(got.body.fields, { s: { stringValue: 'x' } });
  const missing = await http('GET', `${documents}/${id}/none`);
  assert.deepEqual([missing.status, missing.body.error.status], [404, 'NOT_FOUND']);
  const list = await http('GET', `${documents}/${id}?pageSize=1`);
  assert.deepEqual(list.body.documents.map((d) => d.name), [`${documents}/${id}/a`]);
  const strict = await http('DELETE', `${documents}/${id}/none?currentDocument.exists=true`);
  assert.equal(strict.status, 404);
  const deleted = await http('DELETE', `${documents}/${id}/a`);
  assert.deepEqual([deleted.status, deleted.body], [200, {}]);
});

item('REST: commits, queries, transactions by HTTP', async () => {
  const id = freshId('rest');
  const database = documents.slice(0, -10);
  const writes = [1, 2, 3].map((n) => ({ update: { name: `${documents}/${id}/d${n}`, fields: { n: { integerValue: n } } } }));
  const committed = await http('POST', `${documents}:commit`, { writes });
  assert.equal(committed.status, 200, JSON.stringify(committed.body));
  assert.equal(committed.body.writeResults.length, 3);
  const structuredQuery = { from: [{ collectionId: id }], where: { fieldFilter: { field: { fieldPath: 'n' }, op: 'GREATER_THAN', value: { integerValue: 1 } } }, limit: 5 };
  const found = await http('POST', `${documents}:runQuery`, { structuredQuery });
  assert.deepEqual(found.body.filter((m) => m.document).map((m) => m.document.fields.n), [{ integerValue: '2' }, { integerValue: '3' }]);
  const counted = await http('POST', `${documents}:runAggregationQuery`, { structuredAggregationQuery: { structuredQuery: { from: [{ collectionId: id }] }, aggregations: [{ alias: 'c', count: {} }] } });
  assert.deepEqual(counted.body[0].result.aggregateFields, { c: { integerValue: '3' } });
  const { transaction } = (await http('POST', `${documents}:beginTransaction`, {})).body;
  const read = await http('POST', `${documents}:batchGet`, { documents: [`${documents}/${id}/d1`, `${documents}/${id}/none`], transaction });
  assert.deepEqual(read.body.map((m) => (m.found ? 'found' : 'missing')).sort(), ['found', 'missing']);
  assert.equal((await http('POST', `${documents}:rollback`, { transaction })).status, 200);
  const ids = await http('POST', `${documents}:listCollectionIds`, { pageSize: 1000 });
  assert.ok(ids.body.collectionIds.includes(id));
  const batch = await http('POST', `${documents}:batchWrite`, { writes: [{ delete: `${documents}/${id}/d1` }, { update: { name: `${documents}/${id}/no`, fields: {} }, currentDocument: { exists: true } }] });
  assert.deepEqual(batch.body.status.map((s) => s.code ?? 0), [0, 5]);
  const nonsense = await http('POST', `${documents}:commit`, { writes: [{ update: { name: `${database}/documents/x`, fields: {} } }] });
  assert.deepEqual([nonsense.status, nonsense.body.error.status], [400, 'INVALID_ARGUMENT']);
  const unknown = await http('POST', `${documents}:commit`, { nonsense: 1 });
  assert.equal(unknown.status, 400);
});
