//! See [`weir_fuzz::request`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::chat::Protocol;

fuzz_target!(|body: &[u8]| weir_fuzz::request(Protocol::OpenAiCompletions, body));
