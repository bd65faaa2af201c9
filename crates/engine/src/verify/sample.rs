//! Looking at a part of the documents, and what that says of all of them.

use whimbrel_model::Key;
use whimbrel_model::finding::Sample;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CONFIDENCE: f64 = 0.95;

/// Chooses by the key alone: the same seed takes the same keys, on both ends and in every run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// 0 to 1.
    pub share: f64,
    pub seed: u64,
}

impl Sampling {
    pub fn takes(self, key: &Key) -> bool {
        let hash = xxh3_64_with_seed(key.to_string().as_bytes(), self.seed);
        // 53 bits are a double's.
        #[expect(
            clippy::cast_precision_loss,
            reason = "the lowest bits are shifted out"
        )]
        let place = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        place < self.share
    }

    /// What it says when `bad` of `seen` documents were not as they should be.
    pub fn says(self, seen: u64, bad: u64) -> Sample {
        Sample {
            share: self.share,
            seed: self.seed,
            confidence: CONFIDENCE,
            at_most: at_most(seen, bad),
        }
    }
}

/// The exact upper bound of Clopper and Pearson (Biometrika 26, 1934), one-sided: the greatest share of bad
/// documents under which so few would be seen with a probability of at least 1 - confidence. Without any
/// bad one it is close to 3 / seen, the rule of three.
fn at_most(seen: u64, bad: u64) -> f64 {
    if bad >= seen {
        return 1.0;
    }
    let unlikely = (1.0 - CONFIDENCE).ln();
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if ln_at_most(seen, bad, middle) > unlikely {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The logarithm of the probability of at most `bad` in `seen` where each is bad with probability `p`.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ln_at_most(seen: u64, bad: u64, p: f64) -> f64 {
    let odds = p.ln() - (-p).ln_1p();
    let mut term = seen as f64 * (-p).ln_1p();
    // Sums of logarithms: the terms themselves may be too small for a double.
    let mut sum = term;
    for i in 1..=bad {
        term += ((seen - i + 1) as f64).ln() - (i as f64).ln() + odds;
        let (small, great) = if term < sum { (term, sum) } else { (sum, term) };
        sum = great + (small - great).exp().ln_1p();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // One-sided 95 % bounds, as R's binom.test(k, n, alternative = "less") gives them.
        for (seen, bad, expect) in [
            (0, 0, 1.0),
            (10, 0, 0.258_866),
            (100, 0, 0.029_513),
            (1_000, 0, 0.002_991),
            (100, 1, 0.046_558),
            (100, 5, 0.102_252),
            (10, 10, 1.0),
            (1_000_000, 0, 2.995_728e-6),
        ] {
            let found = at_most(seen, bad);
            assert!(
                (found - expect).abs() < expect * 1e-3,
                "{seen} {bad}: {found}"
            );
        }
    }

    #[test]
    fn the_same_seed_takes_the_same_keys_and_about_the_share() {
        let of = |seed: u64, share: f64| -> Vec<i64> {
            let sampling = Sampling { share, seed };
            (0..20_000)
                .filter(|n| sampling.takes(&Key::Int(*n)))
                .collect()
        };
        assert_eq!(of(7, 0.1), of(7, 0.1));
        assert_ne!(of(7, 0.1), of(8, 0.1));
        assert!((1_800..2_200).contains(&of(7, 0.1).len()));
        assert_eq!(of(1, 1.0).len(), 20_000);
        assert!(of(1, 0.0).is_empty());
    }
}
