//! The one integration test binary: candle links slowly, so everything is linked once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod architecture;
mod cli;
mod config;
mod local;
mod minilm;
mod models;
mod pipeline;
mod server;
mod stores;
