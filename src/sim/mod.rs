//! Plugs that play the world: ordinary implementations of the four traits, for tests, bench and replay.
//!
//! Faults are steps of these, never hooks inside production modules.

pub mod clock;
pub mod encoder;
pub mod store;
pub mod upstream;

pub use clock::Manual;
pub use encoder::WordEncoder;
pub use store::Faulty;
pub use upstream::{Scripted, Step};
