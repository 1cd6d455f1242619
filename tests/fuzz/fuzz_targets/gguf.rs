//! See [`weir_fuzz::gguf`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| weir_fuzz::gguf(file));
