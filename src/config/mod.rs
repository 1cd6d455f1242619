//! The configuration: what was typed, checked as a whole, and composed of the modules' own `Config`s.
//!
//! Three layers, each over the one before: the file, `WEIR_…` variables, flags. They are laid over each
//! other as a `tree` of values with places, read by type into `raw` (what was typed), and checked into
//! [`Config`] (what it means). Every problem found on the way is reported, with its file and line, or its
//! variable, or its flag.

mod address;
mod chain;
mod check;
mod env;
mod error;
mod expand;
mod identity;
mod journal;
mod load;
mod origin;
mod policy;
mod presets;
mod prices;
mod quotas;
mod raw;
mod read;
mod routes;
mod schema;
mod show;
mod tree;
mod upstreams;
mod webhooks;
mod zero;

pub use chain::Chain;
pub use env::{CONFIG_VARIABLE, Environment};
pub use error::{Error, Problem, Problems};
pub use origin::{Origin, Origins};

use crate::cache::bound::AnswerJudge;
use crate::device::DeviceChoice;
use crate::embed::Precision;
use crate::intent::Naming;
use crate::secret::Secret;
use crate::store::{Room, embedded};
use crate::upstream::route::Route;
use crate::upstream::{is_local, local, provider};
use crate::{cache, embed, limits, server, telemetry, webhook};
use error::Findings;
use expand::Surroundings;
use load::ConfigFile;
use raw::Raw;
use read::Context;
use std::path::PathBuf;
use std::time::Duration;
use tree::{Table, Value};

/// A file with every key, its default, and what it does.
pub const TEMPLATE: &str = include_str!("template.toml");

/// How long a request waits for the store before it goes on without.
const STORE_DEADLINE: Duration = Duration::from_millis(250);

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What outlives a restart goes here.
    pub data_dir: PathBuf,
    /// Where the models are.
    pub models_dir: PathBuf,
    /// How it listens.
    pub server: server::Config,
    /// How much is let in at once.
    pub limits: limits::Config,
    /// The providers.
    pub upstreams: Vec<provider::Config>,
    /// Who is asked, in order: names of `upstreams`, and that of `local`. Never empty, and each name is known.
    pub chain: Vec<String>,
    /// Which requests go where.
    pub routes: Vec<Route>,
    /// What models cost.
    pub prices: Prices,
    /// How hard the chain tries, and whom it leaves alone.
    pub failover: Chain,
    /// Who is told what becomes of it.
    pub webhooks: Vec<webhook::Config>,
    /// Who gets the paths that we do not know: a name of `upstreams`; `None` is the first in the chain.
    pub passthrough_upstream: Option<String>,
    /// What is looked up.
    pub cache: cache::Config,
    /// The model that embeds.
    pub encoder: Encoder,
    /// How texts wait for their vectors.
    pub embed: embed::Config,
    /// Where answers are kept.
    pub store: Store,
    /// How long a request waits for the store.
    pub store_deadline: Duration,
    /// Which rules there are.
    pub rules: Rules,
    /// The model in this process, unless it is switched off.
    pub local: Option<Local>,
    /// How the log is written.
    pub log: telemetry::Config,
    /// What is written down of requests.
    pub journal: crate::journal::Config,
    /// What is not wrong, but worth a line in the log at the start.
    pub notes: Vec<String>,
    /// Where all this came from.
    pub source: Source,
}

/// What models cost, where an `[[upstream]]` does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Whether the public list prices count that come with the program.
    pub list: bool,
    /// A list of one's own, which lies over them.
    pub file: Option<PathBuf>,
}

impl Default for Prices {
    fn default() -> Self {
        Self { list: true, file: None }
    }
}

/// Which rules there are, and what they may do.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rule files, in order.
    pub files: Vec<PathBuf>,
    /// Whether those that come with weir are in force, each in its projects.
    pub shipped: bool,
    /// How often the files are looked at; zero: never.
    pub reload: Duration,
    /// The hosts that rules may ask, beside this machine: `name` or `name:port`.
    pub services: Vec<String>,
    /// What the rules' requests may show there, by the names that rules know.
    pub secrets: Vec<(String, Secret)>,
    /// Which model names intents where examples do not tell; where it has no name, none does.
    pub naming: Naming,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            shipped: true,
            reload: Duration::from_secs(2),
            services: Vec::new(),
            secrets: Vec::new(),
            naming: Naming::by(""),
        }
    }
}

/// A sentence model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentenceModel {
    /// By its name in a manifest.
    Named(String),
    /// As it lies in a folder.
    Folder(PathBuf),
}

/// The model that embeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoder {
    /// Which one.
    pub model: SentenceModel,
    /// Whether what another model has embedded is embedded anew.
    pub reembed: bool,
    /// Where it runs.
    pub device: DeviceChoice,
    /// With which numbers it computes.
    pub precision: Precision,
    /// How many threads it has; `None` is what suits the machine.
    pub threads: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            model: SentenceModel::Named("minilm".to_owned()),
            reembed: true,
            device: DeviceChoice::default(),
            precision: Precision::default(),
            threads: None,
        }
    }
}

/// Where answers are kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In memory: gone with the process.
    Memory(Room),
    /// On disk, in this process.
    Embedded(embedded::Config),
}

/// The model in this process.
#[derive(Clone, Debug)]
pub struct Local {
    /// What the chain calls it.
    pub name: String,
    /// Its name in the manifest, where its files are found: `config.file` is empty until someone looked there.
    pub model: String,
    /// Its bounds.
    pub config: local::Config,
}

impl Local {
    /// What the chain calls it, unless an `[[upstream]]` of kind `local` says otherwise.
    pub const DEFAULT_NAME: &str = "local";
}

impl Default for Local {
    fn default() -> Self {
        Self {
            name: Self::DEFAULT_NAME.to_owned(),
            model: "smollm2-135m-instruct".to_owned(),
            config: local::Config::default(),
        }
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Where each value that was set came from.
    pub origins: Origins,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--models-dir`
    pub models_dir: Option<PathBuf>,
    /// `--set`: keys by their paths, and what they are set to.
    pub set: Vec<(String, String)>,
}

impl Config {
    /// Finds the file, lays environment and flags over it, and checks the whole.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self, Error> {
        let file = load::find(overrides, environment)?;
        let mut findings = Findings::default();
        let mut tree = match &file {
            Some(ConfigFile { name, text, .. }) => tree::parse(text, name, &mut findings)?,
            None => Table::new(),
        };
        env::overlay(&mut tree, environment, &mut findings);
        overrides.overlay(&mut tree);
        for (path, value) in &overrides.set {
            env::set(&mut tree, path, value, &mut findings);
        }
        let config_dir = file.as_ref().and_then(|file| file.path.parent());
        let mut context = Context { surroundings: Surroundings { environment, config_dir }, findings };
        let raw = Raw::read(tree, &mut context);
        let (config, findings) = check::check(raw, context, file.as_ref().map(|file| file.path.clone()));
        match findings.into_error() {
            Some(error) => Err(error),
            None => Ok(config),
        }
    }

    /// Whether Weir itself asks the local model, whoever answers its clients: to compare answers, or to name intents.
    pub fn asks_local(&self) -> bool {
        let bound = &self.cache.bound;
        let judge = bound.answer_judge_model.as_deref().filter(|_| bound.answer_judge == AnswerJudge::Llm);
        judge.is_some_and(is_local) || is_local(&self.rules.naming.model)
    }

    /// The whole configuration as TOML, with where each value came from, and without secrets.
    pub fn show(&self) -> String {
        show::show(self)
    }
}

impl Overrides {
    /// Lays the flags over everything else.
    fn overlay(&self, tree: &mut Table) {
        let Self { config: _, listen, data_dir, models_dir, set: _ } = self;
        // A path that is not UTF-8 cannot be shown by `weir config show` either; it is rare enough.
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        set(tree, "data_dir", "--data-dir", data_dir.as_ref().map(path));
        set(tree, "models_dir", "--models-dir", models_dir.as_ref().map(path));
        let server = tree::entry(Value::Table(Table::new()), &Origin::Flag("--listen"));
        if listen.is_some()
            && let Value::Table(server) = &mut tree.entry("server".to_owned()).or_insert(server).node.value
        {
            set(server, "listen", "--listen", listen.clone());
        }
    }
}

fn set(table: &mut Table, key: &str, flag: &'static str, value: Option<String>) {
    if let Some(value) = value {
        table.insert(key.to_owned(), tree::entry(Value::Text(value), &Origin::Flag(flag)));
    }
}

#[cfg(test)]
mod tests {
    use super::schema::{array_keys, section_keys};
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// Keys whose default depends on the machine or on other keys, so that the template can only give an
    /// example.
    const EXAMPLES: &[&str] = &[
        "data_dir",
        "models_dir",
        "store.path",
        "rules.files",
        "rules.services",
        "rules.secrets",
        "chain.order",
        "server.passthrough_upstream",
        "prices.file",
        "cache.volatile_words",
        "cache.chance_words",
        "journal.key",
        "journal.redact",
    ];

    /// The template with everything switched on.
    fn switched_on() -> String {
        let is_key = |line: &&str| {
            line.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '))
        };
        TEMPLATE
            .lines()
            .map(|line| if is_key(&line) { &line[1..] } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn in_folder(folder: &Path, text: &str) -> Config {
        std::fs::write(folder.join("weir.toml"), text).unwrap();
        let mut environment = Environment::with([
            ("OPENAI_API_KEY", "sk-1"),
            ("EDITOR_KEY", "sk-2"),
            ("OPENAI_API_KEY_2", "sk-3"),
            ("LIGHTS_TOKEN", "sk-4"),
            ("WEBHOOK_SECRET", "sk-5 and sixteen letters"),
            ("JOURNAL_KEY", "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed"),
        ]);
        environment.working_dir = folder.to_owned();
        environment.data_dir = Some(folder.join("data"));
        Config::load(&Overrides::default(), &environment).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Each key outside of arrays, and what it is.
    fn values(config: &Config) -> BTreeMap<String, toml::Value> {
        let page: toml::Table = config.show().parse().unwrap();
        section_keys()
            .map(|(section, key)| {
                let table = if section.is_empty() { &page } else { page[section].as_table().unwrap() };
                (tree::join(section, key.name), table[key.name].clone())
            })
            .collect()
    }

    #[test]
    fn the_template_says_nothing_but_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = values(&in_folder(folder.path(), ""));
        assert_eq!(values(&in_folder(folder.path(), TEMPLATE)), defaults, "as it is, it changes nothing");

        for file in ["rules.toml", "prices.toml"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let typed = values(&in_folder(folder.path(), &switched_on()));
        for (key, default) in defaults.iter().filter(|(key, _)| !EXAMPLES.contains(&key.as_str())) {
            assert_eq!(typed[key], *default, "{key}");
        }
    }

    #[test]
    fn the_template_has_every_key() {
        let typed: toml::Table = switched_on().parse().unwrap();
        for (section, key) in section_keys() {
            let table = if section.is_empty() { &typed } else { typed[section].as_table().unwrap() };
            assert!(table.contains_key(key.name), "{section}.{}", key.name);
        }
        for (array, key) in array_keys() {
            assert!(typed[array][0].get(key.name).is_some(), "{array}.{}", key.name);
        }
    }

    #[test]
    fn upstreams_in_the_template_show_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["rules.toml", "prices.toml"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let typed = in_folder(folder.path(), &switched_on());
        let short = in_folder(folder.path(), "[[upstream]]\nname = 'primary'\nkind = 'openai'\n");
        // The others are examples: there is no key, header or price by default.
        let comparable = |config: &Config| {
            let mut upstream = config.upstreams[0].clone();
            (upstream.headers, upstream.price, upstream.api_key) = (Vec::new(), None, None);
            upstream.model_names = Vec::new();
            (upstream.limits.concurrent, upstream.limits.requests_per_minute) = (None, None);
            upstream.limits.tokens_per_minute = None;
            (upstream.profiles, upstream.context_windows) = (Vec::new(), Vec::new());
            upstream.max_tokens = Vec::new();
            format!("{upstream:?}")
        };
        assert_eq!(comparable(&typed), comparable(&short));
    }
}
