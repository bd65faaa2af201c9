//! How collections lie in a database, as a user says it.

use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// By the collection's name. A collection that is not listed is looked for under its own name.
    pub collections: BTreeMap<String, CollectionConfig>,
    /// Refuse every write, and open the database so that it could not be written.
    pub read_only: bool,
}

/// One collection's place. What is not given is found out from the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionConfig {
    /// The table's name (`schema.table` in PostgreSQL), where it is not the collection's.
    pub table: Option<String>,
    /// The key columns, where they are not the primary key.
    pub key: Vec<String>,
    pub layout: LayoutChoice,
    /// The JSON column (layout `json`); default `data`.
    pub data: Option<String>,
    /// A JSON column for the fields that have no column of their own (layout `columns`).
    pub rest: Option<String>,
    /// Write plain JSON instead of tagged JSON: timestamps become texts.
    pub plain: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutChoice {
    /// `json` where the table has, besides its key, only one column and that holds JSON or is named
    /// `data`; else `columns`. A table that does not exist is made as `json`.
    #[default]
    Auto,
    Json,
    Columns,
}
