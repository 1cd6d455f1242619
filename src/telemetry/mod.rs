//! Telemetry.

/// How the log is written.
#[derive(Clone, Debug)]
pub struct Config {
    /// A level (`info`), or directives by module (`info,weir::cache=debug`).
    pub filter: String,
    /// In which shape.
    pub format: Format,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Auto }
    }
}
