//! A rule file that loads never panics on a question.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (file, question) = input;
    if let Ok(rules) = weir::intent::parse(file) {
        let _ = rules.classify("default", question);
    }
});
