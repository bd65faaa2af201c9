//! Versions and transforms written as Rust closures.

use whimbrel_model::compat::Shape;
use whimbrel_model::{
    Code, DocContext, DocError, Draft, Emit, Map, Transform, TransformInput, Version, VersionCode,
};

type Up = dyn Fn(&mut Draft, &DocContext<'_>) -> Result<Map, DocError> + Send + Sync;
type Down = dyn Fn(&mut Draft, Option<&Map>, &DocContext<'_>) -> Result<(), DocError> + Send + Sync;
type Check = dyn Fn(&mut Draft, &DocContext<'_>) -> Result<(), DocError> + Send + Sync;

/// A schema version made of closures. They must be pure: the same document and context, the same result.
///
/// ```
/// use whimbrel_engine::NativeVersion;
/// use whimbrel_model::{Map, Value};
///
/// let v2 = NativeVersion::new("count-messages-1")
///     .up(|doc, _| {
///         doc.set("messageCount", Value::Int(0));
///         Ok(Map::new())
///     })
///     .down(|doc, _, _| {
///         doc.remove("messageCount");
///         Ok(())
///     })
///     .into_version(2, "message_count");
/// assert!(v2.code.reversible());
/// ```
pub struct NativeVersion {
    checksum: String,
    up: Option<Box<Up>>,
    down: Option<Box<Down>>,
    check: Option<Box<Check>>,
}

impl NativeVersion {
    /// `checksum` names what the closures mean: change it when their meaning changes.
    #[must_use]
    pub fn new(checksum: impl Into<String>) -> Self {
        Self {
            checksum: checksum.into(),
            up: None,
            down: None,
            check: None,
        }
    }

    /// From the version before to this one; returns what it dropped, for `down`.
    #[must_use]
    pub fn up(
        mut self,
        up: impl Fn(&mut Draft, &DocContext<'_>) -> Result<Map, DocError> + Send + Sync + 'static,
    ) -> Self {
        self.up = Some(Box::new(up));
        self
    }

    /// From this version to the one before; without it there is no way back.
    #[must_use]
    pub fn down(
        mut self,
        down: impl Fn(&mut Draft, Option<&Map>, &DocContext<'_>) -> Result<(), DocError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.down = Some(Box::new(down));
        self
    }

    #[must_use]
    pub fn validate(
        mut self,
        check: impl Fn(&mut Draft, &DocContext<'_>) -> Result<(), DocError> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    #[must_use]
    pub fn into_version(self, number: u32, name: &str) -> Version {
        Version {
            number,
            name: name.to_owned(),
            description: String::new(),
            code: std::sync::Arc::new(self),
        }
    }
}

impl VersionCode for NativeVersion {
    fn up(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<Map, DocError> {
        self.up
            .as_ref()
            .map_or_else(|| Ok(Map::new()), |up| up(doc, cx))
    }

    fn down(
        &self,
        doc: &mut Draft,
        complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        match &self.down {
            Some(down) => down(doc, complement, cx),
            None => Err(DocError::new(
                Code::Irreversible,
                "this version has no way down",
            )),
        }
    }

    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError> {
        self.check.as_ref().map_or(Ok(()), |check| check(doc, cx))
    }

    fn reversible(&self) -> bool {
        self.down.is_some()
    }

    fn shape(&self) -> Shape {
        Shape {
            script: true,
            ..Shape::default()
        }
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}

type Apply = dyn Fn(TransformInput, &DocContext<'_>) -> Result<Vec<Emit>, DocError> + Send + Sync;

/// A copy rule's transform made of a closure. It must be pure.
pub struct NativeTransform {
    checksum: String,
    apply: Box<Apply>,
}

impl NativeTransform {
    /// `checksum` names what the closure means: change it when its meaning changes.
    #[must_use]
    pub fn new(
        checksum: impl Into<String>,
        apply: impl Fn(TransformInput, &DocContext<'_>) -> Result<Vec<Emit>, DocError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            checksum: checksum.into(),
            apply: Box::new(apply),
        }
    }
}

impl Transform for NativeTransform {
    fn apply(&self, input: TransformInput, cx: &DocContext<'_>) -> Result<Vec<Emit>, DocError> {
        (self.apply)(input, cx)
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}
