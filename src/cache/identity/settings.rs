//! What can be set about identity, and for which projects. Resolved once, at the start; a request finds the
//! settings of its project without an allocation.

use super::mask::Masks;
use std::collections::BTreeMap;

/// Which client's way of wrapping a question is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// Found from the request.
    #[default]
    Auto,
    /// None: the question is the last message.
    Plain,
    /// OpenClaw's.
    OpenClaw,
}

impl Client {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("auto", Self::Auto), ("plain", Self::Plain), ("openclaw", Self::OpenClaw)];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::OpenClaw => "openclaw",
        }
    }
}

/// Which earlier turns must be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Context {
    /// All of them.
    #[default]
    Strict,
    /// The instructions to the model.
    SystemAndLast,
    /// None: the last message alone counts.
    Last,
}

impl Context {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 3] =
        [("strict", Self::Strict), ("system+last", Self::SystemAndLast), ("last", Self::Last)];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::SystemAndLast => "system+last",
            Self::Last => "last",
        }
    }
}

/// What counts in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which earlier turns must be the same.
    pub context: Context,
    /// Which client's wrapping is taken off the question.
    pub client: Client,
    /// Whether requests that offer tools may be answered from memory.
    pub tools: bool,
    /// What is volatile in everything but the question.
    pub mask: Masks,
}

/// What a `[[project]]` sets in place of what holds for all. A key that it does not set is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// See [`Settings::context`].
    pub context: Option<Context>,
    /// See [`Settings::client`].
    pub client: Option<Client>,
    /// See [`Settings::tools`].
    pub tools: Option<bool>,
    /// See [`Settings::mask`].
    pub mask: Option<Masks>,
}

impl Overrides {
    /// `settings`, with these in their place.
    fn over(&self, settings: &Settings) -> Settings {
        let Self { context, client, tools, mask } = self.clone();
        Settings {
            context: context.unwrap_or(settings.context),
            client: client.unwrap_or(settings.client),
            tools: tools.unwrap_or(settings.tools),
            mask: mask.unwrap_or_else(|| settings.mask.clone()),
        }
    }
}

/// A `[[project]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Its name; with a `*` at the end, every project whose name begins so.
    pub name: String,
    /// What it sets.
    pub overrides: Overrides,
}

/// The settings of every project.
#[derive(Debug)]
pub struct Projects {
    default: Settings,
    exact: BTreeMap<String, Settings>,
    /// The longest first.
    beginnings: Vec<(String, Settings)>,
}

impl Projects {
    /// `default` for all but `projects`.
    pub fn new(default: Settings, projects: &[Project]) -> Self {
        let (mut exact, mut beginnings) = (BTreeMap::new(), Vec::new());
        for Project { name, overrides } in projects {
            let settings = overrides.over(&default);
            match name.strip_suffix('*') {
                Some(beginning) => beginnings.push((beginning.to_owned(), settings)),
                None => drop(exact.insert(name.clone(), settings)),
            }
        }
        beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        Self { default, exact, beginnings }
    }

    /// What counts in `project`: its own settings, else those of the longest beginning, else those of all.
    pub fn of(&self, project: &str) -> &Settings {
        let beginning = || self.beginnings.iter().find(|(beginning, _)| project.starts_with(beginning));
        self.exact.get(project).or_else(|| beginning().map(|(_, settings)| settings)).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_decides_and_the_rest_is_inherited() {
        let project = |name: &str, context| Project {
            name: name.to_owned(),
            overrides: Overrides { context: Some(context), ..Overrides::default() },
        };
        let default = Settings { tools: true, ..Settings::default() };
        let projects = Projects::new(
            default.clone(),
            &[
                project("*", Context::Last),
                project("music*", Context::SystemAndLast),
                project("music-live", Context::Strict),
            ],
        );
        let cases = [
            ("music-live", Context::Strict),
            ("music-live2", Context::SystemAndLast),
            ("music", Context::SystemAndLast),
            ("mus", Context::Last),
        ];
        for (name, context) in cases {
            assert_eq!(*projects.of(name), Settings { context, ..default.clone() }, "{name}");
        }
        assert_eq!(*Projects::new(default.clone(), &[]).of("music"), default);
    }
}
