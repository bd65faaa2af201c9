//! Measurements.
use crate::Outcome;
use clap::Args;

#[derive(Args)]
pub struct BenchArguments {}

pub fn run(_arguments: &BenchArguments) -> Outcome<()> {
    Ok(())
}
