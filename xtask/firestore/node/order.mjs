// Firestore's order of values, written down a second time: what queries answer is checked against this.

import { Buffer } from 'node:buffer';

const RANKS = [
  'nullValue', 'booleanValue', 'number', 'timestampValue', 'stringValue', 'bytesValue', 'referenceValue',
  'geoPointValue', 'arrayValue', 'vector', 'mapValue',
];

/** What a value of the protocol is, and what is in it. */
function open(value) {
  const kind = value.valueType ?? Object.keys(value)[0];
  const inner = value[kind];
  if (kind === 'integerValue') return ['number', BigInt(inner)];
  if (kind === 'doubleValue') return ['number', Number(inner)];
  if (kind === 'mapValue') {
    const fields = inner.fields ?? {};
    if (fields.__type__?.stringValue === '__vector__') return ['vector', (fields.value.arrayValue.values ?? [])];
    return ['mapValue', fields];
  }
  if (kind === 'arrayValue') return ['arrayValue', inner.values ?? []];
  return [kind, inner];
}

export const rank = (value) => RANKS.indexOf(open(value)[0]);

const bytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const plain = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function numbers(a, b) {
  const [x, y] = [Number.isNaN(a), Number.isNaN(b)];
  if (x || y) return plain(y, x);
  // JavaScript compares integers of any length with doubles exactly.
  return plain(a, b);
}

/** Ids of names: numeric ones first, by their numbers. */
export function ids(a, b) {
  const number = (id) => /^__id(\d+)__$/.exec(id)?.[1];
  const [x, y] = [number(a), number(b)];
  if (x !== undefined && y !== undefined) return plain(BigInt(x), BigInt(y));
  if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1;
  return bytes(a, b);
}

export function paths(a, b) {
  return lists(a.split('/'), b.split('/'), ids);
}

function lists(a, b, compare_items) {
  for (let i = 0; i < Math.min(a.length, b.length); i += 1) {
    const order = compare_items(a[i], b[i]);
    if (order) return order;
  }
  return plain(a.length, b.length);
}

export function compare(a, b) {
  const [kind, x] = open(a);
  const [other, y] = open(b);
  if (kind !== other) return plain(RANKS.indexOf(kind), RANKS.indexOf(other));
  switch (kind) {
    case 'nullValue':
      return 0;
    case 'booleanValue':
      return plain(x, y);
    case 'number':
      return numbers(x, y);
    case 'timestampValue':
      return plain(BigInt(x.seconds ?? 0), BigInt(y.seconds ?? 0)) || plain(x.nanos ?? 0, y.nanos ?? 0);
    case 'stringValue':
    case 'bytesValue':
      return bytes(x, y);
    case 'referenceValue':
      return paths(x, y);
    case 'geoPointValue':
      return plain(x.latitude, y.latitude) || plain(x.longitude, y.longitude);
    case 'arrayValue':
      return lists(x, y, compare);
    case 'vector':
      return plain(x.length, y.length) || lists(x, y, compare);
    case 'mapValue': {
      const [m, n] = [x, y].map((fields) => Object.entries(fields).sort((p, q) => bytes(p[0], q[0])));
      return lists(m, n, (p, q) => bytes(p[0], q[0]) || compare(p[1], q[1]));
    }
  }
}

/** The value at a dotted path of simple names. */
export function at(fields, path) {
  let value = { mapValue: { fields } };
  for (const part of path.split('.')) {
    const [kind, inner] = open(value);
    if (kind !== 'mapValue' || !(part in inner)) return undefined;
    value = inner[part];
  }
  return value;
}

const isNan = (value) => Number.isNaN(open(value)[1]);
const isNull = (value) => open(value)[0] === 'nullValue';
const same = (a, b) => compare(a, b) === 0;

/** Whether a document's value passes one condition. Absence never does. */
export function passes(op, value, operand) {
  if (value === undefined) return false;
  const comparable = rank(value) === rank(operand) && !isNan(value) && !isNan(operand);
  const listed = () => open(operand)[1].filter((one) => !isNull(one) && !isNan(one));
  switch (op) {
    case 'EQUAL':
      return same(value, operand) ;
    case 'NOT_EQUAL':
      return !isNull(value) && !same(value, operand);
    case 'LESS_THAN':
      return comparable && compare(value, operand) < 0;
    case 'LESS_THAN_OR_EQUAL':
      return comparable && compare(value, operand) <= 0;
    case 'GREATER_THAN':
      return comparable && compare(value, operand) > 0;
    case 'GREATER_THAN_OR_EQUAL':
      return comparable && compare(value, operand) >= 0;
    case 'IN':
      return listed().some((one) => same(value, one));
    case 'NOT_IN':
      return !isNull(value) && !open(operand)[1].some((one) => same(value, one));
    case 'ARRAY_CONTAINS':
      return open(value)[0] === 'arrayValue' && open(value)[1].some((one) => same(one, operand));
    case 'ARRAY_CONTAINS_ANY':
      return open(value)[0] === 'arrayValue' && open(value)[1].some((one) => listed().some((other) => same(one, other)));
  }
  throw new Error(op);
}
