//! Operations from TOML.
//!
//! A path may go through arrays and maps: `messages[].tool_calls[].id` means the field `id` of each element
//! of `tool_calls` of each element of `messages`, and is short for nested `each` operations.

use super::cast::Cast;
use super::convert::{Kind, Unit};
use super::each::Each;
use super::fields::{Add, DropNull, Remove, Set};
use super::map_values::{MapValues, Otherwise};
use super::places::{Copy, Move, Rename, Way};
use super::supply::Supply;
use super::wrap::{Unwrap, Wrap, Wrapping};
use super::{Operate, Operations};
use crate::table::Table;
use whimbrel_model::rule::FieldPath;

const NAMES: &str =
    "add, set, remove, drop_null, rename, move, copy, cast, map_values, wrap, unwrap, each";

/// Reads a list of operations; what is wrong is recorded in the tables' source.
pub(crate) fn operations(tables: &[Table<'_, '_>]) -> Operations {
    Operations::new(tables.iter().filter_map(operation).collect())
}

fn operation(table: &Table<'_, '_>) -> Option<Box<dyn Operate>> {
    let name = table.need_text("op")?;
    let parsed = match name {
        "add" => add(table),
        "set" => set(table),
        "remove" => remove(table),
        "drop_null" => drop_null(table),
        "rename" => rename(table),
        "move" => way(table).map(|(each, way)| (each, boxed(Move(way)))),
        "copy" => way(table).map(|(each, way)| (each, boxed(Copy(way)))),
        "cast" => cast(table),
        "map_values" => map_values(table),
        "wrap" | "unwrap" => wrap(table, name == "unwrap"),
        "each" => each(table),
        _ => {
            table.error(
                "op",
                format!("there is no operation {name:?}; there are: {NAMES}"),
            );
            return None;
        }
    };
    table.finish();
    let (each, operation) = parsed?;
    Some(each.into_iter().rev().fold(operation, |inner, path| {
        boxed(Each {
            path,
            operations: Operations::new(vec![inner]),
            required: false,
        })
    }))
}

type Parsed = Option<(Vec<FieldPath>, Box<dyn Operate>)>;

fn boxed(operation: impl Operate + 'static) -> Box<dyn Operate> {
    Box::new(operation)
}

/// Cuts `a[].b[].c.d` into `[a, b]` and `c.d`.
fn reach(table: &Table<'_, '_>, name: &'static str) -> Option<(Vec<FieldPath>, FieldPath)> {
    let text = table.need_text(name)?;
    let span = table.span_of(name);
    let mut parts: Vec<_> = text.split("[].").collect();
    let last = parts.pop()?;
    if last.ends_with("[]") && !last.ends_with("\\[]") {
        table.error(
            name,
            format!("{text:?} ends with an element: name a field of it, like {text}.name"),
        );
        return None;
    }
    let each = parts
        .into_iter()
        .map(|part| table.source.path(span.clone(), part))
        .collect::<Option<Vec<_>>>()?;
    Some((each, table.source.path(span, last)?))
}

fn required(table: &Table<'_, '_>) -> bool {
    table.flag("required").unwrap_or(false)
}

fn add(table: &Table<'_, '_>) -> Parsed {
    let (path, supply) = (reach(table, "path"), Supply::parse(table));
    let (each, path) = path?;
    let supply = supply?;
    Some((each, boxed(Add { path, supply })))
}

fn set(table: &Table<'_, '_>) -> Parsed {
    let (path, supply) = (reach(table, "path"), Supply::parse(table));
    let (each, path) = path?;
    let supply = supply?;
    Some((each, boxed(Set { path, supply })))
}

fn remove(table: &Table<'_, '_>) -> Parsed {
    let path = reach(table, "path");
    let required = required(table);
    let default = table.value("default");
    let (each, path) = path?;
    Some((
        each,
        boxed(Remove {
            path,
            required,
            default,
        }),
    ))
}

fn drop_null(table: &Table<'_, '_>) -> Parsed {
    let (each, path) = reach(table, "path")?;
    Some((each, boxed(DropNull { path })))
}

fn rename(table: &Table<'_, '_>) -> Parsed {
    let from = reach(table, "from");
    let to = table.need_text("to");
    let (required, overwrite) = (required(table), table.flag("overwrite").unwrap_or(false));
    let ((each, from), to) = (from?, to?);
    // The new name alone, or the whole path again with another last name.
    let whole = if to.contains("[].") {
        reach(table, "to")
            .filter(|(to_each, _)| *to_each == each)
            .map(|(_, to)| to)
    } else {
        table.source.path(table.span_of("to"), to)
    };
    let siblings = &from.names()[..from.names().len() - 1];
    let to = match whole {
        Some(path) if path.names().len() == 1 => {
            let names = siblings.iter().chain(path.names()).cloned().collect();
            FieldPath::from_names(names)?
        }
        Some(path)
            if path.names().starts_with(siblings) && path.names().len() == from.names().len() =>
        {
            path
        }
        _ => {
            table.error(
                "to",
                "a rename stays among the same siblings: give the new name, or use move",
            );
            return None;
        }
    };
    if from == to {
        table.error("to", "the new name is the old one");
        return None;
    }
    let way = Way {
        from,
        to,
        required,
        overwrite,
    };
    Some((each, boxed(Rename(way))))
}

fn way(table: &Table<'_, '_>) -> Option<(Vec<FieldPath>, Way)> {
    let (from, to) = (reach(table, "from"), reach(table, "to"));
    let (required, overwrite) = (required(table), table.flag("overwrite").unwrap_or(false));
    let ((each, from), (to_each, to)) = (from?, to?);
    if each != to_each {
        table.error(
            "to",
            "\"from\" and \"to\" must go through the same elements",
        );
        return None;
    }
    if from.names().starts_with(to.names()) || to.names().starts_with(from.names()) {
        table.error("to", "a field cannot go into itself: use wrap or unwrap");
        return None;
    }
    Some((
        each,
        Way {
            from,
            to,
            required,
            overwrite,
        },
    ))
}

fn kind(table: &Table<'_, '_>, name: &'static str, text: &str) -> Option<Kind> {
    let kind = Kind::parse(text);
    if kind.is_none() {
        table.error(
            name,
            format!("{text:?} is no type of cast; there are {}", Kind::NAMES),
        );
    }
    kind
}

fn cast(table: &Table<'_, '_>) -> Parsed {
    let path = reach(table, "path");
    let to = table
        .need_text("to")
        .and_then(|text| kind(table, "to", text));
    let from = table.text("from").map(|text| kind(table, "from", text));
    let unit = table.text("unit").map(|text| {
        let unit = Unit::parse(text);
        if unit.is_none() {
            table.error(
                "unit",
                format!("{text:?} is no unit; there are s, ms, us and ns"),
            );
        }
        unit
    });
    let required = required(table);
    let ((each, path), to) = (path?, to?);
    let from = match from {
        Some(from) => Some(from?),
        None => None,
    };
    if matches!(from, Some(Kind::Json | Kind::JsonString)) || from == Some(to) {
        table.error(
            "from",
            "\"from\" must be another of int, double, bool, string, timestamp",
        );
        return None;
    }
    if from.is_some_and(|from| from != Kind::String) && to == Kind::Json {
        table.error("from", "only a string holds JSON");
        return None;
    }
    Some((
        each,
        boxed(Cast {
            path,
            to,
            from,
            // What JavaScript's Date and most JSON documents count.
            unit: unit.unwrap_or(Some(Unit::Millis))?,
            required,
        }),
    ))
}

fn map_values(table: &Table<'_, '_>) -> Parsed {
    let path = reach(table, "path");
    let entries = table.table("map");
    if entries.is_none() && !table.has("map") {
        table.error("", "\"map\" is missing: map = { old = \"new\" }");
    }
    let otherwise = match table.text("otherwise") {
        None | Some("keep") => Some(Otherwise::Keep),
        Some("error") => Some(Otherwise::Fail),
        Some(_) => {
            table.error("otherwise", "\"otherwise\" must be \"keep\" or \"error\"");
            None
        }
    };
    let required = required(table);
    let map = entries?
        .all()
        .map(|(old, new)| Some((old.to_owned(), table.source.value(new)?)))
        .collect::<Option<_>>()?;
    let (each, path) = path?;
    Some((
        each,
        boxed(MapValues {
            path,
            map,
            otherwise: otherwise?,
            required,
        }),
    ))
}

fn wrap(table: &Table<'_, '_>, undo: bool) -> Parsed {
    let path = reach(table, "path");
    let required = required(table);
    let wrapping = match (table.text("as"), table.text("in")) {
        (Some("array"), None) => Wrapping::Array,
        (None, Some(name)) => Wrapping::Map(name.to_owned()),
        _ => {
            table.error(
                "",
                "give as = \"array\", or in = \"the field's name in the map\"",
            );
            return None;
        }
    };
    let (each, path) = path?;
    let operation = if undo {
        boxed(Unwrap {
            path,
            wrapping,
            required,
        })
    } else {
        boxed(Wrap {
            path,
            wrapping,
            required,
        })
    };
    Some((each, operation))
}

fn each(table: &Table<'_, '_>) -> Parsed {
    let path = reach(table, "path");
    let required = required(table);
    let inner = table.tables("do");
    if inner.is_none() && !table.has("do") {
        table.error("", "\"do\" is missing: do = [ { op = … } ]");
    }
    let operations = operations(&inner?);
    let (each, path) = path?;
    Some((
        each,
        boxed(Each {
            path,
            operations,
            required,
        }),
    ))
}
