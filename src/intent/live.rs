//! [`Live`]: the rules in force, which may change while requests are answered.

use super::file::{Book, Error, Pushed};
use super::rule::HttpCall;
use super::{Known, Mind, Read, RuleSet, vocabulary};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::watch;

/// The most projects that have names of their own at the same time: each has all rules compiled for it.
const MOST_PROJECTS: usize = 64;
/// The most sets of rules that programs add.
const MOST_ADDED: usize = 256;
/// The most vocabularies of one project.
const MOST_VOCABULARIES: usize = 16;

/// How many texts are remembered as an encoder has read them: a kilobyte or two each.
const MOST_READ: usize = 1024;

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
    keeper: Option<Keeper>,
    changing: Arc<Mutex<()>>,
    /// Counts what has changed.
    changes: Arc<watch::Sender<u64>>,
    read: Arc<Mutex<Generations>>,
}

/// Writes down the rules that programs have added; or says why it cannot.
pub type Keeper = Arc<dyn Fn(&[Added]) -> Result<(), String> + Send + Sync>;

/// Rules that a program has added.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Added {
    /// What they are called together.
    pub name: String,
    /// The text of a rule file.
    pub text: String,
}

/// Texts as an encoder has read them, of late: when the young ones are many, the old ones go.
#[derive(Default)]
struct Generations {
    young: HashMap<String, Arc<Read>>,
    old: HashMap<String, Arc<Read>>,
}

#[derive(Default)]
struct State {
    /// What has been learned from examples.
    mind: Option<Arc<Mind>>,
    /// What was read from files.
    book: Book,
    /// What programs have added.
    added: Vec<Added>,
    rules: Arc<RuleSet>,
    /// Whose names they are, and in which project.
    pushed: HashMap<(String, String), Overlay>,
}

/// What programs have given.
struct Given {
    added: Vec<Added>,
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
    /// It holds, and would not after a restart.
    #[error("they cannot be written down: {0}")]
    NotKept(String),
    /// There are none of this name.
    #[error("nobody has added rules under the name \"{0}\"")]
    Unknown(String),
    /// A name that cannot be.
    #[error("a name must be of letters, digits, \"-\", \"_\" and \".\", 64 at most")]
    BadName,
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
        Ok(Self { state: Arc::new(RwLock::new(state)), services: Some(services), ..Self::default() })
    }

    /// With rules that programs have added before, and a way to write down those that they add from now on.
    pub fn kept_by(self, added: Vec<Added>, keeper: Keeper) -> Result<Self, NotTaken> {
        self.set(self.book(), Given { added, pushed: HashMap::new() }, None)?;
        Ok(Self { keeper: Some(keeper), ..self })
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
        let _changing = self.changing();
        self.set(book, self.given(), None)
    }

    /// Adds the rules of `text`, a rule file, in the place of what was added under the same name. They are written down
    /// where that is possible.
    pub fn add(&self, name: &str, text: &str) -> Result<Arc<RuleSet>, NotTaken> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_fit) {
            return Err(NotTaken::BadName);
        }
        let _changing = self.changing();
        let mut given = self.given();
        let new = Added { name: name.to_owned(), text: text.to_owned() };
        match given.added.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = new,
            None => given.added.push(new),
        }
        if given.added.len() > MOST_ADDED {
            return Err(NotTaken::TooMany(format!("{MOST_ADDED} sets of rules that programs have added")));
        }
        self.set(self.book(), given, self.keeper.as_ref())
    }

    /// Takes away what was added under `name`.
    pub fn remove(&self, name: &str) -> Result<Arc<RuleSet>, NotTaken> {
        let _changing = self.changing();
        let mut given = self.given();
        let before = given.added.len();
        given.added.retain(|known| known.name != name);
        match given.added.len() < before {
            true => self.set(self.book(), given, self.keeper.as_ref()),
            false => Err(NotTaken::Unknown(name.to_owned())),
        }
    }

    /// Whether what programs add outlives this process.
    pub fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    /// What has been learned from the examples of rules, if it has.
    pub fn mind(&self) -> Option<Arc<Mind>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).mind.clone()
    }

    /// Takes up what has been learned. What is learned from rules that have changed meanwhile is good for those that are
    /// still there, until it is learned anew.
    pub fn learn(&self, mind: Option<Mind>) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).mind = mind.map(Arc::new);
        self.tell();
    }

    /// Tells whenever rules have changed, or something has been learned.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What tells the rules in force from others, with those of all projects.
    pub fn known(&self) -> Known {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mind = state.mind.as_deref();
        let overlays = state.pushed.values().map(|overlay| overlay.rules.known(mind));
        overlays.fold(state.rules.known(mind), Known::and)
    }

    /// How `text` was read lately.
    pub fn recall(&self, text: &str) -> Option<Arc<Read>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.young.get(text) {
            return Some(Arc::clone(known));
        }
        let known = read.old.remove(text)?;
        read.young.insert(text.to_owned(), Arc::clone(&known));
        Some(known)
    }

    /// Keeps how `text` was read, for a while.
    pub fn remember(&self, text: &str, how: Arc<Read>) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.young.len() >= MOST_READ / 2 {
            read.old = std::mem::take(&mut read.young);
        }
        read.young.insert(text.to_owned(), how);
    }

    fn tell(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Gives the vocabulary `name` these values more, for one tenant in one project; none takes them away.
    pub fn push(&self, tenant: &str, project: &str, name: &str, values: Vec<String>) -> Result<(), NotTaken> {
        if values.len() > vocabulary::MOST_NAMES {
            return Err(NotTaken::TooMany(format!("{} names in a vocabulary", vocabulary::MOST_NAMES)));
        }
        let _changing = self.changing();
        let (book, key) = (self.whole_book(), (tenant.to_owned(), project.to_owned()));
        let Given { added: _, pushed } = self.given();
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
        drop(state);
        self.tell();
        Ok(())
    }

    fn given(&self) -> Given {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Given { added: state.added.clone(), pushed: state.pushed.clone() }
    }

    /// What was read, and what was added.
    fn whole_book(&self) -> Result<Book, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        whole(&state.book, &state.added)
    }

    /// Compiles all of it, writes down what programs have added where that is wanted, and puts it in force. What cannot
    /// be written down is not taken: it would be gone after a restart, and nobody would know.
    fn set(&self, book: Book, given: Given, keeper: Option<&Keeper>) -> Result<Arc<RuleSet>, NotTaken> {
        let Given { added, mut pushed } = given;
        let all = whole(&book, &added)?;
        let rules = Arc::new(all.compile(&[])?);
        for overlay in pushed.values_mut() {
            overlay.rules = Arc::new(all.compile(&overlay.names)?);
        }
        if let Some(keeper) = keeper {
            keeper(&added).map_err(NotTaken::NotKept)?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { book, added, rules: Arc::clone(&rules), pushed, mind: state.mind.take() };
        drop(state);
        self.tell();
        Ok(rules)
    }

    /// One change after the other: each begins with what the one before has left.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> Book {
        self.state.read().unwrap_or_else(PoisonError::into_inner).book.clone()
    }
}

fn whole(book: &Book, added: &[Added]) -> Result<Book, Error> {
    let mut all = book.clone();
    added.iter().try_for_each(|added| all.add(&added.name, &added.text))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "[[vocabulary]]\nname = 'track'\nvalues = ['bass']\n[[rule]]\nname = 'mute'\nmatch = 'mute {t:track}'\nanswer = '{t} is off'\n";

    fn live() -> Live {
        let mut book = Book::default();
        book.add("test", RULES).unwrap();
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
        assert!(live.add("more", "[[rule]]\nname = 'x'\nmatch = '('\nanswer = 'x'\n").is_err());
        assert!(answers(&live, "a", "song", "mute Kick In"));
        assert_eq!(live.count(), 1);
    }

    #[test]
    fn what_programs_gave_survives_a_reload() {
        let live = live();
        live.push("a", "song", "track", vec!["Kick In".to_owned()]).unwrap();
        live.add("more", "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n").unwrap();
        let mut book = Book::default();
        book.add("test", RULES).unwrap();
        live.replace(book).unwrap();
        assert!(answers(&live, "a", "song", "mute Kick In") && answers(&live, "a", "song", "ping"));
    }
}
