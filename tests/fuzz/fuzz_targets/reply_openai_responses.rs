//! See [`weir_fuzz::reply`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::chat::Protocol;

fuzz_target!(|body: &[u8]| weir_fuzz::reply(Protocol::OpenAiResponses, body));
