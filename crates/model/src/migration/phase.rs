//! Where a collection's cutover stands.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `off → dualwrite → shadow → ramp(n%) → live → rampdown → complete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Phase {
    #[default]
    Off,
    /// Writes go to both ends.
    Dualwrite,
    /// Reads go to both, and are compared; the source answers.
    Shadow,
    /// The target answers this share (1 to 99, in per cent) of the keys.
    Ramp(u8),
    /// The target holds the truth.
    Live,
    /// The source is still kept up to date, for the way back.
    Rampdown,
    /// The source is let go; there is no way back.
    Complete,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhaseError {
    #[error(
        "{0:?} is no phase; phases are off, dualwrite, shadow, ramp(1%) to ramp(99%), live, rampdown, complete"
    )]
    Unknown(String),
    #[error("a collection cannot go from {from} to {to}; from {from} it goes to {}", .next.join(" or "))]
    Impossible {
        from: Phase,
        to: Phase,
        next: Vec<String>,
    },
}

impl Phase {
    fn rank(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Dualwrite => 1,
            Self::Shadow => 2,
            Self::Ramp(_) => 3,
            Self::Live => 4,
            Self::Rampdown => 5,
            Self::Complete => 6,
        }
    }

    /// Whether a collection may go from here to `to`: one phase on, any number back, a ramp to any share.
    ///
    /// # Errors
    /// It may not.
    pub fn may_become(self, to: Phase) -> Result<(), PhaseError> {
        let (a, b) = (self.rank(), to.rank());
        let back = b <= a && self != Self::Complete;
        // A ramp may be left out: straight from shadow to live.
        let on = b == a + 1 || (self == Self::Shadow && to == Self::Live);
        if back || on {
            return Ok(());
        }
        let next = match self {
            Self::Off => vec!["dualwrite".to_owned()],
            Self::Dualwrite => vec!["shadow".into(), "off".into()],
            Self::Shadow => vec!["ramp(n%)".into(), "live".into(), "dualwrite".into()],
            Self::Ramp(_) => vec!["another ramp(n%)".into(), "live".into(), "shadow".into()],
            Self::Live => vec!["rampdown".into(), "ramp(n%)".into()],
            Self::Rampdown => vec!["complete".into(), "live".into()],
            Self::Complete => vec!["nowhere".into()],
        };
        Err(PhaseError::Impossible {
            from: self,
            to,
            next,
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Dualwrite => f.write_str("dualwrite"),
            Self::Shadow => f.write_str("shadow"),
            Self::Ramp(share) => write!(f, "ramp({share}%)"),
            Self::Live => f.write_str("live"),
            Self::Rampdown => f.write_str("rampdown"),
            Self::Complete => f.write_str("complete"),
        }
    }
}

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        let ramp = |inner: &str| inner.trim().trim_end_matches('%').trim().parse().ok();
        Ok(match text {
            "off" => Self::Off,
            "dualwrite" => Self::Dualwrite,
            "shadow" => Self::Shadow,
            "live" => Self::Live,
            "rampdown" => Self::Rampdown,
            "complete" => Self::Complete,
            other => {
                let inner = other
                    .strip_prefix("ramp(")
                    .and_then(|rest| rest.strip_suffix(')'));
                match inner.and_then(ramp) {
                    Some(share @ 1..=99) => Self::Ramp(share),
                    _ => return Err(PhaseError::Unknown(text.to_owned())),
                }
            }
        })
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> Self {
        phase.to_string()
    }
}

impl TryFrom<String> for Phase {
    type Error = PhaseError;

    fn try_from(text: String) -> Result<Self, PhaseError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_one_on_or_back() {
        for (from, to, fine) in [
            ("off", "dualwrite", true),
            ("off", "shadow", false),
            ("off", "live", false),
            ("dualwrite", "shadow", true),
            ("shadow", "ramp(5%)", true),
            ("shadow", "live", true),
            ("ramp(5%)", "ramp(50%)", true),
            ("ramp(50%)", "ramp(5%)", true),
            ("ramp(50%)", "live", true),
            ("live", "off", true),
            ("live", "rampdown", true),
            ("live", "complete", false),
            ("rampdown", "complete", true),
            ("complete", "live", false),
        ] {
            let (from, to): (Phase, Phase) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(from.may_become(to).is_ok(), fine, "{from} to {to}");
        }
    }

    #[test]
    fn a_phase_reads_what_it_writes() {
        for text in [
            "off",
            "dualwrite",
            "shadow",
            "ramp(1%)",
            "ramp(99%)",
            "live",
            "rampdown",
            "complete",
        ] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "ramp",
            "ramp()",
            "ramp(0%)",
            "ramp(100%)",
            "ramp(-1%)",
            "Live",
        ] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
    }
}
