//! The one integration test binary: candle links slowly, so everything is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop, and tests of whole processes wait on threads of their own"
)]

mod advise;
mod architecture;
mod bench;
mod bound;
mod chain;
mod cli;
mod config;
mod controls;
mod crash;
mod explain;
mod faces;
mod faults;
mod flight;
mod golden;
mod hedging;
mod identity;
mod identity_laws;
mod keeping;
mod kit;
mod learned;
mod limits;
mod local;
mod looks;
mod matrix;
mod minilm;
mod models;
mod models_add;
mod models_run;
mod naming;
mod notice;
mod pipeline;
mod policy;
mod provider;
mod replay;
mod room;
mod routes;
mod rules;
mod server;
mod store_commands;
mod store_compacts;
mod store_copies;
mod store_crash;
mod store_damage;
mod store_formats;
mod store_heals;
mod stores;
mod tiny;
mod upkeep;
mod webhooks;
mod wire;
