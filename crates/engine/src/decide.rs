//! What becomes of one document of an upgrade or of its undo. Pure: the same document, pre-images and
//! instant give the same fate.

use std::collections::HashSet;

use whimbrel_model::ledger::RunId;
use whimbrel_model::{
    Body, DocContext, DocError, Document, Draft, Fingerprint, Key, Schema, Timestamp,
};

use crate::job::Failure;
use crate::preimage::Preimages;

/// Where documents shall go.
#[derive(Debug)]
pub(crate) enum Goal {
    /// All of them to this version.
    Version(u32),
    /// Each to the version that it had before these runs wrote it; one that they did not write, down to
    /// `otherwise`.
    Before {
        runs: HashSet<RunId>,
        otherwise: u32,
    },
}

/// A document that is to be written.
pub(crate) struct Planned {
    pub doc: Document,
    pub from: u32,
    pub to: u32,
    pub after: bytes::Bytes,
    pub print: Fingerprint,
}

pub(crate) enum Fate {
    Move(Planned),
    Unchanged(Key),
    Written(Key),
    Newer,
    Fail(Failure),
}

/// What an upgrade, or its undo, decides by.
#[derive(Debug)]
pub(crate) struct Decider {
    pub schema: Schema,
    pub goal: Goal,
}

enum Verdict {
    Stay {
        ours: bool,
    },
    Newer,
    Go {
        from: u32,
        to: u32,
        after: bytes::Bytes,
        print: Fingerprint,
    },
}

impl Decider {
    /// Whether the document is where it shall be, whatever its pre-images say.
    pub(crate) fn is_there(&self, doc: &Document) -> bool {
        let Goal::Version(to) = self.goal else {
            return false;
        };
        self.read(doc).is_ok_and(|(_, version)| version == to)
    }

    /// Whether an undo leaves what cannot be read as it is: its runs could not read it either. (`None`: the
    /// key cannot be read.)
    pub(crate) fn never_written(&self, key: Option<&Key>, images: &Preimages) -> bool {
        match &self.goal {
            Goal::Version(_) => false,
            Goal::Before { runs, .. } => !key.is_some_and(|key| images.any_of(runs, key)),
        }
    }

    fn read(&self, doc: &Document) -> Result<(Draft, u32), DocError> {
        let mut draft = Draft::from_body(doc.body.clone())?;
        let version = self.schema.version_of(&mut draft)?;
        Ok((draft, version))
    }

    /// `again_in` names the run where an earlier attempt of it may have written the document.
    pub(crate) fn decide(
        &self,
        doc: Document,
        now: Timestamp,
        images: &Preimages,
        again_in: Option<&str>,
    ) -> Fate {
        match self.judge(&doc, now, images, again_in) {
            Ok(Verdict::Stay { ours: true }) => Fate::Written(doc.key),
            Ok(Verdict::Stay { ours: false }) => Fate::Unchanged(doc.key),
            Ok(Verdict::Newer) => Fate::Newer,
            Ok(Verdict::Go {
                from,
                to,
                after,
                print,
            }) => Fate::Move(Planned {
                doc,
                from,
                to,
                after,
                print,
            }),
            Err((version, error)) => Fate::Fail(Failure::of(&doc.key, version, error)),
        }
    }

    /// The version that this document, now at `from`, shall come to.
    fn goal_of(&self, doc: &Document, from: u32, images: &Preimages) -> Result<u32, DocError> {
        Ok(match &self.goal {
            Goal::Version(to) => *to,
            Goal::Before { runs, otherwise } if images.has(&doc.key) => {
                let print = doc.body.fingerprint()?;
                let found = images.before(&doc.key, print, from, runs);
                found.map_or(from.min(*otherwise), |before| before.goal(from))
            }
            Goal::Before { otherwise, .. } => from.min(*otherwise),
        })
    }

    fn judge(
        &self,
        doc: &Document,
        now: Timestamp,
        images: &Preimages,
        again_in: Option<&str>,
    ) -> Result<Verdict, (Option<u32>, DocError)> {
        let (mut draft, from) = match self.read(doc) {
            Ok(read) => read,
            Err(_) if self.never_written(Some(&doc.key), images) => {
                return Ok(Verdict::Stay { ours: false });
            }
            Err(error) => return Err((None, error)),
        };
        if from > self.schema.newest() {
            return Ok(Verdict::Newer);
        }
        let versioned = |e: DocError| (Some(from), e);
        let print = |body: &Body| body.fingerprint().map_err(|e| versioned(DocError::from(e)));
        let to = self.goal_of(doc, from, images).map_err(versioned)?;
        if from == to {
            let ours = match again_in {
                Some(run) => images.written_by(run, &doc.key, print(&doc.body)?),
                None => false,
            };
            return Ok(Verdict::Stay { ours });
        }
        let mut begin = from;
        if images.has(&doc.key)
            && let Some((version, body)) = images.nearest(&doc.key, print(&doc.body)?, from, to)
        {
            let exact = body.into_json();
            if version == to {
                let print = print(&Body::Json(exact.clone()))?;
                let after = exact;
                return Ok(Verdict::Go {
                    from,
                    to,
                    after,
                    print,
                });
            }
            // The app last wrote it there: what a transform dropped from that on the way is back again.
            draft = Draft::from_json(exact).map_err(|e| versioned(DocError::from(e)))?;
            begin = version;
        }
        let cx = DocContext::new(&doc.key, now);
        let complements = if to < begin {
            images.complements(&doc.key, &self.schema, &cx)
        } else {
            Default::default()
        };
        let complement = |version| complements.get(&version).cloned();
        let moved = self
            .schema
            .migrate(draft, to, &complement, &cx)
            .map_err(versioned)?;
        let after = moved.doc.into_body().into_json();
        let print = print(&Body::Json(after.clone()))?;
        Ok(Verdict::Go {
            from,
            to,
            after,
            print,
        })
    }
}
