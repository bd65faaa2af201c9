//! Documents per second through one thread: the transform crate's own examples measure themselves
//! beside the same work done by hand.

use crate::{Outcome, process};

pub fn run() -> Outcome<()> {
    for example in ["transform_speed", "script_speed"] {
        println!("\n{example}");
        process::run(process::cargo().args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "whimbrel-transform",
            "--example",
            example,
        ]))?;
    }
    Ok(())
}
