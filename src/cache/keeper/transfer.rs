//! Taking answers elsewhere: lines of JSON out, and in again.
//!
//! The first line says what the file is; each of the others is an entry. A line that cannot be used is told and
//! skipped, whatever is wrong with it.

use super::{Fault, Filter, Keeper, STEP};
use crate::chat::Reply;
use crate::clock::Millis;
use crate::store::{About, Entry, EntryId, Place, Scope, Seen, Walk};
use crate::vector::UnitVector;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the first line of a file says it is.
const FORMAT: &str = "weir-cache";
/// What is written, and the newest that is read.
const VERSION: u32 = 1;
/// The most bad lines that are told one by one.
const MOST_TOLD: usize = 100;
/// The longest name, and the most labels.
const LONGEST_NAME: usize = 256;
const MOST_TAGS: usize = 64;
/// How far another machine's clock may be ahead.
const AHEAD: Duration = Duration::from_hours(1);

/// The first line.
#[derive(Deserialize, Serialize)]
struct Head {
    format: String,
    version: u32,
    /// Which model made the vectors.
    encoder: Option<String>,
}

/// An entry, as a line has it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    scope: String,
    id: String,
    question: String,
    reply: Reply,
    upstream: String,
    created: Millis,
    #[serde(default)]
    expires: Option<Millis>,
    #[serde(default)]
    stale_until: Option<Millis>,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    pinned: bool,
    /// Whether questions in other words may find it.
    #[serde(default)]
    semantic: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

/// Some lines of an export.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exported {
    /// The lines, each with its end.
    pub lines: String,
    /// Where to go on; `None` is the end.
    pub next: Option<Place>,
}

/// How far an import has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Imported {
    /// Entries that are kept now.
    pub imported: u64,
    /// Entries of which one is kept that is as new or newer.
    pub known: u64,
    /// Entries whose time was over.
    pub expired: u64,
    /// Entries that there was no room for.
    pub no_room: u64,
    /// Lines that could not be used.
    pub bad: u64,
    /// Why not, for the first of them.
    pub bad_lines: Vec<BadLine>,
}

/// A line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Which, from one.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// An entry on its way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    scope: Scope,
    entry: Entry,
    /// Whether questions in other words may find it.
    semantic: bool,
}

impl Record {
    /// The text to be embedded, where the entry had a vector and came without one of the model in use.
    pub fn text_to_embed(&self) -> Option<&str> {
        (self.semantic && self.entry.vector.is_none()).then_some(&self.entry.text)
    }
}

/// A file on its way in.
#[derive(Debug, Default)]
pub struct Import {
    encoder: Option<String>,
    state: State,
    line: u64,
    told: Imported,
}

/// What the lines up to now have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing.
    #[default]
    Silent,
    /// That entries follow, and whether their vectors are of the model in use.
    Begun { same_encoder: bool },
    /// That this is something else: not every line of it need be told.
    Lost,
}

impl Keeper<'_> {
    /// The first line of an export. `encoder` made the vectors, where they are wanted.
    pub fn export_head(encoder: Option<&str>) -> String {
        let head = Head { format: FORMAT.to_owned(), version: VERSION, encoder: encoder.map(str::to_owned) };
        line(&head)
    }

    /// The next lines of an export.
    pub async fn export(
        &self,
        filter: &Filter,
        after: Option<Place>,
        with_vectors: bool,
    ) -> Result<Exported, Fault> {
        let now = self.cache.clock.now();
        let mut walk = Walk { after, most: STEP, ..filter.walk() };
        let (seen, next) = self.step(&mut walk).await?;
        let wanted = seen.filter(|seen| filter.finds(seen, now).is_some());
        let lines = wanted.map(|seen| line(&Line::new(seen, with_vectors))).collect();
        Ok(Exported { lines, next })
    }

    /// Keeps an entry that was brought from elsewhere. `vector` is for one that came without.
    pub async fn import(
        &self,
        import: &mut Import,
        record: Record,
        vector: Option<UnitVector>,
    ) -> Result<(), Fault> {
        let Record { scope, mut entry, semantic: _ } = record;
        entry.vector = entry.vector.or(vector);
        let (now, store) = (self.cache.clock.now(), &self.cache.store);
        if self.whose.is_some_and(|tenant| tenant != entry.about.tenant) {
            import.refuse("it is another tenant's".to_owned());
        } else if entry.created > now.plus(AHEAD) {
            import.refuse("`created` is in the future".to_owned());
        } else if entry.useless_from().is_some_and(|from| from <= now) {
            import.told.expired += 1;
        } else if store.load(&scope, &entry.id).await?.is_some_and(|known| known.created >= entry.created) {
            import.told.known += 1;
        } else {
            let id = entry.id;
            store.put(&scope, entry).await?;
            // What nobody has asked for here must not push out what is asked for.
            match store.load(&scope, &id).await?.is_some() {
                true => import.told.imported += 1,
                false => import.told.no_room += 1,
            }
        }
        Ok(())
    }
}

impl Import {
    /// Vectors are taken from `encoder` alone, the model in use.
    pub fn new(encoder: Option<&str>) -> Self {
        Self { encoder: encoder.map(str::to_owned), ..Self::default() }
    }

    /// Reads a line. Nothing comes of heads, of empty lines and of bad ones.
    pub fn read(&mut self, line: &[u8]) -> Option<Record> {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return None;
        }
        let head = serde_json::from_slice::<Head>(line).ok().filter(|head| head.format == FORMAT);
        let read = match (self.state, head) {
            (State::Lost, _) => Ok(None),
            // Several exports may stand one behind the other.
            (_, Some(head)) => self.begin(&head).map(|()| None),
            (State::Silent, None) => {
                self.state = State::Lost;
                Err("the first line does not say that this is an export of `weir cache`".to_owned())
            }
            (State::Begun { same_encoder }, None) => Record::parse(line, same_encoder).map(Some),
        };
        read.unwrap_or_else(|why| {
            self.refuse(why);
            None
        })
    }

    /// What became of it.
    pub fn told(self) -> Imported {
        self.told
    }

    fn begin(&mut self, head: &Head) -> Result<(), String> {
        if head.version > VERSION {
            self.state = State::Lost;
            return Err(format!("it is of version {}, and this weir reads up to {VERSION}", head.version));
        }
        self.state = State::Begun { same_encoder: head.encoder.is_some() && head.encoder == self.encoder };
        Ok(())
    }

    fn refuse(&mut self, why: String) {
        self.told.bad += 1;
        if self.told.bad_lines.len() < MOST_TOLD {
            self.told.bad_lines.push(BadLine { line: self.line, why });
        }
    }
}

impl Record {
    fn parse(line: &[u8], same_encoder: bool) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        line.record(same_encoder)
    }
}

impl Line {
    fn new(seen: Seen, with_vector: bool) -> Self {
        let Seen { scope, entry, hits: _, bytes: _ } = seen;
        let Entry { id, text, vector, reply, upstream, created, expires, stale_until, about, pinned } = entry;
        let About { tenant, project, model, tags } = about;
        let semantic = vector.is_some();
        let vector = vector.filter(|_| with_vector).map(|vector| vector.as_slice().to_vec());
        Self {
            scope: scope.to_hex(),
            id: id.to_hex(),
            question: text,
            reply,
            upstream,
            created,
            expires,
            stale_until,
            tenant,
            project,
            model,
            tags,
            pinned,
            semantic,
            vector,
        }
    }

    fn record(self, same_encoder: bool) -> Result<Record, String> {
        let scope = Scope::from_hex(&self.scope).ok_or("`scope` is not 64 hexadecimal digits")?;
        let id = EntryId::from_hex(&self.id).ok_or("`id` is not 64 hexadecimal digits")?;
        let names = [&self.tenant, &self.project, &self.model, &self.upstream];
        if names.into_iter().chain(&self.tags).any(|name| name.len() > LONGEST_NAME) {
            return Err(format!("a name in it is longer than {LONGEST_NAME} bytes"));
        }
        if self.tags.len() > MOST_TAGS {
            return Err(format!("it has more than {MOST_TAGS} tags"));
        }
        if self.question.trim().is_empty() {
            return Err("`question` is empty".to_owned());
        }
        if self.reply.choices.is_empty() {
            return Err("`reply` has no answer in it".to_owned());
        }
        let vector =
            self.vector.map(UnitVector::new).transpose().map_err(|error| format!("`vector`: {error}"))?;
        let about = About { tenant: self.tenant, project: self.project, model: self.model, tags: self.tags };
        let entry = Entry {
            id,
            text: self.question,
            vector: vector.filter(|_| same_encoder),
            reply: self.reply,
            upstream: self.upstream,
            created: self.created,
            expires: self.expires,
            stale_until: self.stale_until,
            about,
            pinned: self.pinned,
        };
        Ok(Record { scope, entry, semantic: self.semantic })
    }
}

/// A value on a line of its own.
fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;
    use proptest::prelude::*;

    /// An export of one entry with every field set.
    fn file() -> String {
        let seen = Seen { scope: Scope([7; 32]), entry: full_entry(), hits: 3, bytes: 9 };
        Keeper::export_head(Some("an encoder")) + &line(&Line::new(seen, true))
    }

    #[test]
    fn every_field_comes_back() {
        let mut import = Import::new(Some("an encoder"));
        let records: Vec<Record> = file().lines().filter_map(|line| import.read(line.as_bytes())).collect();
        let expected = Record { scope: Scope([7; 32]), entry: full_entry(), semantic: true };
        assert_eq!(records, [expected], "{:?}", import.told());
    }

    #[test]
    fn vectors_of_another_model_are_left_behind() {
        let mut import = Import::new(Some("another"));
        let record = file().lines().find_map(|line| import.read(line.as_bytes())).unwrap();
        assert_eq!((record.entry.vector.as_ref(), record.text_to_embed()), (None, Some(&*full_entry().text)));
    }

    proptest! {
        #[test]
        fn no_line_is_worse_than_bad(
            garbage in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut import = Import::new(None);
            let mut file = file().into_bytes();
            let at = at.index(file.len());
            file[at] = byte;
            for line in file.split(|byte| *byte == b'\n').chain([&garbage[..]]) {
                import.read(line);
            }
            prop_assert!(import.told().bad <= 3);
        }
    }
}
