//! Measuring what is built, with the same parts that the sidecar runs on.

pub mod advise;
pub mod cache;
pub mod churn;
pub mod embed;
pub mod import;
pub mod local;
pub mod questions;
pub mod replay;
pub mod report;
pub mod serve;
pub mod store;
pub mod train;
