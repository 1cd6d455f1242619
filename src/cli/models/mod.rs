//! `weir models`: get the model files, list them, check them; and ask one.

mod add;
mod fetch;
mod hub;
mod landing;
mod lock;
mod named;
mod run;
mod wheel;

pub use fetch::{FetchArgs, SourceKind, Unfetched, fetch};
pub use run::Error as RunError;

use super::output;
use crate::models::{self, Fault, Installed, InstalledError, Length, Manifest, Model, verify};
use indicatif::DecimalBytes;
use std::path::{Path, PathBuf};

/// What `weir models` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Get the model files that are missing or damaged
    Fetch(FetchArgs),
    /// Add a language model that is in no list, from a file or from the hub
    Add(add::Args),
    /// Show every model: its state, size, licence, family and purpose
    List,
    /// Check every model file against its sha256
    Verify {
        /// The models to check [default: all that are here, and those that Weir needs]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Ask a language model something; its answer is printed as it is written
    Run(run::Args),
}

/// Why `weir models` did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such model.
    #[error("there is no model called `{name}`: use one of {known}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// `--source folder` alone.
    #[error("`--source folder` needs to know which: add `--from DIR`")]
    NoFolder,
    /// The models folder cannot be written to.
    #[error("cannot write to {}: {reason}", path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// Another fetch has not come to an end.
    #[error("another `weir models fetch` holds {} for too long: wait until it ends, or stop it", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// No source gave these files.
    #[error("could not get every model file\n{}", list_unfetched(.0))]
    Unfetched(Vec<Unfetched>),
    /// Some files are not what they should be.
    #[error("not every model file is the right one\n{}", list_faults(.0))]
    Faulty(Vec<Fault>),
    /// A model of the hub cannot be used.
    #[error("{0}")]
    Named(String),
    /// A model cannot be added.
    #[error("{name}: {why}")]
    Added {
        /// What it was to be called.
        name: String,
        /// Why not.
        why: String,
    },
    /// A model did not answer.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The models that are there cannot be listed.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// A helper thread has died.
    #[error("a helper thread has died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// Does what `args` ask for. `models_dir` is where the files belong.
pub async fn run(args: Args, models_dir: &Path) -> Result<(), Error> {
    let manifest = Manifest { models: Installed::read(models_dir)?.models().to_vec() };
    match args.command {
        Command::Fetch(args) => fetch_named(manifest, args, models_dir).await,
        Command::Add(args) => add::add(args, models_dir).await,
        Command::List => {
            let models = manifest.models.iter().collect();
            say(table(&inspect(models, models_dir).await?));
            Ok(())
        }
        Command::Verify { names } => {
            let here = |model: &Model| {
                !model.optional || model.files.iter().any(|file| models::path(models_dir, file).exists())
            };
            verify_all(select(&manifest, &names, here)?, models_dir).await
        }
        Command::Run(args) => Ok(run::run(args, models_dir).await?),
    }
}

/// [`fetch()`], and models of the hub by their names.
async fn fetch_named(mut manifest: Manifest, mut args: FetchArgs, models_dir: &Path) -> Result<(), Error> {
    let mut described = Vec::new();
    for name in &mut args.names {
        let known = manifest.get(named::id(name)).is_some();
        // With a revision it may be another one than what is here.
        if named::is_hub_name(name) && (!known || name.contains('@')) {
            let failed = |error: &dyn std::error::Error| Error::Named(error.to_string());
            let hub = hub::Hub::new(&args.hub_url).map_err(|error| failed(&error))?;
            let model = named::describe(&hub, name).await.map_err(|error| failed(&error))?;
            name.clone_from(&model.id);
            manifest.models.retain(|known| known.id != model.id);
            manifest.models.push(model.clone());
            described.push(model);
        }
    }
    fetch(&manifest, &args, models_dir).await?;
    for model in described {
        named::remember(models_dir, &model).map_err(|reason| Error::Folder {
            path: models_dir.join(Model::own_manifest(&model.id)),
            reason,
        })?;
        say(format_args!("{}: use it with embed.model = \"{}\"", model.id, model.id));
    }
    Ok(())
}

async fn verify_all(models: Vec<&Model>, models_dir: &Path) -> Result<(), Error> {
    let mut faults = Vec::new();
    for (model, result) in inspect(models, models_dir).await? {
        match result {
            Ok(()) => say(format_args!("{}: ok", model.id)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Faulty(faults)) }
}

/// Reads and hashes the files of each model, off the async threads.
async fn inspect(
    models: Vec<&Model>,
    models_dir: &Path,
) -> Result<Vec<(Model, Result<(), Fault>)>, tokio::task::JoinError> {
    let (models, dir) = (models.into_iter().cloned().collect::<Vec<_>>(), models_dir.to_owned());
    tokio::task::spawn_blocking(move || {
        let check = |model: Model| {
            let result = verify(&dir, &model);
            (model, result)
        };
        models.into_iter().map(check).collect()
    })
    .await
}

/// The models called `names`; without any, those of which `by_default` says so.
fn select<'a>(
    manifest: &'a Manifest,
    names: &[String],
    by_default: impl Fn(&Model) -> bool,
) -> Result<Vec<&'a Model>, Error> {
    if names.is_empty() {
        return Ok(manifest.models.iter().filter(|model| by_default(model)).collect());
    }
    let known = || manifest.models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        manifest.get(name).ok_or_else(|| Error::UnknownModel { name: name.clone(), known: known() })
    };
    names.iter().map(find).collect()
}

fn table(rows: &[(Model, Result<(), Fault>)]) -> String {
    let line = |cells: [&str; 6]| {
        let [model, state, size, licence, family, purpose] = cells;
        format!("{model:<24}{state:<12}{size:<12}{licence:<24}{family:<8}{purpose}")
    };
    let mut table = line(["MODEL", "STATE", "SIZE", "LICENCE", "FAMILY", "PURPOSE"]);
    for (model, result) in rows {
        let state = result.as_ref().err().map_or("ok", Fault::state);
        let family = model.family.as_deref().unwrap_or("-");
        table.push('\n');
        table += &line([&model.id, state, &size(model.bytes()), &model.licence, family, &model.purpose]);
    }
    table
}

/// A length as a word.
fn size(length: Length) -> String {
    match length {
        Length::Exact(bytes) => DecimalBytes(bytes).to_string(),
        Length::About { about } => format!("~{} MB", about / 1_000_000),
    }
}

fn list_unfetched(files: &[Unfetched]) -> String {
    let files: Vec<_> = files.iter().map(Unfetched::to_string).collect();
    files.join("\n")
        + "\ncheck the network (a proxy is taken from HTTPS_PROXY), or run `weir models fetch` on another machine \
           and then here `weir models fetch --from DIR` with a copy of its models folder"
}

fn list_faults(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

/// One line for the user.
fn say(line: impl std::fmt::Display) {
    output::line(line.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_state_size_licence_and_purpose() {
        let models = Manifest::builtin().models;
        let missing = Fault::Missing { path: PathBuf::from("x") };
        let rows: Vec<_> = models.into_iter().zip([Ok(()), Err(missing)]).collect();
        insta::assert_snapshot!(table(&rows), @r"
        MODEL                   STATE       SIZE        LICENCE                 FAMILY  PURPOSE
        minilm                  ok          91.34 MB    Apache-2.0              bert    text to vectors: the semantic cache and intent rules
        smollm2-135m-instruct   missing     98.36 MB    Apache-2.0              llama   the local model: the last rung of the chain
        ");
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let error = select(&Manifest::builtin(), &["gpt".to_owned()], |_| true).unwrap_err();
        let message = "there is no model called `gpt`: use one of minilm, smollm2-135m-instruct, ";
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
