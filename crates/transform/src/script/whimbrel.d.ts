// What a Whimbrel script may use besides JavaScript itself. Written by `whimbrel init`; refer to it with
//   import type { Up, Down, Validate } from "../../whimbrel";
// or simply leave it beside your schemas: the globals below need no import.

/** A document's fields. Narrow it with your own interfaces. */
export type Doc = Record<string, any>;

export interface Context {
  /** The document's key; a number or an array where the collection's keys are such. */
  readonly key: string | number | bigint | readonly (string | number | bigint)[];
  /** The run's fixed instant; the same as `new Date()`. */
  readonly now: Date;
  /** The value that grouped documents share. */
  readonly group?: unknown;
}

export type Up<From = Doc, To = Doc> = (doc: From, ctx: Context) => To;
export type Down<From = Doc, To = Doc> = (doc: From, ctx: Context) => To;

/** True or nothing: valid. False, a message or messages, or an exception: not valid. */
export type Validate<D = Doc> = (doc: D, ctx: Context) => boolean | string | string[] | null | undefined | void;

/** The same for a check; an exception says that the check could not be done. */
export type Check<D = Doc> = (doc: D, ctx: Context) => ReturnType<Validate>;
/** A check of a pair: `other` is the document of the same key in the other collection, or null. */
export type CheckPair<D = Doc, O = Doc> = (doc: D, other: O | null, ctx: Context) => ReturnType<Validate>;

export interface Emit<D = Doc> {
  /** The rule's own target where it is left out. */
  collection?: string;
  /** The source document's key where it is left out. */
  key?: string | number | bigint | (string | number | bigint)[];
  data: D;
}

export type Transform<From = Doc, To = Doc> = (doc: From, ctx: Context) => To | Emit<To>[] | null;
export type GroupTransform<From = Doc, To = Doc> = (
  docs: { key: Context["key"]; data: From }[],
  ctx: Context,
) => To | Emit<To>[] | null;

declare global {
  /** Values that JavaScript has no type for. They are frozen. */
  namespace Whimbrel {
    class Decimal {
      constructor(value: string | number | bigint);
      /** The number as it is written. */
      readonly value: string;
    }
    class Reference {
      constructor(path: string);
      readonly path: string;
    }
    class GeoPoint {
      constructor(latitude: number, longitude: number);
      readonly latitude: number;
      readonly longitude: number;
    }
    class Vector {
      constructor(values: Iterable<number>);
      readonly values: readonly number[];
    }
  }
  /** Prints nothing. */
  const console: { log(...values: unknown[]): void; [name: string]: (...values: unknown[]) => void };
}
