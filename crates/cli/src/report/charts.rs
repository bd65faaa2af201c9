//! Charts for the page, as inline SVG. Every number in them stands in text beside them too.

use super::markup::escaped;
use std::fmt::Write;

/// One part of a bar: its CSS class, its number, what it is.
pub struct Part {
    pub class: &'static str,
    pub n: u64,
    pub what: &'static str,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 22.0;
/// Three of two millions must be seen.
const LEAST: f64 = 10.0;

/// One stacked bar over the whole width. Parts that there are none of have no place in it.
#[must_use]
pub fn stacked(label: &str, parts: &[Part]) -> String {
    let words: Vec<String> = parts
        .iter()
        .filter(|p| p.n > 0)
        .map(|p| format!("{} {}", crate::paint::thousands(p.n), p.what))
        .collect();
    let mut out = format!(
        "<svg class=\"bar\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        escaped(&format!("{label}: {}", words.join(", ")))
    );
    let _ = write!(
        out,
        "<rect class=\"none\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>"
    );
    let mut x = 0.0;
    for (part, width) in parts.iter().zip(widths(parts)) {
        if width > 0.0 {
            let _ = write!(
                out,
                "<rect class=\"{}\" x=\"{x:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
                part.class,
                escaped(&format!(
                    "{} {}",
                    crate::paint::thousands(part.n),
                    part.what
                ))
            );
            x += width;
        }
    }
    out.push_str("</svg>");
    out
}

/// Every part that there is gets a width to be seen by; the rest is shared out by number.
#[allow(clippy::cast_precision_loss)]
fn widths(parts: &[Part]) -> Vec<f64> {
    let total: u64 = parts.iter().map(|p| p.n).sum();
    let present = parts.iter().filter(|p| p.n > 0).count();
    let free = WIDTH - LEAST * present as f64;
    let width = |p: &Part| match p.n {
        0 => 0.0,
        n => LEAST + free * n as f64 / total as f64,
    };
    parts.iter().map(width).collect()
}

/// A small bar for one amount among others of which `most` is the greatest.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn spark(n: u64, most: u64) -> String {
    let width = 100.0 * n as f64 / most.max(1) as f64;
    let width = width.clamp(if n > 0 { 1.5 } else { 0.0 }, 100.0);
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"none\" width=\"100\" height=\"8\"/><rect class=\"time\" width=\"{width:.1}\" height=\"8\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_among_many_are_seen_and_all_fit() {
        let part = |n| Part {
            class: "x",
            n,
            what: "x",
        };
        for numbers in [
            vec![2_000_000, 1, 0, 3],
            vec![0, 0],
            vec![1],
            vec![u64::from(u32::MAX), 5, 5, 5, 5],
        ] {
            let parts: Vec<Part> = numbers.iter().map(|n| part(*n)).collect();
            let widths = widths(&parts);
            for (n, width) in numbers.iter().zip(&widths) {
                assert!((*n == 0) == (*width == 0.0) && (*n == 0 || *width >= LEAST));
            }
            let sum: f64 = widths.iter().sum();
            let any = numbers.iter().any(|n| *n > 0);
            assert!(
                (sum - if any { WIDTH } else { 0.0 }).abs() < 1e-6,
                "{numbers:?}"
            );
        }
    }
}
