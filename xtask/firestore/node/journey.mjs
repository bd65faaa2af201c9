// Every type and every extreme, written as the protocol has them, and compared bit by bit after a journey.
//   node journey.mjs write COLLECTION [bson]      node journey.mjs check COLLECTION [bson]

import { call, database, documents, stream } from './clients.mjs';

const [verb, collection, kind] = process.argv.slice(2);

const int = (n) => ({ integerValue: String(n) });
const double = (n) => ({ doubleValue: n });
const string = (s) => ({ stringValue: s });
const bytes = (...b) => ({ bytesValue: Buffer.from(b) });
const at = (seconds, micros) => ({ timestampValue: { seconds: String(seconds), nanos: micros * 1000 } });
const geo = (latitude, longitude) => ({ geoPointValue: { latitude, longitude } });
const reference = (path) => ({ referenceValue: `${documents}/${path}` });
const array = (...values) => ({ arrayValue: { values } });
const map = (fields) => ({ mapValue: { fields } });
const vector = (...numbers) => map({ __type__: string('__vector__'), value: array(...numbers.map(double)) });
const none = { nullValue: 'NULL_VALUE' };
const nested = (depth) => (depth === 0 ? string('deep') : depth % 2 ? map({ m: nested(depth - 1) }) : array(nested(depth - 1)));

const values = {
  simple: { none, yes: { booleanValue: true }, no: { booleanValue: false } },
  integers: { zero: int(0), one: int(1), minus: int(-1), max: int('9223372036854775807'), min: int('-9223372036854775808'), above: int('9007199254740993'), below: int('-9007199254740993') },
  doubles: {
    zero: double(0), minus_zero: double(-0), one: double(1), tenth: double(0.1), max: double(Number.MAX_VALUE), least: double(Number.MIN_VALUE),
    subnormal: double(2.2250738585072011e-308), minus: double(-Number.MAX_VALUE), inf: double(Infinity), minus_inf: double(-Infinity), nan: double(NaN),
    whole: double(1e20), big: double(9007199254740993), e22: double(1e22), small: double(1e-7), third: double(1 / 3),
  },
  times: { first: at(-62135596800, 0), last: at(253402300799, 0), epoch: at(0, 0), micro: at(1, 1), leap: at(951782400, 123456) },
  // Python's client rounds these wrongly when it writes them: journey.py takes them below it.
  'finer times': { last: at(253402300799, 999999), before: at(-1, 999999), long_before: at(-62135596800, 1) },
  strings: {
    empty: string(''), ascii: string('plain'), unicode: string('é 文字 😀 👩‍👩‍👧 \u0301 \uFFFD \u2028'), controls: string('\u0001\t\r\n\u007F'), quotes: string('"\\/`\''),
    tagged: string('{"$timestamp":"x"}'), date: string('2026-01-01T00:00:00Z'), number: string('1'), long: string('x'.repeat(5000)),
  },
  bytes: { empty: bytes(), all: { bytesValue: Buffer.from(Array.from({ length: 256 }, (_, i) => i)) }, nul: bytes(0) },
  references: { near: reference('users/alice'), deep: reference('a/b/c/d'), numeric: reference('a/__id7__'), odd: reference('a b/é%2F') },
  points: { origin: geo(0, 0), pole: geo(90, 180), south: geo(-90, -180), fine: geo(1.0000000000000002, -1e-300) },
  arrays: { empty: array(), mixed: array(none, int(1), double(1), string('1'), map({ x: array(int(1)) })), maps: array(map({}), map({ a: none })) },
  maps: {
    empty: map({}), inside: map({ empty: map({}), list: array() }), deep: nested(18), '': undefined, 'dotted.name': int(1), '`quoted`': int(2), 'ключ 文 😀': int(3),
    $timestamp: string('a name like a tag'), $int: map({ $double: int(1) }), tag: map({ $timestamp: string('2026-01-01T00:00:00Z') }), double: map({ $$timestamp: string('x') }),
    'back\\slash': int(4), ['k'.repeat(1500)]: int(5), _underscore: int(6), __proto: int(7), 0: int(8), constructor: int(9),
  },
  vectors: { one: vector(1.5), several: vector(0, -0, 1e300, 5e-324), nested: map({ v: vector(1, 2) }) },
  'nothing at all': {},
};
delete values.maps[''];

const bson = {
  oid: { v: map({ __oid__: string('507f191e810c19729de860ea') }) },
  min: { v: map({ __min__: none }) },
  max: { v: map({ __max__: none }) },
  int32: { v: map({ __int__: int(-2147483648) }) },
  decimal: { v: map({ __decimal128__: string('-1.2345678901234567890E+6144') }) },
  binary: { v: map({ __binary__: bytes(5, 0, 255) }) },
  regex: { v: map({ __regex__: map({ pattern: string('^a\\/b'), options: string('imsx') }) }) },
  timestamp: { v: map({ __request_timestamp__: map({ seconds: int(4294967295), increment: int(0) }) }) },
  inside: { list: array(map({ __oid__: string('507f191e810c19729de860ea') }), map({ in: map({ __int__: int(1) }) })) },
};

/** What is written, by path. */
const all = kind === 'bson'
  ? Object.fromEntries(Object.entries(bson).map(([id, fields]) => [`${collection}/${id}`, fields]))
  : {
      ...Object.fromEntries(Object.entries(values).map(([id, fields]) => [`${collection}/${id}`, fields])),
      [`${collection}/__id7__`]: { numeric: int(7) },
      [`${collection}/__id9223372036854775807__`]: { numeric: int(8) },
      [`${collection}/${'é'.repeat(750)}`]: { long: string('1,500 bytes of key') },
      [`${collection}/simple/below/__id7__`]: { in: string('a collection below') },
      [`${collection}/simple/below/x/further below/${'k'.repeat(1500)}`]: { in: string('one further') },
      [`${collection}/missing/below/😀`]: { in: string('below a missing document') },
    };

/** Text of a value in which every bit shows. */
function exact(value) {
  const type = value.valueType ?? Object.keys(value)[0];
  const inner = value[type];
  switch (type) {
    case 'doubleValue': return { double: bits(inner) };
    case 'geoPointValue': return { geo: [bits(inner.latitude), bits(inner.longitude)] };
    case 'bytesValue': return { bytes: Buffer.from(inner).toString('hex') };
    case 'timestampValue': return { at: [String(inner.seconds), inner.nanos] };
    case 'arrayValue': return { array: (inner.values ?? []).map(exact) };
    case 'mapValue': return { map: every(inner.fields ?? {}) };
    default: return { [type]: inner };
  }
}

function bits(number) {
  if (Number.isNaN(number)) return 'NaN';
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleBE(number);
  return buffer.toString('hex');
}

const every = (fields) => Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => [name, exact(value)]);

if (verb === 'write') {
  const writes = Object.entries(all).map(([path, fields]) => ({ update: { name: `${documents}/${path}`, fields } }));
  await call('commit', { database, writes });
  console.log(`wrote ${writes.length} documents`);
  process.exit(0);
}

const found = new Map();
const take = (messages) => messages.filter((m) => m.document).forEach((m) => found.set(m.document.name.slice(documents.length + 1), m.document.fields));
take(await stream('runQuery', { parent: documents, structuredQuery: { from: [{ collectionId: collection }] } }));
for (const parent of ['simple', 'missing']) {
  const structuredQuery = { from: [{ collectionId: 'below' }, ] };
  take(await stream('runQuery', { parent: `${documents}/${collection}/${parent}`, structuredQuery }));
}
take(await stream('runQuery', { parent: `${documents}/${collection}/simple/below/x`, structuredQuery: { from: [{ collectionId: 'further below' }] } }));
let wrong = 0;
const say = (text) => {
  wrong += 1;
  console.log(`FAILED  ${text}`);
};
for (const [path, fields] of Object.entries(all)) {
  const got = found.get(path);
  found.delete(path);
  if (!got) {
    say(`${path.slice(0, 80)} is missing`);
    continue;
  }
  const [expected, actual] = [Object.fromEntries(every(fields)), Object.fromEntries(every(got))];
  for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const [e, a] = [JSON.stringify(expected[name]), JSON.stringify(actual[name])];
    if (e !== a) say(`${path.slice(0, 80)}: ${name.slice(0, 40)}: expected ${e?.slice(0, 300)}, got ${a?.slice(0, 300)}`);
  }
}
for (const path of found.keys()) say(`${path} is not ours`);
console.log(wrong ? `${wrong} differences` : `${Object.keys(all).length} documents are as they were`);
process.exit(wrong ? 1 : 0);
