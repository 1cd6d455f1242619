//! Splicing changes what it is told to change, and nothing else that a reader would see.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use weir::wire::splice::splice;

fuzz_target!(|body: &[u8]| {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(body) else { return };
    let spliced = splice(&Bytes::copy_from_slice(body), &[("model", Some(json!("m"))), ("x", None)]);
    fields.insert("model".into(), json!("m"));
    fields.remove("x");
    let read: Value = serde_json::from_slice(&spliced.expect("an object")).expect("JSON");
    assert_eq!(read, Value::Object(fields));
});
