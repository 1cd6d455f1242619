//! With which numbers a model computes.

use std::fmt;
use std::str::FromStr;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The fastest that agrees with the model as it was trained: bytes on a CPU, halves on a GPU.
    #[default]
    Auto,
    /// As the model was trained, by candle's own network: slow, and what the others are judged by.
    F32,
    /// Numbers of 16 bits.
    Bf16,
    /// Numbers of 8 bits, each row and each column with a scale of its own.
    Int8,
}

/// The name of a precision that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a precision: use `auto`, `f32`, `bf16` or `int8`")]
pub struct UnknownPrecision(String);

impl Precision {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("f32", Self::F32), ("bf16", Self::Bf16), ("int8", Self::Int8)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, precision)| precision).ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the weights of a fused network lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Int8,
    Bf16,
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_reads_what_it_writes() {
        for (name, precision) in Precision::ALL {
            assert_eq!(precision.to_string(), name);
            assert_eq!(name.parse(), Ok(precision));
        }
        let error = "f64".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "`f64` is not a precision: use `auto`, `f32`, `bf16` or `int8`");
    }
}
