//! Instants as Firestore keeps them: microseconds since 1970-01-01T00:00:00Z, rounded down.

use prost_types::Timestamp;

pub type Micros = i64;

/// What is finer than a microsecond is cut off.
#[must_use]
pub fn from_proto(at: &Timestamp) -> Micros {
    at.seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(at.nanos).div_euclid(1000))
}

#[must_use]
pub fn to_proto(at: Micros) -> Timestamp {
    Timestamp {
        seconds: at.div_euclid(1_000_000),
        nanos: i32::try_from(at.rem_euclid(1_000_000)).unwrap_or(0) * 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip_and_finer_digits_are_cut_off() {
        for at in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(from_proto(&to_proto(at)), at);
        }
        let finer = Timestamp {
            seconds: -1,
            nanos: 999_999_999,
        };
        assert_eq!(from_proto(&finer), -1);
    }
}
