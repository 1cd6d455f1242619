//! What makes two questions the same: the keys of `[cache]` that a `[[project]]` may set for itself.

use super::check::{Checker, ON_OFF};
use super::origin::Place;
use super::raw;
use super::read::{Found, Text, Texts};
use crate::cache::identity::{Client, Context, MAX_MASKS, Mask, Masks, Overrides, Project, Settings};

/// The longest name of a project, as in `x-weir-project`; and the most of them.
const MAX_NAME: usize = 256;
const MAX_PROJECTS: usize = 10_000;

/// What holds for every project that sets nothing itself.
pub(super) fn settings(check: &mut Checker<'_>, raw: &raw::Cache) -> Settings {
    let default = Settings::default();
    Settings {
        context: check.choice(raw.context.as_ref(), &Context::ALL).unwrap_or(default.context),
        client: check.choice(raw.client.as_ref(), &Client::ALL).unwrap_or(default.client),
        tools: check.choice(raw.tools.as_ref(), &ON_OFF).unwrap_or(default.tools),
        mask: masks(check, raw.mask.as_ref()).unwrap_or(default.mask),
    }
}

/// The projects that set something.
pub(super) fn projects(check: &mut Checker<'_>, raw: Vec<Found<raw::Project>>) -> Vec<Project> {
    let mut projects: Vec<Project> = Vec::with_capacity(raw.len());
    for Found { value: raw, place } in raw {
        let raw::Project { name, context, client, tools, mask } = &raw;
        let overrides = Overrides {
            context: check.choice(context.as_ref(), &Context::ALL),
            client: check.choice(client.as_ref(), &Client::ALL),
            tools: check.choice(tools.as_ref(), &ON_OFF),
            mask: masks(check, mask.as_ref()),
        };
        if projects.len() == MAX_PROJECTS {
            check.findings.problem(&place, format!("more than {MAX_PROJECTS} projects"));
            break;
        }
        let Some(name) = project_name(check, name.as_ref(), &place, &projects) else { continue };
        projects.push(Project { name, overrides });
    }
    projects
}

/// A name as `x-weir-project` has it, or the beginning of names, with a `*` after it.
fn project_name(
    check: &mut Checker<'_>,
    typed: Option<&Found<Text>>,
    table: &Place,
    known: &[Project],
) -> Option<String> {
    let Some(found) = typed else {
        check.findings.missing(table, "name", "the project it is for, as in x-weir-project");
        return None;
    };
    let name = check.filled(typed)?;
    let stem = name.strip_suffix('*').unwrap_or(&name);
    if name.len() > MAX_NAME || !name.chars().all(|c| c.is_ascii_graphic()) || stem.contains('*') {
        let reason =
            format!("must be at most {MAX_NAME} visible ASCII characters, with a \"*\" at the end alone");
        check.findings.problem(&found.place, reason);
    }
    if known.iter().any(|project| project.name == name) {
        check.findings.problem(&found.place, "is used twice");
    }
    Some(name)
}

fn masks(check: &mut Checker<'_>, typed: Option<&Found<Texts>>) -> Option<Masks> {
    let Found { value: texts, place } = typed?;
    if texts.len() > MAX_MASKS {
        check.findings.problem(place, format!("must be at most {MAX_MASKS} masks"));
    }
    let mut masks = Vec::with_capacity(texts.len());
    for text in texts.iter().take(MAX_MASKS) {
        match Mask::parse(&text.value.value) {
            Ok(mask) => masks.push(mask),
            Err(error) => check.findings.problem(&text.place, error.to_string()),
        }
    }
    Some(Masks::new(masks))
}
