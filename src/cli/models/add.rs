//! `weir models add`: a language model that no manifest knows, from a file or from the hub. What came is written down
//! with its sha256, so that from then on it is verified like any other.

use super::hub::{Hub, Vouched};
use super::landing::Landing;
use super::lock::Lock;
use super::{Error, named, say, size};
use crate::models::{self, File, Installed, Length, Manifest, Model, Sha256, Source, is_model_name};
use crate::upstream::local::About;
use std::path::{Path, PathBuf};

/// The largest file that is taken: far more than this machine could run.
const MOST_BYTES: u64 = 256 << 30;

/// `weir models add …`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// What it shall be called
    #[arg(value_name = "NAME")]
    name: String,
    /// A GGUF file, or one of the hub: `hub:OWNER/REPOSITORY/FILE` or `hub:OWNER/REPOSITORY@REVISION/FILE`
    #[arg(value_name = "FILE|hub:…")]
    from: String,
    /// Its licence (SPDX) [default: what the file says]
    #[arg(long, value_name = "LICENCE")]
    licence: Option<String>,
    /// Take the place of one that was added under this name
    #[arg(long)]
    replace: bool,
    /// The Hugging Face hub, or a mirror of it
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", hide_env_values = true)]
    #[arg(default_value = "https://huggingface.co")]
    hub_url: String,
}

/// A file of the hub.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    repository: String,
    revision: String,
    path: String,
}

/// Adds what `args` name to the models in `models_dir`.
pub(super) async fn add(args: Args, models_dir: &Path) -> Result<(), Error> {
    let refused = |why: String| Error::Added { name: args.name.clone(), why };
    if !is_model_name(&args.name) || args.name.contains('/') {
        return Err(refused("a name has letters, digits, `-`, `_` and `.` only".to_owned()));
    }
    let lock = Lock::acquire(models_dir).await?;
    if Manifest::builtin().get(&args.name).is_some() {
        return Err(refused("this one is built in: choose another name".to_owned()));
    }
    if !args.replace && Installed::read(models_dir)?.get(&args.name).is_some() {
        return Err(refused("there is one already: choose another name, or say --replace".to_owned()));
    }
    let (file, vouched) = match args.from.strip_prefix("hub:") {
        Some(place) => {
            let place = Place::parse(place).ok_or_else(|| {
                refused("write hub:OWNER/REPOSITORY/FILE, or hub:OWNER/REPOSITORY@REVISION/FILE".to_owned())
            })?;
            from_hub(&args, &place, models_dir).await.map_err(refused)?
        }
        None => (from_file(&args, models_dir).await.map_err(refused)?, true),
    };
    let (place, name) = (models::path(models_dir, &file), args.name.clone());
    let read = tokio::task::spawn_blocking(move || {
        // What cannot be run is not kept.
        About::read(&place).inspect_err(|_| drop(std::fs::remove_file(&place)))
    });
    let about = read.await?.map_err(|fault| refused(fault.to_string()))?;
    let (length, sha256) = (file.bytes, file.sha256.clone());
    let model = described(&args, about, file);
    named::remember(models_dir, &model)
        .map_err(|reason| Error::Folder { path: models_dir.join(Model::own_manifest(&name)), reason })?;
    drop(lock);
    let family = model.family.unwrap_or_default();
    say(format_args!("{name}: {family}, {}, {}, sha256 {sha256}", size(length), model.licence));
    if !vouched {
        say("  nobody told beforehand what it must hash to; from now on it must stay what it is");
    }
    say(format_args!("  weir models run {name} \"…\", or local.model = \"{name}\""));
    Ok(())
}

fn described(args: &Args, about: About, file: File) -> Model {
    let homepage = match file.sources.first() {
        Some(Source::Hub { repository, .. }) => format!("https://huggingface.co/{repository}"),
        _ => args.from.clone(),
    };
    Model {
        id: args.name.clone(),
        name: about.name.unwrap_or_else(|| args.name.clone()),
        purpose: "a language model that was added".to_owned(),
        licence: args.licence.clone().or(about.licence).unwrap_or_else(|| "unknown".to_owned()),
        family: Some(about.family),
        homepage,
        optional: true,
        files: vec![file],
    }
}

/// Copies the file. It is looked at before, since it may be large and of no use.
async fn from_file(args: &Args, models_dir: &Path) -> Result<File, String> {
    let (from, folder, name) = (PathBuf::from(&args.from), models_dir.to_owned(), args.name.clone());
    let copied = tokio::task::spawn_blocking(move || {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", from.display());
        About::read(&from).map_err(|fault| told(&fault))?;
        let bytes = std::fs::metadata(&from).map_err(|error| told(&error))?.len();
        let sha256 = models::sha256_of(&from).map_err(|error| told(&error))?;
        let last = from.file_name().and_then(|name| name.to_str()).unwrap_or("model.gguf");
        let file =
            File { path: format!("{name}/{last}"), sha256, bytes: Length::Exact(bytes), sources: Vec::new() };
        let content = std::fs::File::open(&from).map_err(|error| told(&error))?;
        let landing = Landing::new(&folder, &file).map_err(|error| error.to_string())?;
        landing.fill(content).map_err(|error| error.to_string())?;
        Ok(file)
    });
    copied.await.map_err(|error| error.to_string())?
}

/// Downloads the file, and whether the hub told its sha256 beforehand.
async fn from_hub(args: &Args, place: &Place, models_dir: &Path) -> Result<(File, bool), String> {
    let Place { repository, revision, path } = place;
    let hub = Hub::new(&args.hub_url).map_err(|error| error.to_string())?;
    let Vouched { sha256, bytes, commit } =
        hub.vouch(repository, revision, path).await.map_err(|error| error.to_string())?;
    if bytes.is_some_and(|bytes| bytes > MOST_BYTES) {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    // The commit that the digest is of: what is called `main` may be another one tomorrow.
    let revision = commit.unwrap_or_else(|| revision.clone());
    let last = path.rsplit('/').next().unwrap_or(path);
    let under = format!("{}/{last}", args.name);
    let length = bytes.map_or(Length::About { about: MOST_BYTES }, Length::Exact);
    let landing =
        Landing::at(models_dir.join(&under), length, sha256.clone()).map_err(|error| error.to_string())?;
    let shown = bytes.map_or_else(|| "nobody says how long".to_owned(), |bytes| size(Length::Exact(bytes)));
    say(format_args!("{under} ({shown}): from hub {repository}"));
    hub.fetch(repository, &revision, path, &landing).await.map_err(|error| error.to_string())?;
    let (landed, vouched) = (models_dir.join(&under), sha256.is_some());
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<(u64, Sha256)> {
        let digest = sha256.map_or_else(|| models::sha256_of(&landed), Ok)?;
        Ok((std::fs::metadata(&landed)?.len(), digest))
    });
    let (bytes, sha256) =
        read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let source = Source::Hub { repository: repository.clone(), revision, path: path.clone() };
    Ok((File { path: under, sha256, bytes: Length::Exact(bytes), sources: vec![source] }, vouched))
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        let (repository, path) = rest.split_once('/')?;
        let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
        let repository = format!("{owner}/{repository}");
        let plain = |word: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !word.is_empty() && !word.starts_with('.') && word.chars().all(known)
        };
        let sound = is_model_name(&repository) && plain(revision) && path.split('/').all(plain);
        sound.then(|| Self { repository, revision: revision.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_hub_is_a_repository_and_a_file_in_it() {
        let place = |text| Place::parse(text).map(|place| (place.repository, place.revision, place.path));
        let expected = |revision: &str, path: &str| Some(("o/m".into(), revision.into(), path.into()));
        assert_eq!(place("o/m/a.gguf"), expected("main", "a.gguf"));
        assert_eq!(place("o/m@c0ffee/q/a.Q4_1.gguf"), expected("c0ffee", "q/a.Q4_1.gguf"));
        for wrong in ["", "o", "o/m", "o/m/", "/m/a", "o/m@/a", "o/m/../a", "o/../m/a", "o/m/a?b", "o/m/a b"]
        {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
