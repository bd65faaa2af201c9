//! What a collection's table looks like, found out from the catalogue.

use super::columns::{Field, Kind};
use super::keys::{self, KeyColumn, Part};
use super::sql::Sql;
use super::wire::Wire;
use crate::{CollectionConfig, LayoutChoice};
use std::sync::atomic::{AtomicUsize, Ordering};
use whimbrel_model::KeyKind;
use whimbrel_model::store::{Column, Layout};

/// `"` doubled, so that any name is only a name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as it is, or, where it is too long for the server, as [`hashed`].
#[cfg(feature = "firestore")]
pub(crate) fn fitting(name: &str) -> String {
    if name.len() <= super::NAME_BYTES {
        return name.to_owned();
    }
    hashed(name)
}

/// The beginning of a name with a hash of all of it.
#[cfg(feature = "firestore")]
pub(crate) fn hashed(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mut end = name.len().min(super::NAME_BYTES - 17);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{}", &name[..end], &hash[..16])
}

/// A table as one collection.
#[derive(Debug)]
pub(crate) struct Table {
    pub oid: u32,
    pub collection: String,
    pub keys: Vec<KeyColumn>,
    pub payload: Payload,
    pub plain: bool,
    /// Whether the key's index sorts as [`whimbrel_model::Key`] does.
    pub key_order: bool,
    /// Whether a constraint may be checked as late as at COMMIT.
    pub deferred: bool,
    pub(super) sql: Sql,
    /// Bytes of a row, as seen lately; steers how many a scan asks for. 0 = none seen.
    row_bytes: AtomicUsize,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Json {
        name: String,
        wire: Wire,
    },
    Columns {
        fields: Vec<Field>,
        rest: Option<Field>,
    },
}

impl Table {
    pub fn kind(&self) -> KeyKind {
        keys::kind(&self.keys)
    }

    /// Whether every column that a write fills has bytes known here.
    pub fn copies_binary(&self) -> bool {
        matches!(self.payload, Payload::Json { .. })
            && !self.keys.iter().any(|k| matches!(k.part, Part::Cast(_)))
    }

    pub fn layout(&self) -> Layout {
        match &self.payload {
            Payload::Json { .. } => Layout::Json,
            Payload::Columns { fields, .. } => Layout::Columns(
                fields
                    .iter()
                    .map(|field| Column {
                        name: field.name.clone(),
                        kind: field.declared.clone(),
                        nullable: field.nullable,
                    })
                    .collect(),
            ),
        }
    }

    /// How many rows fill about `bytes`; a guess until rows were seen.
    pub fn rows_for(&self, bytes: usize) -> usize {
        match self.row_bytes.load(Ordering::Relaxed) {
            0 => 64,
            // Asking for a little more than is taken costs less than a second round trip.
            size => (bytes / size).saturating_mul(9) / 8 + 1,
        }
    }

    pub fn saw_rows(&self, rows: usize, bytes: usize) {
        if let Some(size) = bytes.checked_div(rows) {
            self.row_bytes.store(size.max(1), Ordering::Relaxed);
        }
    }
}

/// Why a table cannot serve as a collection.
pub(crate) type Misfit = String;

/// What the catalogue says, before it is judged.
#[derive(Debug)]
pub(crate) struct Found {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: String,
    pub columns: Vec<Attribute>,
    pub indexes: Vec<Index>,
    pub deferred: bool,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub number: i16,
    pub name: String,
    pub not_null: bool,
    pub generated: bool,
    /// The type under all domains, quoted with its schema, without its length: a cast to it never cuts.
    pub base: String,
    /// `pg_catalog`'s own name of the base type; empty for types of others.
    pub builtin: String,
    /// The same of an array's elements.
    pub element: String,
    pub modifier: i32,
    pub declared: String,
    pub c_collation: bool,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub primary: bool,
    pub immediate: bool,
    pub columns: Vec<i16>,
}

impl Attribute {
    fn part(&self) -> Part {
        match self.builtin.as_str() {
            "int2" => Part::Int(2),
            "int4" => Part::Int(4),
            "int8" => Part::Int(8),
            "uuid" => Part::Uuid,
            "text" | "varchar" => Part::Text,
            _ => Part::Cast(self.base.clone()),
        }
    }

    fn json_wire(&self) -> Option<Wire> {
        match self.builtin.as_str() {
            "jsonb" => Some(Wire::Jsonb),
            "json" => Some(Wire::Json),
            "text" | "varchar" => Some(Wire::Text),
            _ => None,
        }
    }

    fn field(&self, key_part: Option<usize>) -> Field {
        let kind = match self.element.as_str() {
            "" => Kind::of(&self.builtin, self.modifier),
            // The one type whose arrays are not separated by commas stays a text as a whole.
            "box" => Kind::Other,
            element => Kind::Array(Box::new(Kind::of(element, self.modifier))),
        };
        Field {
            name: self.name.clone(),
            kind,
            cast: self.base.clone(),
            declared: self.declared.clone(),
            nullable: !self.not_null,
            key_part,
        }
    }
}

impl Found {
    /// # Errors
    /// Why the table cannot serve, and what to do.
    pub fn table(self, collection: &str, config: &CollectionConfig) -> Result<Table, Misfit> {
        if !matches!(self.kind.as_str(), "r" | "p") {
            return Err("it is no table (a view has no revisions)".to_owned());
        }
        let keys = self.keys(config)?;
        let others: Vec<&Attribute> = self
            .columns
            .iter()
            .filter(|c| !c.generated && !keys.iter().any(|k| k.number == c.number))
            .collect();
        let payload = match self.data_column(config, &others)? {
            Some(data) => Payload::Json {
                name: data.name.clone(),
                wire: data.json_wire().ok_or_else(|| {
                    format!(
                        "its column {:?} is of type {}, which holds no JSON; set layout = \"columns\"",
                        data.name, data.declared
                    )
                })?,
            },
            None => self.fields(config, &keys)?,
        };
        let key_order = keys.iter().all(|key| match key.part() {
            Part::Int(_) | Part::Uuid => true,
            Part::Text => key.c_collation,
            Part::Cast(_) => false,
        });
        let keys: Vec<KeyColumn> = keys
            .iter()
            .map(|key| KeyColumn {
                name: key.name.clone(),
                part: key.part(),
            })
            .collect();
        let name = format!("{}.{}", quoted(&self.schema), quoted(&self.name));
        let sql = Sql::new(&name, &keys, &payload);
        Ok(Table {
            oid: self.oid,
            collection: collection.to_owned(),
            keys,
            payload,
            plain: config.plain,
            key_order,
            deferred: self.deferred,
            sql,
            row_bytes: AtomicUsize::new(0),
        })
    }

    fn column(&self, name: &str) -> Result<&Attribute, Misfit> {
        self.columns
            .iter()
            .find(|c| c.name == name)
            .ok_or_else(|| format!("it has no column {name:?}"))
    }

    /// The key's columns, in the order of the index that keeps them.
    fn keys(&self, config: &CollectionConfig) -> Result<Vec<&Attribute>, Misfit> {
        let index = if config.key.is_empty() {
            self.indexes.iter().find(|i| i.primary).ok_or(
                "it has no primary key; name columns that have a unique index with `key = [\"…\"]`",
            )?
        } else {
            let numbers = config
                .key
                .iter()
                .map(|name| self.column(name).map(|c| c.number))
                .collect::<Result<Vec<_>, _>>()?;
            self.indexes
                .iter()
                .find(|i| i.columns == numbers && i.immediate)
                .ok_or_else(|| {
                    format!(
                        "no unique index has exactly the columns {}, in this order; create one",
                        config.key.join(", ")
                    )
                })?
        };
        if !index.immediate {
            return Err(
                "its primary key is deferrable, so that no write can rely on it".to_owned(),
            );
        }
        let keys: Vec<&Attribute> = index
            .columns
            .iter()
            .filter_map(|number| self.columns.iter().find(|c| c.number == *number))
            .collect();
        // A NULL key compares with nothing: a scan would never see its row.
        if let Some(open) = keys.iter().find(|key| !key.not_null) {
            return Err(format!(
                "its key column {:?} may be null; declare it NOT NULL",
                open.name
            ));
        }
        Ok(keys)
    }

    /// The JSON column where the layout is `json`, `None` where columns are fields.
    fn data_column<'c>(
        &self,
        config: &CollectionConfig,
        others: &[&'c Attribute],
    ) -> Result<Option<&'c Attribute>, Misfit> {
        let wanted = config.data.as_deref().unwrap_or("data");
        let named = others.iter().copied().find(|c| c.name == wanted);
        let missing = || format!("it has no column {wanted:?} for the JSON");
        match config.layout {
            LayoutChoice::Columns => Ok(None),
            LayoutChoice::Json => match (named, others) {
                (Some(column), _) => Ok(Some(column)),
                (None, [only]) if config.data.is_none() => Ok(Some(only)),
                (None, _) => Err(missing()),
            },
            LayoutChoice::Auto if config.rest.is_some() => Ok(None),
            LayoutChoice::Auto if config.data.is_some() => named.ok_or_else(missing).map(Some),
            LayoutChoice::Auto => Ok(match others {
                [only]
                    if matches!(only.builtin.as_str(), "json" | "jsonb")
                        || (only.name == "data" && only.json_wire().is_some()) =>
                {
                    Some(only)
                }
                _ => None,
            }),
        }
    }

    fn fields(&self, config: &CollectionConfig, keys: &[&Attribute]) -> Result<Payload, Misfit> {
        let rest = match &config.rest {
            None => None,
            Some(name) => {
                let column = self.column(name)?;
                if keys.iter().any(|k| k.number == column.number) {
                    return Err("the rest column is part of the key".to_owned());
                }
                if !matches!(column.builtin.as_str(), "json" | "jsonb") {
                    return Err(format!(
                        "its rest column {name:?} is neither json nor jsonb"
                    ));
                }
                Some(column)
            }
        };
        let fields = self
            .columns
            .iter()
            // Generated columns follow from the others.
            .filter(|c| !c.generated && rest.is_none_or(|r| r.number != c.number))
            .map(|c| c.field(keys.iter().position(|k| k.number == c.number)))
            .collect();
        Ok(Payload::Columns {
            fields,
            rest: rest.map(|r| r.field(None)),
        })
    }
}
