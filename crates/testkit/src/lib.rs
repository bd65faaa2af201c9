//! Test tools of Whimbrel: what only tests need.

pub mod crashing;
pub mod faulty;
pub mod servers;
