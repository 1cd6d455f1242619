//! [`Live`]: the rules in force, which may change while requests are answered.

use super::file::{Book, Error, Pushed};
use super::rule::HttpCall;
use super::{RuleSet, vocabulary};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The most projects that have names of their own at the same time: each has all rules compiled for it.
const MOST_PROJECTS: usize = 64;
/// The most vocabularies of one project.
const MOST_VOCABULARIES: usize = 16;

/// Asks a local service, and gives what it says; or why there is nothing.
pub type Services = Arc<dyn Fn(HttpCall) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Reads the rule files again.
pub type Reader = Arc<dyn Fn() -> Result<Book, Error> + Send + Sync>;

/// The rules in force. A request keeps those that it began with; others see new ones at once.
#[derive(Clone, Default)]
pub struct Live {
    state: Arc<RwLock<State>>,
    services: Option<Services>,
    reader: Option<Reader>,
}

#[derive(Default)]
struct State {
    /// What was read from files.
    book: Book,
    /// What programs have added: texts of rule files.
    added: Vec<String>,
    rules: Arc<RuleSet>,
    /// Whose names they are, and in which project.
    pushed: HashMap<(String, String), Overlay>,
}

#[derive(Clone, Default)]
struct Overlay {
    names: Vec<Pushed>,
    rules: Arc<RuleSet>,
}

/// Why something that a program gives is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Compiling failed.
    #[error(transparent)]
    Rules(#[from] Error),
    /// It is too much.
    #[error("there may be {0}")]
    TooMany(String),
}

impl From<RuleSet> for Live {
    fn from(rules: RuleSet) -> Self {
        let state = State { rules: Arc::new(rules), ..State::default() };
        Self { state: Arc::new(RwLock::new(state)), ..Self::default() }
    }
}

impl Live {
    /// The rules of `book`, and who asks local services.
    pub fn new(book: Book, services: Services) -> Result<Self, Error> {
        let rules = Arc::new(book.compile(&[])?);
        let state = State { book, rules, ..State::default() };
        Ok(Self { state: Arc::new(RwLock::new(state)), services: Some(services), reader: None })
    }

    /// With a way to read the rule files again.
    #[must_use]
    pub fn read_by(self, reader: Reader) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// Reads the rule files again. Where they cannot be used, nothing changes. Takes as long as that takes.
    pub fn reload(&self) -> Result<Arc<RuleSet>, NotTaken> {
        match &self.reader {
            Some(reader) => self.replace(reader()?),
            None => Ok(self.rules("", "")),
        }
    }

    /// The rules for a request of `tenant` in `project`.
    pub fn rules(&self, tenant: &str, project: &str) -> Arc<RuleSet> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.pushed.is_empty() {
            return Arc::clone(&state.rules);
        }
        let overlay = state.pushed.get(&(tenant.to_owned(), project.to_owned()));
        Arc::clone(overlay.map_or(&state.rules, |overlay| &overlay.rules))
    }

    /// How many rules there are.
    pub fn count(&self) -> usize {
        self.rules("", "").rules().len()
    }

    /// Who asks local services.
    pub fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }

    /// Puts `book` in the place of what was read before; what programs have given stays. Where it cannot be compiled,
    /// nothing changes. Takes as long as compiling does.
    pub fn replace(&self, book: Book) -> Result<Arc<RuleSet>, NotTaken> {
        let (added, pushed) = self.given();
        self.set(book, added, pushed)
    }

    /// Adds the rules of `text`, a rule file, until the process ends.
    pub fn add(&self, text: &str) -> Result<Arc<RuleSet>, NotTaken> {
        let (mut added, pushed) = self.given();
        added.push(text.to_owned());
        let book = self.state.read().unwrap_or_else(PoisonError::into_inner).book.clone();
        self.set(book, added, pushed)
    }

    /// Gives the vocabulary `name` these values more, for one tenant in one project; none takes them away.
    pub fn push(&self, tenant: &str, project: &str, name: &str, values: Vec<String>) -> Result<(), NotTaken> {
        if values.len() > vocabulary::MOST_NAMES {
            return Err(NotTaken::TooMany(format!("{} names in a vocabulary", vocabulary::MOST_NAMES)));
        }
        let (book, key) = (self.whole_book(), (tenant.to_owned(), project.to_owned()));
        let (_, pushed) = self.given();
        let mut names = pushed.get(&key).map(|overlay| overlay.names.clone()).unwrap_or_default();
        names.retain(|pushed| pushed.name != name);
        if !values.is_empty() {
            names.push(Pushed { name: name.to_owned(), values });
        }
        if names.len() > MOST_VOCABULARIES {
            return Err(NotTaken::TooMany(format!("{MOST_VOCABULARIES} vocabularies of a project")));
        }
        if names.is_empty() {
            self.state.write().unwrap_or_else(PoisonError::into_inner).pushed.remove(&key);
            return Ok(());
        }
        if pushed.len() >= MOST_PROJECTS && !pushed.contains_key(&key) {
            return Err(NotTaken::TooMany(format!("{MOST_PROJECTS} projects with names of their own")));
        }
        let rules = Arc::new(book?.compile(&names)?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.pushed.insert(key, Overlay { names, rules });
        Ok(())
    }

    fn given(&self) -> (Vec<String>, HashMap<(String, String), Overlay>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.added.clone(), state.pushed.clone())
    }

    /// What was read, and what was added.
    fn whole_book(&self) -> Result<Book, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        whole(&state.book, &state.added)
    }

    fn set(
        &self,
        book: Book,
        added: Vec<String>,
        mut pushed: HashMap<(String, String), Overlay>,
    ) -> Result<Arc<RuleSet>, NotTaken> {
        let all = whole(&book, &added)?;
        let rules = Arc::new(all.compile(&[])?);
        for overlay in pushed.values_mut() {
            overlay.rules = Arc::new(all.compile(&overlay.names)?);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { book, added, rules: Arc::clone(&rules), pushed };
        Ok(rules)
    }
}

fn whole(book: &Book, added: &[String]) -> Result<Book, Error> {
    let mut all = book.clone();
    added.iter().try_for_each(|text| all.add(text))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "[[vocabulary]]\nname = 'track'\nvalues = ['bass']\n[[rule]]\nname = 'mute'\nmatch = 'mute {t:track}'\nanswer = '{t} is off'\n";

    fn live() -> Live {
        let mut book = Book::default();
        book.add(RULES).unwrap();
        Live::new(book, Arc::new(|_| Box::pin(async { Err("nobody".to_owned()) }))).unwrap()
    }

    fn answers(live: &Live, tenant: &str, project: &str, text: &str) -> bool {
        live.rules(tenant, project).classify(project, text).is_some()
    }

    #[test]
    fn pushed_names_are_known_to_their_own_tenant_and_project_alone() {
        let live = live();
        assert!(!answers(&live, "a", "song", "mute Kick In"));
        live.push("a", "song", "track", vec!["Kick In".to_owned()]).unwrap();
        assert!(answers(&live, "a", "song", "mute kick in") && answers(&live, "a", "song", "mute bass"));
        assert!(!answers(&live, "b", "song", "mute Kick In"));
        assert!(!answers(&live, "a", "other", "mute Kick In"));
        live.push("a", "song", "track", Vec::new()).unwrap();
        assert!(!answers(&live, "a", "song", "mute Kick In"));
    }

    #[test]
    fn what_cannot_be_compiled_changes_nothing() {
        let live = live();
        live.push("a", "song", "track", vec!["Kick In".to_owned()]).unwrap();
        assert!(live.add("[[rule]]\nname = 'x'\nmatch = '('\nanswer = 'x'\n").is_err());
        assert!(answers(&live, "a", "song", "mute Kick In"));
        assert_eq!(live.count(), 1);
    }

    #[test]
    fn what_programs_gave_survives_a_reload() {
        let live = live();
        live.push("a", "song", "track", vec!["Kick In".to_owned()]).unwrap();
        live.add("[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n").unwrap();
        let mut book = Book::default();
        book.add(RULES).unwrap();
        live.replace(book).unwrap();
        assert!(answers(&live, "a", "song", "mute Kick In") && answers(&live, "a", "song", "ping"));
    }
}
