//! Which tool call a fragment belongs to.
//!
//! Providers number their calls, so that each fragment finds its own. But some give all of them the same
//! number or none, and tell them apart by their ids or names only; and some repeat id and name all the time.

use std::collections::BTreeMap;

/// The most calls of a choice that are told apart. Nobody folds a reply with as many.
const MAX_CALLS: usize = 1024;

/// The calls of a reply, by choice.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<u32, Vec<Call>>);

/// A call, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Its number in the provider's count.
    pub(super) number: u64,
    /// Empty where it is not told.
    pub(super) id: String,
    /// Empty where it is not told.
    pub(super) name: String,
    /// Whether any of its arguments are told.
    pub(super) argued: bool,
}

/// Where a fragment belongs, and what of it is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
}

impl Calls {
    /// Finds the call that `said` is a fragment of. `whole`: it is none, but a call of its own.
    pub(super) fn place(&mut self, choice: u32, said: Call, whole: bool) -> Place {
        let calls = self.0.entry(choice).or_default();
        let known = calls.iter().rposition(|call| !whole && call.goes_on(&said));
        let at = known.unwrap_or(calls.len());
        if at >= MAX_CALLS {
            return Place { index: u32::MAX, id: None, name: None };
        }
        if known.is_none() {
            calls.push(Call { number: said.number, ..Call::default() });
        }
        let call = &mut calls[at];
        call.argued |= said.argued;
        let id = Some(said.id).filter(|id| !id.is_empty() && call.id.is_empty());
        let name = Some(said.name).filter(|name| !name.is_empty() && *name != call.name);
        call.id.push_str(id.as_deref().unwrap_or_default());
        // There may be a name in pieces.
        call.name.push_str(name.as_deref().unwrap_or_default());
        Place { index: u32::try_from(at).unwrap_or(u32::MAX), id, name }
    }
}

impl Call {
    /// Whether `said` is more of this call: whoever has its id, or has none of its own and does not name
    /// another tool once arguments were told.
    fn goes_on(&self, said: &Self) -> bool {
        let same_id = !said.id.is_empty() && said.id == self.id;
        let other_id = !said.id.is_empty() && !self.id.is_empty() && !same_id;
        let other_name = self.argued && !said.name.is_empty() && said.name != self.name;
        self.number == said.number && (same_id || (!other_id && !other_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, id: &str, name: &str, argued: bool) -> Call {
        Call { number, id: id.to_owned(), name: name.to_owned(), argued }
    }

    /// The index of each fragment's call.
    fn indexes(fragments: impl IntoIterator<Item = Call>) -> Vec<u32> {
        let mut calls = Calls::default();
        fragments.into_iter().map(|said| calls.place(0, said, false).index).collect()
    }

    #[test]
    fn fragments_find_their_call_by_number_id_or_name() {
        let numbered =
            [call(0, "a", "f", false), call(1, "b", "f", true), call(0, "", "", true), call(1, "", "", true)];
        assert_eq!(indexes(numbered), [0, 1, 0, 1]);
        let one_number =
            [call(0, "a", "f", false), call(0, "", "", true), call(0, "b", "f", true), call(0, "", "", true)];
        assert_eq!(indexes(one_number), [0, 0, 1, 1]);
        let in_turns = [call(0, "a", "f", true), call(0, "b", "g", true), call(0, "a", "f", true)];
        assert_eq!(indexes(in_turns), [0, 1, 0]);
        let nameless = [call(0, "", "f", true), call(0, "", "g", true), call(0, "", "", true)];
        assert_eq!(indexes(nameless), [0, 1, 1]);
        let late_id = [call(0, "", "f", false), call(0, "a", "", true)];
        assert_eq!(indexes(late_id), [0, 0]);
        assert_eq!(indexes([call(5, "a", "f", false), call(2, "b", "f", false)]), [0, 1], "counted by us");
    }

    #[test]
    fn id_and_name_are_told_once() {
        let mut calls = Calls::default();
        let first = calls.place(0, call(0, "a", "f", false), false);
        assert_eq!((first.id.as_deref(), first.name.as_deref()), (Some("a"), Some("f")));
        let again = calls.place(0, call(0, "a", "f", true), false);
        assert_eq!(again, Place { index: 0, id: None, name: None });
        assert_eq!(
            calls.place(0, call(0, "a", "f", true), true).index,
            1,
            "a whole call is never a fragment"
        );
        assert_eq!(calls.place(1, call(0, "", "", true), false).index, 0, "another choice");
    }

    #[test]
    fn an_endless_list_of_calls_does_not_grow() {
        let mut calls = Calls::default();
        let last = (0..5000).map(|number| calls.place(0, call(number, "", "f", true), false).index).last();
        assert_eq!((last, calls.0[&0].len()), (Some(u32::MAX), MAX_CALLS));
    }
}
