//! `[prices]`: what models cost.

use super::check::Checker;
use super::{Prices, raw};

/// Where prices come from.
pub(super) fn check(checker: &mut Checker<'_>, raw: &raw::Prices) -> Prices {
    // An empty one is none, as `weir config show` prints it.
    let typed = raw.file.as_ref().filter(|typed| !typed.value.value.is_empty());
    let file = checker.path(typed);
    if let (Some(file), Some(typed)) = (&file, typed)
        && !file.is_file()
    {
        checker.findings.problem(&typed.place, format!("there is no file {}", file.display()));
    }
    let list = raw.list.as_ref().map_or(Prices::default().list, |typed| typed.value);
    Prices { list, file }
}
