//! The sentence model of the configuration, loaded and proven to be the right one.

use crate::config::{self, SentenceModel};
use crate::device;
use crate::embed::{Embedder, Encoder as _, SentenceEncoder};
use crate::models::{self, Installed};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

/// More threads than this embed more than any sidecar is asked.
const MOST_THREADS: usize = 16;

/// A model that is ready, and how it runs.
pub struct LoadedEncoder {
    /// The model, for one thread; it can be forked for more.
    pub encoder: SentenceEncoder,
    /// What it runs on, and why not on a GPU where one was asked for.
    pub device: String,
    threads: usize,
}

/// Loads it. Blocks: call it off the async threads.
pub fn load_encoder(wanted: &config::Encoder, models_dir: &Path) -> Result<LoadedEncoder, String> {
    let (device, description) = device::pick(wanted.device);
    let found = find(&wanted.model, models_dir)?;
    // Loading takes about as long as proving that the files are the right ones, so both are done at once. What is
    // not proven is not used.
    let (proven, loaded) = thread::scope(|scope| {
        let proving = scope.spawn(|| found.prove());
        let loaded = SentenceEncoder::load(&found.folder, &found.name, &device, wanted.precision);
        (proving.join(), loaded)
    });
    proven.map_err(|_| "a thread died while it read the model".to_owned())??;
    let encoder = loaded.map_err(|error| error.to_string())?;
    let suits = match () {
        // Two in front of a card keep each other waiting, unless hundreds of texts come at once.
        () if !encoder.gains_from_threads() || !device.is_cpu() => 1,
        () => thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS),
    };
    let threads = wanted.threads.unwrap_or(suits).max(1);
    Ok(LoadedEncoder { encoder, device: description, threads })
}

impl LoadedEncoder {
    /// Its arithmetic and its threads, for whoever wants to know why it is as fast as it is.
    pub fn describe(&self) -> String {
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!("{} ({}, {threads})", self.encoder.id(), self.encoder.arithmetic())
    }

    /// How many threads it gets.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Gives it its threads and a queue.
    pub fn spawn(self, config: crate::embed::Config) -> std::io::Result<Embedder> {
        Embedder::spawn_all(self.each_thread(), config)
    }

    /// One for each of its threads.
    pub fn each_thread(self) -> Vec<SentenceEncoder> {
        let mut encoders: Vec<SentenceEncoder> = (1..self.threads).map(|_| self.encoder.fork()).collect();
        encoders.push(self.encoder);
        encoders
    }
}

/// A model, before anything of it was read.
struct Found {
    folder: PathBuf,
    /// What it is called in ids of vectors, with its revision.
    name: String,
    model: Option<(PathBuf, models::Model)>,
}

impl Found {
    /// Reads every byte that a manifest speaks of: a damaged model gives wrong answers without a word.
    fn prove(&self) -> Result<(), String> {
        let Some((models_dir, model)) = &self.model else { return Ok(()) };
        models::verify(models_dir, model).map_err(|fault| fault.to_string())
    }
}

fn find(wanted: &SentenceModel, models_dir: &Path) -> Result<Found, String> {
    match wanted {
        SentenceModel::Folder(folder) => {
            // Its content is its name: a folder may hold another model tomorrow.
            let digest = models::digest_of(&SentenceEncoder::files(folder))
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{name}@{}", &digest[..8]);
            Ok(Found { folder: folder.clone(), name, model: None })
        }
        SentenceModel::Named(name) => {
            let installed = Installed::read(models_dir).map_err(|error| error.to_string())?;
            let model = installed.get(name).ok_or_else(|| {
                format!("there is no model \"{name}\" here: run `weir models fetch {name}`, or see `weir models list`")
            })?;
            let folder = model.folder().map(|folder| models_dir.join(folder));
            let folder = folder.ok_or_else(|| format!("\"{name}\" has no files"))?;
            let name =
                model.revision().map_or(model.name.clone(), |revision| format!("{}@{revision}", model.name));
            Ok(Found { folder, name, model: Some((models_dir.to_owned(), model.clone())) })
        }
    }
}
