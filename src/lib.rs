//! Weir.
pub mod chat;
pub mod clock;
pub mod secret;
pub mod vector;

pub mod cache;
pub mod embed;
pub mod intent;
pub mod limits;
pub mod models;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod wire;

pub mod pipeline;

pub mod sim;

pub mod app;
pub mod cli;
pub mod config;
