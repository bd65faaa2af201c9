//! The project's folder of migrations: what its files say, what is wrong with them, and which one a user
//! means.

use crate::failure::Failure;
use crate::place;
use crate::project::{Project, nearest};
use crate::schemas::{self, shown};
use std::path::Path;
use whimbrel_model::Code;
use whimbrel_model::migration::{Means, Migration, PlanError, check_named};
use whimbrel_transform::LoadError;

/// Every migration of the project, in the order of their numbers, judged together.
///
/// # Errors
/// Everything that is wrong with any of the files, each at its place.
pub fn load(project: &Project) -> Result<Vec<Migration>, Failure> {
    let folder = shown(&project.migrations);
    let mut all = whimbrel_transform::load_migrations(Path::new(&folder), &project.dir)
        .map_err(|errors| schemas::failure(&errors))?;
    let wrong = check_named(&mut all, &|name, means| resolve(project, name, means));
    if wrong.is_empty() {
        return Ok(all);
    }
    let errors: Vec<_> = wrong.iter().map(|e| placed(project, e)).collect();
    Err(schemas::failure(&errors))
}

fn placed(project: &Project, error: &PlanError) -> LoadError {
    let file = file(project, &error.migration);
    LoadError::new(Code::MigrationInvalid, file, error.message.clone()).at(error.line, 1)
}

/// As messages call the file of a migration.
#[must_use]
pub fn file(project: &Project, id: &str) -> String {
    shown(&project.migrations.join(format!("{id}.toml")))
}

/// What a name in a migration means, in the same words for the same thing: `store/collection`, `store/*`,
/// `store`.
///
/// # Errors
/// It means nothing in this project; the text says why.
pub fn resolve(project: &Project, name: &str, means: Means) -> Result<String, String> {
    let said = |failure: Failure| {
        let hints = failure.next.iter().filter(|n| !n.starts_with("whimbrel "));
        hints.fold(failure.message.clone(), |text, hint| {
            format!("{text}; {hint}")
        })
    };
    let whole = |named: place::Named| match named.collection {
        Some(collection) => format!("{}/{collection}", named.store),
        None => named.store,
    };
    match means {
        Means::Store => project.store(name).map(|_| name.to_owned()),
        Means::Collections if name.ends_with("/*") => {
            let store = name.trim_end_matches("/*");
            project.store(store).map(|_| name.to_owned())
        }
        Means::Collection | Means::Collections => {
            place::parse_collection(name, project).map(|(named, _)| whole(named))
        }
        Means::Source => place::parse_source(name, project).map(whole),
        Means::Target => place::parse(name, project).map(whole),
    }
    .map_err(said)
}

/// The one id that a text means: its number, all of it, or a beginning that no other has.
///
/// # Errors
/// None is meant, or several.
pub fn pick<'a>(ids: &[&'a str], text: &str) -> Result<&'a str, Failure> {
    if let Some(id) = ids.iter().find(|id| **id == text) {
        return Ok(id);
    }
    let wanted: Option<u32> = text.parse().ok();
    let numbered: Vec<_> = ids
        .iter()
        .filter(|id| wanted.is_some() && number(id) == wanted)
        .collect();
    if let [one] = numbered[..] {
        return Ok(one);
    }
    let begun: Vec<_> = ids.iter().filter(|id| id.starts_with(text)).collect();
    match begun[..] {
        [one] if !text.is_empty() => Ok(one),
        [] => {
            let failure = Failure::usage(format!("no migration is called \"{text}\""));
            Err(match nearest(text, ids) {
                Some(near) => failure.next(format!("did you mean \"{near}\"?")),
                None if ids.is_empty() => failure.next("whimbrel new migration NAME"),
                None => failure.next(format!("there are: {}", ids.join(", "))),
            })
        }
        _ => {
            let several: Vec<_> = begun.iter().map(|id| **id).collect();
            Err(Failure::usage(format!(
                "\"{text}\" begins several migrations: {}",
                several.join(", ")
            )))
        }
    }
}

/// The number that an id begins with.
#[must_use]
pub fn number(id: &str) -> Option<u32> {
    id.split('_').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_picked_in_three_ways() {
        let ids = ["0001_reshape", "0002_split", "0010_split_again", "0010_x"];
        for (text, expect) in [
            ("0001_reshape", Ok("0001_reshape")),
            ("1", Ok("0001_reshape")),
            ("0002", Ok("0002_split")),
            ("2", Ok("0002_split")),
            ("0010_s", Ok("0010_split_again")),
            ("0010", Err("begins several")),
            ("3", Err("no migration")),
            ("0002_splat", Err("no migration")),
            ("", Err("begins several")),
        ] {
            match (pick(&ids, text), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{text}"),
                (Err(failure), Err(expect)) => {
                    assert!(failure.message.contains(expect), "{}", failure.message);
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let near = pick(&ids, "0002_splat").unwrap_err();
        assert!(near.next[0].contains("0002_split"), "{near:?}");
    }
}
