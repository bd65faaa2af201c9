// Thousands of queries made by a seeded generator, each answer compared with a model of Firestore's rules
// (order.mjs), before and after the documents change.

import { assert, freshId, item } from './harness.mjs';
import { array, call, database, documents, double, int, map, stream, string } from './clients.mjs';
import { at, compare, ids, passes } from './order.mjs';

function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  return { below, one: (list) => list[below(list.length)], chance: (p) => next() < p };
}

const FIELDS = ['a', 'b', 'm.x', 'l'];

function scalar(r) {
  return r.one([
    () => int(r.below(4)), () => int(r.below(4)), () => double(r.below(8) / 2), () => string(r.one(['', 'a', 'b', 'é'])),
    () => ({ booleanValue: r.chance(0.5) }), () => ({ nullValue: 'NULL_VALUE' }), () => double(NaN), () => double(-0),
    () => ({ timestampValue: { seconds: String(r.below(3)), nanos: r.below(2) * 1000 } }),
    () => ({ bytesValue: Buffer.from([r.below(3)]) }),
    () => ({ referenceValue: `${documents}/r/${r.one(['a', 'b', '__id3__'])}` }),
    () => ({ geoPointValue: { latitude: r.below(2), longitude: r.below(2) } }),
    () => map(r.one([{}, { k: int(r.below(2)) }])),
  ])();
}

function fields(r) {
  const all = {};
  if (r.chance(0.85)) all.a = scalar(r);
  if (r.chance(0.85)) all.b = r.chance(0.5) ? int(r.below(4)) : scalar(r);
  if (r.chance(0.7)) all.m = map(r.chance(0.8) ? { x: scalar(r) } : {});
  if (r.chance(0.7)) all.l = array(...Array.from({ length: r.below(4) }, () => scalar(r)));
  return all;
}

const INEQUALITIES = ['LESS_THAN', 'LESS_THAN_OR_EQUAL', 'GREATER_THAN', 'GREATER_THAN_OR_EQUAL', 'NOT_EQUAL', 'NOT_IN'];

function condition(r, used) {
  const op = r.one(['EQUAL', 'EQUAL', 'EQUAL', 'IN', ...INEQUALITIES, 'ARRAY_CONTAINS', 'ARRAY_CONTAINS_ANY'].filter((op) => !used.has(op)));
  const path = op.startsWith('ARRAY') ? 'l' : r.one(FIELDS);
  let value = scalar(r);
  while (!(op === 'EQUAL' || op === 'NOT_EQUAL') && ('nullValue' in value || Number.isNaN(value.doubleValue))) value = scalar(r);
  if (['IN', 'NOT_IN', 'ARRAY_CONTAINS_ANY'].includes(op)) {
    const several = [value];
    for (let i = r.below(3); i > 0; i -= 1) {
      const more = scalar(r);
      if (!('nullValue' in more) && !Number.isNaN(more.doubleValue)) several.push(more);
    }
    value = array(...several);
    // Not beside each other, or beside `!=`.
    for (const other of ['NOT_EQUAL', 'NOT_IN']) if (op === 'NOT_IN') used.add(other);
    if (op === 'NOT_IN') ['IN', 'ARRAY_CONTAINS_ANY', 'OR'].forEach((other) => used.add(other));
    else used.add('NOT_IN');
  }
  if (op === 'NOT_EQUAL') ['NOT_EQUAL', 'NOT_IN'].forEach((other) => used.add(other));
  if (op.startsWith('ARRAY')) ['ARRAY_CONTAINS', 'ARRAY_CONTAINS_ANY'].forEach((other) => used.add(other));
  const field = { fieldPath: path };
  const unary = 'nullValue' in value ? 'NULL' : Number.isNaN(value.doubleValue) ? 'NAN' : undefined;
  // As clients send them.
  if (unary) return { unaryFilter: { field, op: op === 'EQUAL' ? `IS_${unary}` : `IS_NOT_${unary}` } };
  return { fieldFilter: { field, op, value } };
}

function where(r, used, depth) {
  if (depth > 0 && r.chance(0.5)) {
    const op = r.chance(0.4) && !used.has('OR') ? 'OR' : 'AND';
    if (op === 'OR') used.add('NOT_IN');
    return { compositeFilter: { op, filters: [where(r, used, depth - 1), where(r, used, depth - 1)] } };
  }
  return condition(r, used);
}

function holds(filter, document) {
  if (filter.compositeFilter) {
    const { op, filters } = filter.compositeFilter;
    return op === 'OR' ? filters.some((f) => holds(f, document)) : filters.every((f) => holds(f, document));
  }
  if (filter.unaryFilter) {
    const { field, op } = filter.unaryFilter;
    const operand = op.endsWith('NULL') ? { nullValue: 'NULL_VALUE' } : double(NaN);
    return passes(op.startsWith('IS_NOT') ? 'NOT_EQUAL' : 'EQUAL', at(document.fields, field.fieldPath), operand);
  }
  const { field, op, value } = filter.fieldFilter;
  return passes(op, at(document.fields, field.fieldPath), value);
}

function unequal(filter, found = new Set()) {
  if (filter?.compositeFilter) filter.compositeFilter.filters.forEach((f) => unequal(f, found));
  else if (filter?.unaryFilter?.op.startsWith('IS_NOT')) found.add(filter.unaryFilter.field.fieldPath);
  else if (filter?.fieldFilter && INEQUALITIES.includes(filter.fieldFilter.op)) found.add(filter.fieldFilter.field.fieldPath);
  return found;
}

/** Every order a query has, with those it only implies. */
function orders(query) {
  const all = (query.orderBy ?? []).map((o) => [o.field.fieldPath, o.direction ?? 'ASCENDING']);
  const last = all.length ? all[all.length - 1][1] : 'ASCENDING';
  for (const path of [...unequal(query.where)].sort()) if (!all.some(([p]) => p === path)) all.push([path, last]);
  if (!all.some(([path]) => path === '__name__')) all.push(['__name__', last]);
  return all;
}

function answer(query, all) {
  const by = orders(query);
  const value = (document, path) => (path === '__name__' ? undefined : at(document.fields, path));
  const order = (x, y, cursor) => {
    for (const [i, [path, direction]] of by.entries()) {
      if (cursor && i >= cursor.length) return 0;
      const other = cursor ? cursor[i] : value(y, path);
      const sign = direction === 'DESCENDING' ? -1 : 1;
      const step = path === '__name__' ? ids(x.id, cursor ? other.referenceValue.split('/').pop() : y.id) : compare(value(x, path), other);
      if (step) return step * sign;
    }
    return 0;
  };
  let found = all.filter((d) => (!query.where || holds(query.where, d)) && by.every(([path]) => path === '__name__' || value(d, path) !== undefined));
  found.sort((x, y) => order(x, y));
  const { startAt, endAt } = query;
  if (startAt) found = found.filter((d) => (startAt.before ? order(d, null, startAt.values) >= 0 : order(d, null, startAt.values) > 0));
  if (endAt) found = found.filter((d) => (endAt.before ? order(d, null, endAt.values) < 0 : order(d, null, endAt.values) <= 0));
  found = found.slice(query.offset ?? 0);
  return query.limit ? found.slice(0, query.limit.value) : found;
}

function query(r, collectionId, all) {
  const made = { from: [{ collectionId }] };
  if (r.chance(0.85)) made.where = where(r, new Set(), 2);
  if (r.chance(0.6)) {
    const paths = [...new Set(Array.from({ length: 1 + r.below(2) }, () => r.one(FIELDS)))];
    made.orderBy = paths.map((fieldPath) => ({ field: { fieldPath }, direction: r.one(['ASCENDING', 'DESCENDING']) }));
  }
  const by = orders(made);
  const cursor = () => {
    const { id, fields } = r.one(all);
    const n = 1 + r.below(by.length);
    const values = by.slice(0, n).map(([path]) => (path === '__name__' ? { referenceValue: `${documents}/${collectionId}/${id}` } : (at(fields, path) ?? scalar(r))));
    return { values, before: r.chance(0.5) };
  };
  // Cursors go by the orders that the query names; implied ones must be named for them.
  if (r.chance(0.4) && !made.where) {
    made.orderBy = by.map(([fieldPath, direction]) => ({ field: { fieldPath }, direction }));
    if (r.chance(0.7)) made.startAt = cursor();
    if (r.chance(0.5)) made.endAt = cursor();
  }
  if (r.chance(0.3)) made.limit = { value: 1 + r.below(8) };
  if (r.chance(0.2)) made.offset = r.below(5);
  return made;
}

/** The emulator refuses descending scans by name. */
const nameDown = (made) => made.where === undefined && orders(made).length === 1 && orders(made)[0][1] === 'DESCENDING';

item('queries: random ones, against a model', async () => {
  const seed = Number(process.env.WHIMBREL_SEED ?? Date.now() % 1_000_000);
  const r = generator(seed);
  for (let round = 0; round < 4; round += 1) {
    const collection = freshId('random');
    const all = new Map();
    for (let i = 0; i < 60; i += 1) all.set(r.chance(0.1) ? `__id${i + 1}__` : `d${i}`, fields(r));
    const put = (id, fields) => ({ update: { name: `${documents}/${collection}/${id}`, fields } });
    await call('commit', { database, writes: [...all].map(([id, f]) => put(id, f)) });
    for (let i = 0; i < 120; i += 1) {
      if (i % 10 === 9) {
        const id = r.one([...all.keys()]);
        if (r.chance(0.3)) {
          all.delete(id);
          await call('commit', { database, writes: [{ delete: `${documents}/${collection}/${id}` }] });
        } else {
          all.set(id, fields(r));
          await call('commit', { database, writes: [put(id, all.get(id))] });
        }
      }
      const list = [...all].map(([id, fields]) => ({ id, fields }));
      const made = query(r, collection, list);
      if (process.env.WHIMBREL_FIRESTORE_AGAINST === 'hidane' && nameDown(made)) continue;
      const expected = answer(made, list).map((d) => d.id);
      const said = () => `seed ${seed}, round ${round}, query ${i}: ${JSON.stringify(made)}`;
      let got;
      try {
        got = await stream('runQuery', { parent: documents, structuredQuery: made });
      } catch (error) {
        throw new Error(`${error.message}: ${said()}`);
      }
      assert.deepEqual(got.filter((m) => m.document).map((m) => m.document.name.split('/').pop()), expected, said());
      const structuredAggregationQuery = { structuredQuery: made, aggregations: [{ alias: 'n', count: {} }] };
      if (i % 4 === 0) {
        const [counted] = await stream('runAggregationQuery', { parent: documents, structuredAggregationQuery });
        assert.equal(Number(counted.result.aggregateFields.n.integerValue), expected.length, `count: ${said()}`);
      }
    }
  }
}, { slow: true });
