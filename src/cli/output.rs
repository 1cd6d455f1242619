//! What the commands print. A reader that has gone away (`weir … | head`) is no fault.

use std::error::Error;
use std::io::Write as _;

/// A line on standard output.
pub(super) fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// A piece of a line on standard output, at once.
pub(super) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line on standard error: about the work, not its result.
pub(super) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// An error and what caused it, on standard error.
pub(super) fn error(error: &dyn Error) {
    note(format!("error: {error}"));
    let mut shown = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        // Some errors already quote their cause.
        if !shown.contains(&text) {
            note(format!("  because: {text}"));
        }
        shown = text;
        cause = source.source();
    }
}
