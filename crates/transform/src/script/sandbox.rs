//! One script in one JavaScript runtime, with its limits; and the pool of them.
//!
//! A sandbox serves one document at a time. Whatever goes beyond a document's own fault (a timeout, too
//! much memory, work left for later) costs the sandbox: it is dropped, and the next document gets a new
//! one.

use super::compile::{Compiled, located, with_snippet};
use super::fault::{self, Fault};
use super::inward::{self, Lazies, Shared};
use crate::LoadError;
use rquickjs::context::intrinsic;
use rquickjs::{Context, Ctx, Function, Module, Object, Runtime, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use whimbrel_model::{Code, DocContext, DocError, Key};

/// What one document may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Memory of one JavaScript runtime, in bytes; also the largest result.
    pub memory_bytes: usize,
    /// Depth of calls, as bytes of the native stack. A thread that runs scripts needs twice as much.
    pub stack_bytes: usize,
    /// Time for one document, from its fields to its result.
    pub time_ms: u64,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            stack_bytes: 512 << 10,
            time_ms: 1000,
        }
    }
}

/// Everything but `Eval`'s wishes: no WeakRef, no performance clock, no DOMException.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);

/// Ends a document's run when its time is over.
struct Watch {
    base: Instant,
    /// Nanoseconds after `base`.
    deadline: AtomicU64,
    fired: AtomicBool,
}

impl Watch {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn arm(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.fired.store(false, Ordering::Relaxed);
        self.deadline
            .store(self.elapsed().saturating_add(limit), Ordering::Relaxed);
    }

    fn over(&self) -> bool {
        let over = self.elapsed() > self.deadline.load(Ordering::Relaxed);
        if over {
            self.fired.store(true, Ordering::Relaxed);
        }
        over
    }
}

/// What sandbox.js returns, in its order, and then the user's exports.
#[derive(Clone, Copy)]
pub(super) enum Part {
    ObjectPrototype,
    LazyTraps,
    Invoke,
    Describe,
    Seal,
    ExactDate,
    Date,
    Decimal,
    Reference,
    GeoPoint,
    Vector,
    Text,
    AddHalf,
    InvokePair,
}

const PARTS: usize = Part::InvokePair as usize + 1;

/// The engine's side of one sandbox: values that live as long as it does.
pub(super) struct Kit<'js> {
    pub ctx: Ctx<'js>,
    values: Vec<Value<'js>>,
}

impl<'js> Kit<'js> {
    pub fn new(ctx: Ctx<'js>, values: Vec<Value<'js>>) -> Self {
        Self { ctx, values }
    }

    pub fn part(&self, part: Part) -> &Value<'js> {
        &self.values[part as usize]
    }

    pub fn function(&self, part: Part) -> Result<&Function<'js>, Fault> {
        self.part(part).as_function().ok_or(Fault::Engine)
    }
}

pub(super) struct Sandbox {
    // Before the runtime: a context must be freed first.
    context: Context,
    runtime: Runtime,
    lazies: Shared,
    watch: Arc<Watch>,
}

/// A compiled script and the sandboxes that wait for work.
pub(super) struct Script {
    compiled: Compiled,
    text: String,
    limits: ScriptLimits,
    /// The names under which the module's functions are called, in the order of `run`'s `export`.
    exports: &'static [&'static str],
    present: Vec<bool>,
    pub description: String,
    idle: Mutex<Vec<Sandbox>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script")
            .field("name", &self.compiled.name)
            .field("checksum", &self.compiled.checksum)
            .finish_non_exhaustive()
    }
}

impl Script {
    /// Compiles the file and evaluates it once.
    ///
    /// # Errors
    /// All that keeps it from being compiled, or the first thing that keeps it from being evaluated.
    pub fn load(
        name: &str,
        text: &str,
        exports: &'static [&'static str],
        limits: ScriptLimits,
    ) -> Result<Self, LoadError> {
        let compiled = super::compile::compile(name, text).map_err(joined)?;
        let mut script = Self {
            compiled,
            text: text.to_owned(),
            limits,
            exports,
            present: Vec::new(),
            description: String::new(),
            idle: Mutex::new(Vec::new()),
        };
        let (sandbox, loaded) = script.open()?;
        script.present = loaded.present;
        script.description = loaded.description;
        if !script.present.contains(&true) {
            let wanted = exports.join(", ");
            return Err(located(
                name,
                text,
                0,
                &format!("the script exports none of {wanted}"),
            ));
        }
        script.give_back(sandbox);
        Ok(script)
    }

    pub fn has(&self, export: usize) -> bool {
        self.present.get(export).copied().unwrap_or(false)
    }

    pub fn checksum(&self) -> &str {
        &self.compiled.checksum
    }

    fn take(&self) -> Option<Sandbox> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn give_back(&self, sandbox: Sandbox) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sandbox);
    }

    fn error(&self, message: &str, place: Option<(u32, u32)>) -> LoadError {
        let error = LoadError::new(Code::ScriptInvalid, self.compiled.name.clone(), message);
        match place {
            Some((line, column)) => with_snippet(error.at(line, column), &self.text, line, column),
            None => error,
        }
    }

    fn open(&self) -> Result<(Sandbox, Loaded), LoadError> {
        let engine = |_| self.error("the JavaScript engine could not be started", None);
        let runtime = Runtime::new().map_err(engine)?;
        runtime.set_memory_limit(self.limits.memory_bytes);
        runtime.set_max_stack_size(self.limits.stack_bytes);
        let watch = Arc::new(Watch {
            base: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            fired: AtomicBool::new(false),
        });
        let watched = watch.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || watched.over())));
        let context = Context::custom::<Intrinsics>(&runtime).map_err(engine)?;
        let lazies: Shared = Arc::new(Mutex::new(Lazies::default()));
        watch.arm(Duration::from_millis(self.limits.time_ms.max(1000)));
        let loaded = context.with(|ctx| {
            self.prepare(&ctx, &lazies).map_err(|fault| {
                let told = fault::tell(
                    &ctx,
                    fault,
                    &self.compiled,
                    watch.fired.load(Ordering::Relaxed),
                );
                self.error(
                    &format!("the script cannot be loaded: {}", told.text),
                    told.place,
                )
            })
        })?;
        if runtime.is_job_pending() {
            return Err(self.error(LATER, None));
        }
        let sandbox = Sandbox {
            context,
            runtime,
            lazies,
            watch,
        };
        Ok((sandbox, loaded))
    }

    fn prepare<'js>(&self, ctx: &Ctx<'js>, lazies: &Shared) -> Result<Loaded, Fault> {
        let filler = lazies.clone();
        let fill = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, target: Object<'js>, id: f64| {
                inward::fill(&ctx, &filler, &target, id)
            },
        )?;
        let bootstrap: Function<'js> = ctx.eval(include_str!("sandbox.js"))?;
        let mut values: Vec<Value<'js>> = bootstrap.call((fill,))?;
        if values.len() != PARTS {
            return Err(Fault::Engine);
        }
        let (module, promise) = Module::declare(
            ctx.clone(),
            self.compiled.name.as_str(),
            self.compiled.javascript.as_str(),
        )?
        .eval()?;
        match promise.result::<Value<'js>>() {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Fault::doc(Code::ScriptInvalid, LATER)),
        }
        let namespace = module.namespace()?;
        let seal = values[Part::Seal as usize]
            .as_function()
            .ok_or(Fault::Engine)?;
        seal.call::<_, ()>((namespace.clone(),))?;
        let mut present = Vec::new();
        for name in self.exports {
            let export: Value<'js> = namespace.get(*name)?;
            if !export.is_undefined() && !export.is_function() {
                return Err(Fault::doc(
                    Code::ScriptInvalid,
                    format!("the export \"{name}\" is no function"),
                ));
            }
            present.push(export.is_function());
            values.push(export);
        }
        let description: Value<'js> = namespace.get("description")?;
        let description = match description.as_string() {
            Some(text) => text.to_string()?,
            None => String::new(),
        };
        ctx.store_userdata(values).map_err(|_| Fault::Engine)?;
        Ok(Loaded {
            present,
            description,
        })
    }

    /// Runs one document's work in a sandbox of this script.
    ///
    /// # Errors
    /// What the work, the script or its limits say.
    pub fn run<R>(
        &self,
        cx: &DocContext<'_>,
        work: impl for<'js> FnOnce(&Session<'_, 'js>) -> Result<R, Fault>,
    ) -> Result<R, DocError> {
        let sandbox = match self.take() {
            Some(sandbox) => sandbox,
            None => {
                self.open()
                    .map_err(|error| DocError::new(Code::DocTransform, error.message))?
                    .0
            }
        };
        sandbox
            .watch
            .arm(Duration::from_millis(self.limits.time_ms));
        inward::lock(&sandbox.lazies).begin();
        let (outcome, fatal) = sandbox.context.with(|ctx| {
            let outcome = self
                .session(&ctx, &sandbox, cx)
                .and_then(|session| work(&session));
            match outcome {
                // A script may have caught what came of a container that could not be read.
                Ok(_) if inward::lock(&sandbox.lazies).error.is_some() => {
                    let kept = inward::lock(&sandbox.lazies).error.take();
                    (Err(kept.unwrap_or_else(|| unreachable!())), false)
                }
                Ok(value) => (Ok(value), false),
                Err(fault) => {
                    let fired = sandbox.watch.fired.load(Ordering::Relaxed);
                    let kept = inward::lock(&sandbox.lazies).error.take();
                    let error = match kept {
                        Some(error) => error,
                        None => fault::tell(&ctx, fault, &self.compiled, fired)
                            .into_doc_error(&self.limits),
                    };
                    let fatal = matches!(error.code, Code::DocTimeout | Code::DocMemory) || fired;
                    (Err(error), fatal)
                }
            }
        });
        if fatal {
            return outcome;
        }
        if sandbox.runtime.is_job_pending() {
            return outcome.and(Err(DocError::new(Code::DocTransform, LATER)));
        }
        self.give_back(sandbox);
        outcome
    }

    fn session<'s, 'js>(
        &'s self,
        ctx: &Ctx<'js>,
        sandbox: &'s Sandbox,
        cx: &'s DocContext<'s>,
    ) -> Result<Session<'s, 'js>, Fault> {
        let values = ctx.userdata::<Vec<Value<'js>>>().ok_or(Fault::Engine)?;
        Ok(Session {
            kit: Kit {
                ctx: ctx.clone(),
                values: values.clone(),
            },
            lazies: &sandbox.lazies,
            watch: &sandbox.watch,
            limits: &self.limits,
            cx,
        })
    }
}

/// All errors as one: the first, and the others below it.
fn joined(errors: Vec<LoadError>) -> LoadError {
    let mut errors = errors.into_iter();
    let mut first = errors
        .next()
        .unwrap_or_else(|| LoadError::new(Code::ScriptInvalid, "", "the script cannot be read"));
    for other in errors {
        first.message.push('\n');
        first.message.push_str(&other.to_string());
    }
    first
}

const LATER: &str = "the script left work for later (a promise); transforms finish at once";

struct Loaded {
    present: Vec<bool>,
    description: String,
}

/// One document's time in a sandbox.
pub(super) struct Session<'s, 'js> {
    pub kit: Kit<'js>,
    pub lazies: &'s Shared,
    watch: &'s Watch,
    pub limits: &'s ScriptLimits,
    pub cx: &'s DocContext<'s>,
}

impl<'js> Session<'_, 'js> {
    /// Calls an export with the document (and, for a group, what its documents share).
    pub fn call(
        &self,
        export: usize,
        document: Value<'js>,
        group: Option<Value<'js>>,
    ) -> Result<Value<'js>, Fault> {
        self.invoke(Part::Invoke, export, document, group)
    }

    /// Calls an export with two documents.
    pub fn call_pair(
        &self,
        export: usize,
        document: Value<'js>,
        other: Value<'js>,
    ) -> Result<Value<'js>, Fault> {
        self.invoke(Part::InvokePair, export, document, Some(other))
    }

    fn invoke(
        &self,
        part: Part,
        export: usize,
        document: Value<'js>,
        last: Option<Value<'js>>,
    ) -> Result<Value<'js>, Fault> {
        let ctx = &self.kit.ctx;
        let function = self
            .kit
            .values
            .get(PARTS + export)
            .ok_or(Fault::Engine)?
            .clone();
        let seed = self.cx.seed;
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let now = self.cx.now.millis_floor() as f64;
        #[allow(clippy::cast_possible_truncation)]
        let (a, b) = (
            ((seed >> 32) as u32).cast_signed(),
            (seed as u32).cast_signed(),
        );
        let key = key_value(ctx, self.cx.key)?;
        let last = last.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
        let result = self
            .kit
            .function(part)?
            .call((function, now, a, b, document, key, last))?;
        Ok(result)
    }

    /// # Errors
    /// The document's time is over.
    pub fn check_time(&self) -> Result<(), Fault> {
        if self.watch.over() {
            return Err(Fault::Js(rquickjs::Error::Exception));
        }
        Ok(())
    }
}

/// A key as scripts see it: a text, a number, or an array of these.
pub(super) fn key_value<'js>(ctx: &Ctx<'js>, key: &Key) -> Result<Value<'js>, Fault> {
    Ok(match key {
        Key::Int(n) => inward::int_value(ctx, *n)?,
        Key::Text(text) => inward::text_value(ctx, text)?,
        Key::Uuid(_) => inward::text_value(ctx, &key.to_string())?,
        Key::Tuple(parts) => {
            let array = rquickjs::Array::new(ctx.clone())?;
            for (i, part) in parts.iter().enumerate() {
                array.set(i, key_value(ctx, part)?)?;
            }
            array.into_value()
        }
    })
}
