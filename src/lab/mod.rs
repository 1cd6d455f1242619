//! Measuring what is built, with the same parts that the sidecar runs on.

pub mod cache;
pub mod embed;
pub mod local;
pub mod train;
