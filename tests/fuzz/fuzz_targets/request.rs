//! Whatever decodes as a request is the same request after encoding and decoding again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::cache::{Asker, Query};
use weir::wire::openai_chat::{decode_request, encode_request};

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = decode_request(body) {
        let again = decode_request(&encode_request(&request)).expect("what we write, we read");
        assert_eq!(again, request);
        let asker = Asker { tenant: "t", project: "p", encoder: "e", origin: "provider" };
        assert_eq!(Query::new(&asker, &again), Query::new(&asker, &request));
    }
});
