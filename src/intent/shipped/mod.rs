//! The rules that come with weir.

/// Each a rule file, under its name.
pub(super) const FILES: [(&str, &str); 4] = [
    ("music", include_str!("music.toml")),
    ("home", include_str!("home.toml")),
    ("reckon", include_str!("reckon.toml")),
    ("talk", include_str!("talk.toml")),
];
