//! The rules that come with weir.

/// Each a rule file.
pub(super) const FILES: [&str; 4] = [
    include_str!("music.toml"),
    include_str!("home.toml"),
    include_str!("reckon.toml"),
    include_str!("talk.toml"),
];
