//! The codec against itself, against another protocol, and against the fixtures.

mod replies;
mod requests;
