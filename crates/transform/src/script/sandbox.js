// What every sandbox runs before the user's module. It takes away all that is neither the document nor
// a pure function of it, and freezes the rest, so that no document can leave anything behind for the
// next. Returns the entry points that the Rust side calls, in the order of `Kit` in sandbox.rs.
(function (fill) {
  "use strict";
  const G = globalThis;
  const { apply, construct, ownKeys, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
  const { freeze, defineProperty, setPrototypeOf, preventExtensions } = Object;

  for (const name of [
    "Proxy", "eval", "WeakRef", "FinalizationRegistry", "Atomics", "SharedArrayBuffer",
    "queueMicrotask", "performance", "navigator", "gc", "print", "DOMException",
  ]) delete G[name];

  // The engine keeps these settings outside any object that could be frozen.
  delete Error.prepareStackTrace;
  delete Error.stackTraceLimit;

  // A document's own key may have any of these names.
  for (const name of [
    "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
  ]) delete Object.prototype[name];

  // --- the instant and the seed of the document at work ---------------------------------------

  let now = NaN;
  let seedA = 0, seedB = 0;
  let a = 0, b = 0, c = 0, d = 0, seeded = false;
  const working = (what) => {
    if (now !== now) {
      throw new TypeError(`${what} exists only inside a function: there is no document at work yet`);
    }
  };

  // sfc32 by Chris Doty-Humphrey (PractRand).
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  Math.random = function random() {
    working("Math.random()");
    if (!seeded) {
      seeded = true;
      a = seedA; b = seedB; c = 0x9e3779b9 | 0; d = 1;
      for (let i = 0; i < 12; i++) next();
    }
    return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };

  // --- Date: the fixed instant, and UTC wherever the process runs -----------------------------

  const D = Date;
  const P = D.prototype;
  const getTime = P.getTime;
  const toUTCString = P.toUTCString;
  const dateOnly = /^\s*[+-]?\d{4,6}(-\d\d(-\d\d)?)?\s*$/;
  const zoned = /(?:Z|UTC|GMT(?:[+-]\d\d:?\d\d)?|:\d\d(?:[.,]\d+)?\s*[+-]\d\d(?::?\d\d)?)\s*(?:\(.*\))?\s*$/i;
  const isoTime = /^\s*[+-]?\d{4,6}-\d\d-\d\dT[\d:.,]+\s*$/i;
  const test = RegExp.prototype.test;
  const matches = (regex, text) => apply(test, regex, [text]);
  const realParse = D.parse;
  const parse = (text) => {
    if (matches(dateOnly, text) || matches(zoned, text)) return realParse(text);
    return realParse(matches(isoTime, text) ? `${text.trim()}Z` : `${text} UTC`);
  };
  const isDate = (value) => {
    try {
      apply(getTime, value, []);
      return true;
    } catch {
      return false;
    }
  };
  const toNumberOrTime = (value) => {
    if (typeof value === "string") return parse(value);
    if (typeof value !== "object" || value === null) return value;
    if (isDate(value)) return apply(getTime, value, []);
    const plain = value.valueOf();
    return typeof plain === "object" ? parse(String(value)) : toNumberOrTime(plain);
  };
  const clock = () => {
    working("the time");
    return now;
  };
  const parts = (date) => {
    const found = /^(\w+), (\d+) (\w+) (-?\d+) ([\d:]+) GMT$/.exec(apply(toUTCString, date, []));
    return found === null ? null : { day: found[1], date: found[2], month: found[3], year: found[4], time: found[5] };
  };
  const dateText = (p) => `${p.day} ${p.month} ${p.date} ${p.year}`;
  const timeText = (p) => `${p.time} GMT+0000 (UTC)`;
  const text = (of) => function () {
    const p = parts(this);
    return p === null ? "Invalid Date" : of(p);
  };
  function UtcDate(year, month, day, hours, minutes, seconds, ms) {
    if (new.target === undefined) {
      const p = parts(new D(clock()));
      return `${dateText(p)} ${timeText(p)}`;
    }
    const given = arguments.length;
    const at = given === 0 ? clock() : given === 1 ? toNumberOrTime(year) : apply(D.UTC, D, arguments);
    return construct(D, [at], new.target);
  }
  const method = (target, name, value) =>
    defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });
  method(UtcDate, "UTC", D.UTC);
  method(UtcDate, "parse", (value) => parse(String(value)));
  method(UtcDate, "now", clock);
  defineProperty(UtcDate, "name", { value: "Date" });
  defineProperty(UtcDate, "prototype", { value: P, writable: false });
  method(P, "constructor", UtcDate);
  for (const part of ["FullYear", "Month", "Date", "Hours", "Minutes", "Seconds", "Milliseconds"]) {
    method(P, `get${part}`, P[`getUTC${part}`]);
    method(P, `set${part}`, P[`setUTC${part}`]);
  }
  method(P, "getDay", P.getUTCDay);
  method(P, "getYear", function getYear() { return this.getUTCFullYear() - 1900; });
  method(P, "setYear", function setYear(year) {
    const y = Math.trunc(Number(year));
    return this.setUTCFullYear(y >= 0 && y <= 99 ? y + 1900 : y);
  });
  method(P, "getTimezoneOffset", function getTimezoneOffset() {
    return apply(getTime, this, []) * 0;
  });
  method(P, "toString", text((p) => `${dateText(p)} ${timeText(p)}`));
  method(P, "toDateString", text(dateText));
  method(P, "toTimeString", text(timeText));
  const two = (n) => (n < 10 ? `0${n}` : `${n}`);
  const localeDate = (t) => `${two(t.getUTCMonth() + 1)}/${two(t.getUTCDate())}/${t.getUTCFullYear()}`;
  const localeTime = (t) => {
    const hours = t.getUTCHours();
    return `${two(hours % 12 || 12)}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())} ${hours < 12 ? "AM" : "PM"}`;
  };
  const locale = (of) => function () {
    return apply(getTime, this, []) === this.getTime() && this.getTime() === this.getTime() ? of(this) : "Invalid Date";
  };
  method(P, "toLocaleDateString", locale(localeDate));
  method(P, "toLocaleTimeString", locale(localeTime));
  method(P, "toLocaleString", locale((t) => `${localeDate(t)}, ${localeTime(t)}`));
  method(G, "Date", UtcDate);

  // --- built-ins that walk an array without looking at the clock ---------------------------------

  // No array of this length fits into memory; one that claims it is a hole that these would walk for hours.
  const LENGTH_MAX = 2 ** 24;
  const isArray = Array.isArray;
  const bounded = (array) => {
    if (array != null && array.length > LENGTH_MAX) throw new RangeError("the array is too long");
  };
  for (const name of [
    "concat", "copyWithin", "fill", "flat", "flatMap", "join", "reverse", "shift", "slice", "sort", "splice",
    "toLocaleString", "toReversed", "toSorted", "toSpliced", "toString", "unshift", "with",
  ]) {
    const native = Array.prototype[name];
    const guarded = {
      [name]() {
        bounded(this);
        if (name === "concat") for (let i = 0; i < arguments.length; i++) if (isArray(arguments[i])) bounded(arguments[i]);
        return apply(native, this, arguments);
      },
    }[name];
    defineProperty(guarded, "length", { value: native.length });
    defineProperty(Array.prototype, name, { value: guarded, writable: true, enumerable: false, configurable: true });
  }

  // --- values that JavaScript has no type for -------------------------------------------------

  class Decimal {
    constructor(value) {
      const literal = String(value);
      if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(literal)) {
        throw new TypeError("a Decimal needs a number in JSON's syntax");
      }
      this.value = literal;
      freeze(this);
    }
    toString() { return this.value; }
    toJSON() { return this.value; }
    valueOf() { return Number(this.value); }
  }
  class Reference {
    constructor(path) {
      this.path = String(path);
      freeze(this);
    }
    toString() { return this.path; }
  }
  class GeoPoint {
    constructor(latitude, longitude) {
      this.latitude = Number(latitude);
      this.longitude = Number(longitude);
      freeze(this);
    }
  }
  class Vector {
    constructor(values) {
      this.values = freeze(Array.from(values, Number));
      freeze(this);
    }
  }
  method(G, "Whimbrel", { Decimal, Reference, GeoPoint, Vector });

  // An instant with digits below the millisecond keeps them while its Date is not changed.
  const exact = Symbol("exact instant");
  const exactDate = (ms, literal) =>
    defineProperty(new D(ms), exact, { value: freeze({ ms, literal }) });
  const toBase64 = Uint8Array.prototype.toBase64;
  const typeName = getOwnPropertyDescriptor(getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get;

  // Says what an object is that is neither plain nor an array: [kind, content…], see outward.rs.
  const describe = (value) => {
    if (isDate(value)) {
      const ms = apply(getTime, value, []);
      if (ms !== ms) return ["refused", "an invalid Date"];
      const kept = value[exact];
      return kept !== undefined && kept.ms === ms ? ["instant", kept.literal] : ["date", ms];
    }
    const array = apply(typeName, value, []);
    if (array === "Uint8Array") return ["bytes", apply(toBase64, value, [])];
    if (array !== undefined) return ["refused", `a ${array}`];
    if (value instanceof Decimal) return ["decimal", value.value];
    if (value instanceof Reference) return ["reference", value.path];
    if (value instanceof GeoPoint) return ["geopoint", value.latitude, value.longitude];
    if (value instanceof Vector) return ["vector", value.values];
    const name = value.constructor?.name;
    return ["refused", typeof name === "string" && name !== "" ? `an instance of ${name}` : "an object with a prototype"];
  };

  // --- containers that are read only when somebody looks into them ------------------------------

  // The handler of a lazy container. At the first look `fill` puts the content into the target, and the
  // handler loses its traps: from then on the engine goes straight to the target.
  const open = (handler, target) => {
    setPrototypeOf(handler, null);
    fill(target, handler.id);
  };
  const lazy = { __proto__: null };
  for (const trap of [
    "get", "set", "has", "deleteProperty", "defineProperty", "ownKeys", "getOwnPropertyDescriptor",
    "setPrototypeOf", "preventExtensions",
  ]) {
    const plain = Reflect[trap];
    lazy[trap] = function (target, x, y, z) {
      open(this, target);
      switch (trap) {
        case "get": return plain(target, x, y);
        case "set": return plain(target, x, y, z);
        case "ownKeys": case "preventExtensions": return plain(target);
        case "defineProperty": return plain(target, x, y);
        default: return plain(target, x);
      }
    };
  }

  // --- the context ------------------------------------------------------------------------------

  let key, group;
  const context = {
    get key() { return key; },
    get now() { return new D(now); },
    get group() { return group; },
  };

  // --- console: there is nowhere to print to ----------------------------------------------------

  const silent = {};
  for (const name of ["log", "info", "warn", "error", "debug", "trace", "assert", "dir", "table", "group", "groupEnd", "time", "timeEnd"]) {
    silent[name] = () => {};
  }
  method(G, "console", silent);

  // --- freezing ---------------------------------------------------------------------------------

  // Frozen, a prototype's method could not be shadowed by assignment (`error.name = "X"`,
  // `doc.toString = 1`), so those that people do shadow become accessors that define on the receiver.
  const shadowable = (owner, name) => {
    const found = getOwnPropertyDescriptor(owner, name);
    if (found === undefined || !("value" in found)) return;
    const { value, enumerable } = found;
    defineProperty(owner, name, {
      get() { return value; },
      set(given) {
        if (this === owner) throw new TypeError(`"${String(name)}" cannot be changed for all documents`);
        defineProperty(this, name, { value: given, writable: true, enumerable: true, configurable: true });
      },
      enumerable,
      configurable: false,
    });
  };
  for (const name of ownKeys(Object.prototype)) shadowable(Object.prototype, name);
  for (const type of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError, AggregateError]) {
    for (const name of ["name", "message", "toString", "constructor"]) shadowable(type.prototype, name);
  }

  const primordial = new Set();
  const freezeAll = (root) => {
    const todo = [root];
    while (todo.length > 0) {
      const value = todo.pop();
      if ((typeof value !== "object" && typeof value !== "function") || value === null || primordial.has(value)) continue;
      primordial.add(value);
      todo.push(getPrototypeOf(value));
      for (const name of ownKeys(value)) {
        const found = getOwnPropertyDescriptor(value, name);
        if ("value" in found) todo.push(found.value);
        else todo.push(found.get, found.set);
      }
      freeze(value);
    }
  };

  // The values that live as long as the module: frozen, or (expressions) put back before each document.
  const expressions = [];
  const refuse = () => {
    throw new TypeError("a module's values cannot be changed: they would carry over to the next document");
  };
  const bar = (value, names) => {
    for (const name of names) {
      if (typeof value[name] === "function") defineProperty(value, name, { value: refuse });
    }
  };
  const mutators = ["set", "add", "delete", "clear"];
  const dateMutators = ownKeys(P).filter((name) => typeof name === "string" && name.startsWith("set"));
  const seal = (root) => {
    const done = new Set();
    const todo = [root];
    while (todo.length > 0) {
      const value = todo.pop();
      if ((typeof value !== "object" && typeof value !== "function") || value === null) continue;
      if (done.has(value) || primordial.has(value)) continue;
      done.add(value);
      todo.push(getPrototypeOf(value));
      for (const name of ownKeys(value)) {
        const found = getOwnPropertyDescriptor(value, name);
        if ("value" in found) todo.push(found.value);
        else todo.push(found.get, found.set);
      }
      if (value === root) continue;
      if (value instanceof RegExp) {
        expressions.push(value);
        preventExtensions(value);
        continue;
      }
      if (value instanceof Map || value instanceof Set) {
        for (const entry of value) todo.push(...(value instanceof Map ? entry : [entry]));
        bar(value, mutators);
      } else if (value instanceof WeakMap || value instanceof WeakSet) {
        bar(value, mutators);
      } else if (isDate(value)) {
        bar(value, dateMutators);
      } else if (ArrayBuffer.isView(value)) {
        preventExtensions(value);
        continue;
      }
      freeze(value);
    }
  };

  // One call into the engine a document.
  const invoke = (fn, ms, a0, b0, document, itsKey, itsGroup) => {
    now = ms;
    seedA = a0;
    seedB = b0;
    seeded = false;
    key = itsKey;
    group = itsGroup;
    for (let i = 0; i < expressions.length; i++) expressions[i].lastIndex = 0;
    return fn(document, context);
  };
  const invokePair = (fn, ms, a0, b0, document, itsKey, other) =>
    invoke((document, context) => fn(document, other, context), ms, a0, b0, document, itsKey, undefined);

  for (const root of [
    G, context, lazy,
    getPrototypeOf(function* () {}), getPrototypeOf(async () => {}), getPrototypeOf(async function* () {}),
    getPrototypeOf([][Symbol.iterator]()), getPrototypeOf(""[Symbol.iterator]()),
    getPrototypeOf(new Map()[Symbol.iterator]()), getPrototypeOf(new Set()[Symbol.iterator]()),
    getPrototypeOf("".matchAll(/x/g)), getPrototypeOf([].values().map((x) => x)), getPrototypeOf(Iterator.from({ next() {} })),
  ]) freezeAll(root);

  return [
    Object.prototype, lazy, invoke, describe, seal, exactDate, (ms) => new D(ms),
    (literal) => new Decimal(literal), (path) => new Reference(path),
    (lat, lng) => new GeoPoint(lat, lng), (values) => new Vector(values), String,
    // The engine has integers apart from doubles, and makes an integer of a whole double wherever it can,
    // but not of a sum of two doubles.
    (lessHalf) => lessHalf + 0.5,
    invokePair,
  ];
})
