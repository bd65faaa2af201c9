//! The compatibility of schema versions, as far as it can be told without documents.

use crate::json_schema::compare_json_schemas;
use whimbrel_model::compat::{Compatibility, Judgement, Verdict};
use whimbrel_model::{Schema, Version};

/// Judges one version against the one before it, from its operations and from both JSON Schemas.
///
/// The reasons tell of every change that is not fully compatible, and of a script: what a script does,
/// only a trial on documents can tell, so it counts as full here.
#[must_use]
pub fn judge(version: &Version, before: Option<&Version>) -> (Compatibility, Vec<String>) {
    let Some(before) = before else {
        return (Compatibility::Full, Vec::new());
    };
    let shape = version.code.shape();
    let mut judgements = shape.judgements;
    if let (Some(old), Some(new)) = (before.code.shape().json_schema, &shape.json_schema) {
        judgements.extend(compare_json_schemas(&old, new));
    }
    let mut compatibility = Compatibility::Full;
    let mut reasons = Vec::new();
    for Judgement {
        compatibility: one,
        reason,
    } in judgements
    {
        compatibility = compatibility.and(one);
        if one != Compatibility::Full {
            reasons.push(reason);
        }
    }
    if shape.script {
        reasons.push("a script: only a trial on documents can tell what it changes".to_owned());
    }
    (compatibility, reasons)
}

/// Judges every version against the one before it and, transitively, against every older one: two
/// versions understand each other only if every step between them allows it.
#[must_use]
pub fn judge_all(schema: &Schema) -> Vec<Verdict> {
    let versions = schema.versions();
    let steps: Vec<_> = versions
        .windows(2)
        .map(|pair| judge(&pair[1], Some(&pair[0])))
        .collect();
    let mut verdicts = Vec::new();
    for to in 1..versions.len() {
        let mut compatibility = Compatibility::Full;
        let mut reasons = Vec::new();
        for from in (0..to).rev() {
            let (step, why) = &steps[from];
            compatibility = compatibility.and(*step);
            let number = versions[from + 1].number;
            reasons.splice(
                0..0,
                why.iter().map(|reason| format!("v{number}: {reason}")),
            );
            verdicts.push(Verdict {
                from: versions[from].number,
                to: versions[to].number,
                compatibility,
                reasons: reasons.clone(),
                documents: Vec::new(),
            });
        }
    }
    verdicts
}
