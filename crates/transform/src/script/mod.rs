//! Schema versions, transforms and validators written in TypeScript or JavaScript.
//!
//! # What a script is
//! One module that imports nothing but types. [oxc](https://oxc.rs) strips the types; QuickJS
//! runs the rest, in a sandbox without I/O, timers or modules. [`TYPES`] declares what is there.
//!
//! # Pure
//! The same document gives the same bytes, in every run of it and on every machine:
//! - `new Date()`, `Date.now()` and `ctx.now` are the run's fixed instant; `Date` knows only UTC, whatever
//!   the machine's time zone; `Math.random()` is seeded by the document and starts anew with each.
//! - The intrinsics and `globalThis` are frozen. So is every value that the module's top level holds; its
//!   regular expressions start anew with each document. A top-level variable that a function assigns is
//!   refused when the file is loaded. What remains possible, and is not noticed, is a counter hidden in a
//!   closure (`const next = (() => { let n = 0; return () => n++; })()`), a generator, a typed array or a
//!   private field that lives at the top level: do not keep state there.
//! - A promise is refused: nothing would ever await it.
//!
//! # Types across the border
//! | document | script |
//! |---|---|
//! | int up to ±(2^53 − 1), double | number |
//! | int beyond | `BigInt` |
//! | timestamp | `Date`; finer digits than milliseconds survive while the `Date` is not changed |
//! | bytes | `Uint8Array` |
//! | decimal, reference, geo point, vector | `Whimbrel.Decimal`, `.Reference`, `.GeoPoint`, `.Vector`, frozen |
//!
//! A member that a script does not look into comes back byte for byte, under its own name or another. A
//! double without a fraction stays one wherever it is moved, and where it is computed anew at its place;
//! a computed whole number is otherwise an int. `undefined` drops a member; anywhere else it is refused,
//! as is all that a document cannot hold. Keys that look like array indexes come first, in numeric
//! order, where an object was built anew: JavaScript's own rule.
//!
//! # Limits
//! [`ScriptLimits`] bounds memory, stack and time of one document. A document that goes over is an error of
//! its own, and its runtime is thrown away. A single call of a built-in function over millions of elements
//! may overrun the time: the engine looks at the clock between operations.

mod compile;
mod condition;
mod fault;
mod inward;
mod outward;
mod purity;
mod sandbox;
mod transform;
mod validate;
mod version;
mod writer;

pub use crate::LoadError as ScriptError;
pub use condition::ScriptCondition;
pub use sandbox::ScriptLimits;
pub use transform::ScriptTransform;
pub use validate::ScriptValidate;
pub use version::ScriptVersion;

/// The declarations for a script's author: `whimbrel.d.ts` of a project.
pub const TYPES: &str = include_str!("whimbrel.d.ts");
