//! The models that Weir knows, and those that were fetched from the hub by name.

use super::{Manifest, ManifestError, Model};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What lies beside the files of a model that the built-in manifest does not know: where they came from, and the
/// sha256 that each had when it was fetched.
const OWN_MANIFEST: &str = "weir-model.toml";

/// Every model that can be used from a models folder.
#[derive(Clone, Debug)]
pub struct Installed {
    models: Vec<Model>,
}

/// Why the models in a folder cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum InstalledError {
    /// The folder or a manifest in it cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A manifest in it says nothing that could be meant.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: ManifestError,
    },
}

impl Installed {
    /// The built-in models, and those with a manifest of their own in `models_dir`.
    pub fn read(models_dir: &Path) -> Result<Self, InstalledError> {
        let mut models = Manifest::builtin().models;
        let mut own = Vec::new();
        let unreadable = |reason| InstalledError::Unreadable { path: models_dir.to_owned(), reason };
        match std::fs::read_dir(models_dir) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(unreadable)?.path().join(OWN_MANIFEST);
                    own.extend(read(&path)?);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
        own.sort_by(|a, b| a.id.cmp(&b.id));
        // What is built in cannot be replaced by a file.
        own.retain(|own| models.iter().all(|model| model.id != own.id));
        models.extend(own);
        Ok(Self { models })
    }

    /// The model called `id`.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }

    /// All of them, the built-in ones first.
    pub fn models(&self) -> &[Model] {
        &self.models
    }
}

impl Model {
    /// The folder of a model of the hub, under the models folder.
    pub fn hub_folder(id: &str) -> String {
        id.replace('/', "--")
    }

    /// Where the manifest of a model lies that is not built in.
    pub fn own_manifest(id: &str) -> PathBuf {
        Path::new(&Self::hub_folder(id)).join(OWN_MANIFEST)
    }
}

fn read(path: &Path) -> Result<Vec<Model>, InstalledError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let manifest = Manifest::parse(&text);
            let malformed = |reason| InstalledError::Malformed { path: path.to_owned(), reason };
            manifest.map(|manifest| manifest.models).map_err(malformed)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(reason) => Err(InstalledError::Unreadable { path: path.to_owned(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetched_model_is_known_by_its_own_manifest_and_replaces_none_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut own = Manifest::builtin();
        own.models.truncate(1);
        let ours = own.models[0].clone();
        own.models[0].name = "an impostor".to_owned();
        own.models.push(Model { id: "someone/small".to_owned(), files: Vec::new(), ..ours.clone() });
        let place = folder.path().join(Model::own_manifest("someone/small"));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, toml::to_string(&own).unwrap().replace("models", "model")).unwrap();
        std::fs::write(folder.path().join("a-file"), "").unwrap();
        let installed = Installed::read(folder.path()).unwrap();
        assert_eq!(installed.get("minilm"), Some(&ours));
        assert!(installed.get("someone/small").is_some());

        std::fs::write(&place, "model = 1").unwrap();
        let error = Installed::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("someone--small"), "{error}");
        assert!(Installed::read(&folder.path().join("none")).unwrap().get("minilm").is_some());
    }
}
