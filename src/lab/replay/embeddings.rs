//! An encoder that remembers on disk what it has read: the same journal is replayed again and again, and reading its
//! words takes longer than all the rest.
//!
//! A file begins with the encoder's name; each text is 16 bytes of a digest, whether it was read in full, and its
//! vector. What is torn at the end is cut off, and a file of another encoder is begun anew.

use crate::embed::{Embedding, Encoder, Error, Text};
use crate::vector::UnitVector;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

type Digest = [u8; 16];

/// What is known, for all threads.
#[derive(Clone)]
pub struct Known(Arc<Mutex<Shelf>>);

struct Shelf {
    file: File,
    places: HashMap<Digest, u64>,
    end: u64,
    width: usize,
}

impl Known {
    /// Opens a file, or begins one, for vectors of `width` numbers by the encoder `id`.
    pub fn open(path: &Path, id: &str, width: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let head = format!("weir embeddings 1 {width} {id}\n");
        let mut found = vec![0; head.len()];
        let known = file.read_exact(&mut found).is_ok() && found == head.as_bytes();
        if !known {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(head.as_bytes())?;
        }
        let mut shelf = Shelf { file, places: HashMap::new(), end: head.len() as u64, width };
        shelf.read_places()?;
        Ok(Self(Arc::new(Mutex::new(shelf))))
    }

    /// How many texts are known.
    pub fn len(&self) -> usize {
        self.lock().places.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a text is.
    pub fn knows(&self, text: &str) -> bool {
        self.lock().places.contains_key(&digest(text))
    }

    /// What is known of a text; nothing of its pieces is, nor where the file cannot be read.
    pub fn embedding(&self, text: &Text) -> Option<Embedding> {
        if text.with_pieces {
            return None;
        }
        self.lock().load(&digest(&text.words)).ok().flatten()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        // A line is whole or not known: nothing is left half-done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(text: &str) -> Digest {
    let all: [u8; 32] = Sha256::digest(text).into();
    let mut digest = Digest::default();
    digest.copy_from_slice(&all[..16]);
    digest
}

impl Shelf {
    fn record(&self) -> usize {
        size_of::<Digest>() + 1 + 4 * self.width
    }

    fn read_places(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut record = vec![0; self.record()];
        while self.end + self.record() as u64 <= length && reader.read_exact(&mut record).is_ok() {
            let mut digest = Digest::default();
            digest.copy_from_slice(&record[..16]);
            self.places.insert(digest, self.end);
            self.end += record.len() as u64;
        }
        self.file.set_len(self.end)
    }

    fn load(&mut self, digest: &Digest) -> io::Result<Option<Embedding>> {
        let Some(place) = self.places.get(digest).copied() else { return Ok(None) };
        let mut record = vec![0; self.record()];
        self.file.seek(SeekFrom::Start(place))?;
        self.file.read_exact(&mut record)?;
        let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let vector: Vec<f32> = record[17..].chunks_exact(4).map(number).collect();
        let vector = UnitVector::new(vector).ok();
        Ok(vector.map(|vector| Embedding { vector, partial: record[16] != 0, pieces: None }))
    }

    fn keep(&mut self, digest: Digest, embedding: &Embedding) -> io::Result<()> {
        let numbers = embedding.vector.as_slice();
        if numbers.len() != self.width || self.places.contains_key(&digest) {
            return Ok(());
        }
        let mut record = Vec::with_capacity(self.record());
        record.extend_from_slice(&digest);
        record.push(u8::from(embedding.partial));
        record.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&record)?;
        self.places.insert(digest, self.end);
        self.end += record.len() as u64;
        Ok(())
    }
}

/// Remembers what `inner` made of a text.
pub struct Remembering<E> {
    inner: E,
    known: Known,
}

impl<E: Encoder> Remembering<E> {
    /// `known` holds what is remembered.
    pub fn new(inner: E, known: Known) -> Self {
        Self { inner, known }
    }
}

impl<E: Encoder> Encoder for Remembering<E> {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error> {
        let failed = |error: io::Error| Error::Model(error.to_string());
        let mut made: Vec<Option<Embedding>> = Vec::with_capacity(batch.len());
        for text in batch {
            let known = if text.with_pieces {
                None
            } else {
                self.known.lock().load(&digest(&text.words)).map_err(failed)?
            };
            made.push(known);
        }
        let missing: Vec<Text> = batch
            .iter()
            .zip(&made)
            .filter(|(_, made)| made.is_none())
            .map(|(text, _)| text.clone())
            .collect();
        let mut fresh =
            if missing.is_empty() { Vec::new() } else { self.inner.encode(&missing)? }.into_iter();
        for (text, made) in batch.iter().zip(&mut made).filter(|(_, made)| made.is_none()) {
            let embedding = fresh.next().ok_or_else(|| Error::Model("a text has no vector".to_owned()))?;
            if !text.with_pieces {
                self.known.lock().keep(digest(&text.words), &embedding).map_err(failed)?;
            }
            *made = Some(embedding);
        }
        Ok(made.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::WordEncoder;

    #[test]
    fn what_was_read_once_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known.bin");
        let texts: Vec<Text> = ["one two", "three", "one two"].into_iter().map(Text::from).collect();
        let made = WordEncoder.encode(&texts).unwrap();
        let width = made[0].vector.as_slice().len();
        let id = WordEncoder.id().to_owned();
        for known in [0, 2] {
            let shelf = Known::open(&path, &id, width).unwrap();
            assert_eq!(shelf.len(), known);
            let mut encoder = Remembering::new(WordEncoder, shelf.clone());
            assert_eq!(encoder.encode(&texts).unwrap(), made);
            assert!(shelf.knows("three") && !shelf.knows("four"));
            assert_eq!(shelf.embedding(&"three".into()).as_ref(), Some(&made[1]));
            assert_eq!(shelf.embedding(&"four".into()), None);
        }
        // The end was torn.
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
        assert_eq!(Known::open(&path, &id, width).unwrap().len(), 1);
        assert_eq!(Known::open(&path, "another", width).unwrap().len(), 0);
    }
}
