//! Weir stands in front of an LLM client and lets only the overflow through: what it has already answered,
//! and what a rule can answer, never reaches a model.
//!
//! ```text
//! bytes ─wire─▶ Request ─limits─▶ intent ─▶ cache.exact ─▶ embed ─▶ cache.nearest ─▶ flight ─▶ upstream
//!                                   │ rule     │ hit        │ err       │ hit           │ joined    │ chunks
//!                                   ▼          ▼            ▼ miss      ▼               ▼           ▼ remember
//! bytes ◀─wire─ Chunks ◀───────────────────────── Answer { source, chunks } ◀───────────┴───────────┘
//!                                                    └─ Outcome ─▶ Observer (metrics, log, webhooks)
//! ```
//!
//! [`pipeline::Pipeline::answer`] is that picture, and the only way an answer is made. Read it first, then
//! [`chat`] (the words everything is said in), then the trait at the top of [`embed`], [`store`] and
//! [`upstream`]. The modules below are in the order in which a newcomer should read them; ARCHITECTURE.md
//! has their layers, and a test that keeps them.

// The path.
pub mod pipeline;

// The words: no I/O, no async.
pub mod chat;
pub mod clock;
pub mod device;
pub mod numerals;
pub mod secret;
pub mod vector;

// The judgement: is it safe to serve, and who is asked.
pub mod cache;
pub mod upstream;

// The skills: each knows the words, and no other skill.
pub mod embed;
pub mod intent;
pub mod journal;
pub mod limits;
pub mod models;
pub mod store;
pub mod wire;

// The faces.
pub mod lab;
pub mod server;
pub mod sim;
pub mod telemetry;
pub mod webhook;

// The assembly.
pub mod app;
pub mod cli;
pub mod config;
