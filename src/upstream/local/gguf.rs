//! The head of a GGUF file, read as if whoever wrote it meant harm.
//!
//! Files come from anywhere, and what they say of themselves decides how much memory is taken and where is read. So all
//! of it is held to the length of the file, and to bounds that no model comes near, before anyone believes it: counts,
//! lengths, how deep lists lie in each other, sizes of tensors and where these lie. What is wrong is told by its name.

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// The longest head: the largest vocabularies take 20 MB.
const LONGEST_HEAD: u64 = 128 << 20;
/// The most values in it, those in lists counted one by one: each takes 32 bytes of memory, whatever it takes in the
/// file. The largest vocabularies have a million.
const MOST_VALUES: u64 = 4 << 20;
/// The most tensors, and the most things said of the model.
const MOST_ENTRIES: u64 = 1 << 16;
/// The longest name.
const LONGEST_NAME: u64 = 1 << 16;
/// So many of a list's values get their room at once, more as they come.
const AT_ONCE: u64 = 1 << 14;
/// How deep lists may lie in each other. Nobody has any need of it.
const DEEPEST: usize = 4;
/// The most dimensions.
const MOST_DIMENSIONS: u32 = 4;
/// What tensors begin at multiples of, where the file does not say.
const ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// What is wrong with the head of a file.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is something else.
    #[error("it is no GGUF file")]
    NoGguf,
    /// It is of another version of the format.
    #[error("it is of version {0} of the format; known are 1 to 3")]
    Version(u32),
    /// It ends too early.
    #[error("it ends within {0}")]
    Ends(String),
    /// There is more of something than there can be.
    #[error("{what}: {count} are more than {most}")]
    TooMany {
        /// Of what.
        what: String,
        /// How many there are to be.
        count: u64,
        /// How many there can be.
        most: u64,
    },
    /// There is a value of a kind that nobody knows.
    #[error("{what}: there is no kind {kind}")]
    Kind {
        /// Whose.
        what: String,
        /// Its number.
        kind: u32,
    },
    /// Something is said twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// It cannot be so.
    #[error("{what}: {why}")]
    Impossible {
        /// Of what.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tensor lies beyond the end of the file.
    #[error("tensor \"{name}\" lies at {from} and takes {size} bytes; the file has {len}")]
    Beyond {
        /// Its name.
        name: String,
        /// Where it begins.
        from: u64,
        /// How long it is.
        size: u64,
        /// How long the file is.
        len: u64,
    },
}

/// Reads the head of a file, from its beginning on.
pub(super) fn read(file: &mut (impl Read + Seek)) -> Result<Content, Flaw> {
    let len = file.seek(SeekFrom::End(0)).map_err(Flaw::Unreadable)?;
    file.seek(SeekFrom::Start(0)).map_err(Flaw::Unreadable)?;
    let mut head = Head { file, left: len.min(LONGEST_HEAD), len, values: 0, wide: true };
    head.content()
}

/// What is being read.
struct Head<'f, F> {
    file: &'f mut F,
    /// How much of the head may still come.
    left: u64,
    /// How long the file is.
    len: u64,
    values: u64,
    /// Whether lengths have eight bytes.
    wide: bool,
}

impl<F: Read> Head<'_, F> {
    fn content(&mut self) -> Result<Content, Flaw> {
        let magic = self.magic()?;
        let tensors = self.count("the tensors", MOST_ENTRIES)?;
        let entries = self.count("what is said of the model", MOST_ENTRIES)?;
        let mut metadata = HashMap::new();
        for _ in 0..entries {
            let key = self.text("a key", LONGEST_NAME)?;
            let kind = self.u32(&key)?;
            let value = self.value(&key, kind, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(Flaw::Twice(key));
            }
        }
        let alignment = alignment(&metadata)?;
        let mut tensor_infos = HashMap::new();
        for _ in 0..tensors {
            let name = self.text("the name of a tensor", LONGEST_NAME)?;
            let tensor = self.tensor(&name, alignment)?;
            if tensor_infos.insert(name.clone(), tensor).is_some() {
                return Err(Flaw::Twice(format!("tensor \"{name}\"")));
            }
        }
        let at = self.len.min(LONGEST_HEAD) - self.left;
        // Neither can overflow: the head is short, and an alignment is one of four bytes.
        let tensor_data_offset = at.next_multiple_of(alignment);
        let content = Content { magic, metadata, tensor_infos, tensor_data_offset };
        content.tensor_infos.iter().try_for_each(|(name, info)| self.is_within(&content, name, info))?;
        Ok(content)
    }

    fn magic(&mut self) -> Result<VersionedMagic, Flaw> {
        let mut magic = [0; 4];
        match self.bytes("the head", &mut magic) {
            Err(Flaw::Unreadable(error)) => return Err(Flaw::Unreadable(error)),
            Ok(()) if magic == *b"GGUF" => {}
            _ => return Err(Flaw::NoGguf),
        }
        let version = self.u32("the head")?;
        let magic = match version {
            1 => VersionedMagic::GgufV1,
            2 => VersionedMagic::GgufV2,
            3 => VersionedMagic::GgufV3,
            other => return Err(Flaw::Version(other)),
        };
        self.wide = version > 1;
        Ok(magic)
    }

    fn value(&mut self, what: &str, kind: u32, depth: usize) -> Result<Value, Flaw> {
        self.values += 1;
        if self.values > MOST_VALUES {
            let what = what.to_owned();
            return Err(Flaw::TooMany { what, count: self.values, most: MOST_VALUES });
        }
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => match self.array(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(impossible(what, "it is neither true nor false")),
            },
            8 => Value::String(self.text(what, LONGEST_HEAD)?),
            9 => Value::Array(self.list(what, depth)?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            kind => return Err(Flaw::Kind { what: what.to_owned(), kind }),
        })
    }

    fn list(&mut self, what: &str, depth: usize) -> Result<Vec<Value>, Flaw> {
        if depth >= DEEPEST {
            return Err(impossible(what, "lists lie too deep in each other"));
        }
        let kind = self.u32(what)?;
        let count = self.count(what, MOST_VALUES - self.values.min(MOST_VALUES))?;
        // A value takes a byte at least.
        if count > self.left {
            return Err(Flaw::Ends(what.to_owned()));
        }
        let mut values = Vec::with_capacity(count.min(AT_ONCE) as usize);
        for _ in 0..count {
            values.push(self.value(what, kind, depth + 1)?);
        }
        Ok(values)
    }

    fn tensor(&mut self, name: &str, alignment: u64) -> Result<TensorInfo, Flaw> {
        let what = format!("tensor \"{name}\"");
        let dimensions = self.u32(&what)?;
        if dimensions > MOST_DIMENSIONS {
            return Err(Flaw::TooMany { what, count: dimensions.into(), most: MOST_DIMENSIONS.into() });
        }
        let mut shape = Vec::with_capacity(MOST_DIMENSIONS as usize);
        for _ in 0..dimensions {
            shape.push(self.length(&what)?);
        }
        let kind = self.u32(&what)?;
        let ggml_dtype = format_of(kind).ok_or(Flaw::Kind { what: what.clone(), kind })?;
        let offset = self.u64(&what)?;
        if !offset.is_multiple_of(alignment) {
            return Err(impossible(&what, "it does not begin where a tensor may"));
        }
        let size = shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size).filter(|all| *all > 0));
        if size.is_none_or(|size| usize::try_from(size).is_err()) {
            return Err(impossible(&what, "it has no size"));
        }
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(ggml_dtype.block_size() as u64) {
            return Err(impossible(&what, "its rows are no multiple of what is packed together"));
        }
        let shape: Vec<usize> = shape.into_iter().rev().map(|size| size as usize).collect();
        Ok(TensorInfo { ggml_dtype, shape: Shape::from(shape), offset })
    }

    /// Whether all of a tensor is in the file.
    fn is_within(&self, content: &Content, name: &str, info: &TensorInfo) -> Result<(), Flaw> {
        let blocks = info.shape.elem_count() as u64 / info.ggml_dtype.block_size() as u64;
        let size = blocks.saturating_mul(info.ggml_dtype.type_size() as u64);
        let from = content.tensor_data_offset.saturating_add(info.offset);
        match from.checked_add(size).is_some_and(|to| to <= self.len) {
            true => Ok(()),
            false => Err(Flaw::Beyond { name: name.to_owned(), from, size, len: self.len }),
        }
    }

    /// A count of what must lie in what is left.
    fn count(&mut self, what: &str, most: u64) -> Result<u64, Flaw> {
        let count = self.length(what)?;
        if count > most {
            return Err(Flaw::TooMany { what: what.to_owned(), count, most });
        }
        Ok(count)
    }

    /// Texts are to be UTF-8, and some end with a zero; neither is a reason to refuse them.
    fn text(&mut self, what: &str, most: u64) -> Result<String, Flaw> {
        let len = self.count(what, most)?;
        if len > self.left {
            return Err(Flaw::Ends(what.to_owned()));
        }
        let mut text = vec![0; len as usize];
        self.bytes(what, &mut text)?;
        let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        text.truncate(end);
        Ok(String::from_utf8(text).unwrap_or_else(|no| String::from_utf8_lossy(no.as_bytes()).into_owned()))
    }

    fn length(&mut self, what: &str) -> Result<u64, Flaw> {
        if self.wide { self.u64(what) } else { self.u32(what).map(u64::from) }
    }

    fn u32(&mut self, what: &str) -> Result<u32, Flaw> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Flaw> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Flaw> {
        let mut bytes = [0; N];
        self.bytes(what, &mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, what: &str, into: &mut [u8]) -> Result<(), Flaw> {
        let ends = || Flaw::Ends(what.to_owned());
        self.left = self.left.checked_sub(into.len() as u64).ok_or_else(ends)?;
        self.file.read_exact(into).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => ends(),
            _ => Flaw::Unreadable(error),
        })
    }
}

fn impossible(what: &str, why: &'static str) -> Flaw {
    Flaw::Impossible { what: what.to_owned(), why }
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, Flaw> {
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        None => ALIGNMENT,
        Some(Value::U8(value)) => u64::from(*value),
        Some(Value::U16(value)) => u64::from(*value),
        Some(Value::U32(value)) => u64::from(*value),
        Some(Value::I8(value)) => u64::try_from(*value).unwrap_or_default(),
        Some(Value::I16(value)) => u64::try_from(*value).unwrap_or_default(),
        Some(Value::I32(value)) => u64::try_from(*value).unwrap_or_default(),
        Some(_) => return Err(impossible(ALIGNMENT_KEY, "it is no number of four bytes")),
    };
    if alignment.is_power_of_two() {
        Ok(alignment)
    } else {
        Err(impossible(ALIGNMENT_KEY, "it is no power of two"))
    }
}

/// How the numbers of a tensor are written, in GGUF's numbering.
fn format_of(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
