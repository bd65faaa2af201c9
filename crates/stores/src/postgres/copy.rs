//! Fresh rows by COPY, the fastest way into a table.

use super::document::{Cell, JSONB_VERSION};
use super::keys;
use super::table::Table;
use super::wire::{BinaryCopy, TextCopy};
use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures::SinkExt;
use std::pin::pin;
use tokio_postgres::{CopyInSink, Error};
use whimbrel_model::Key;

/// COPY in the binary format where the table's types have one that is known here, else as text.
pub(super) async fn copy(
    transaction: &Transaction<'_>,
    table: &Table,
    rows: &[(&Key, &[Cell])],
) -> Result<u64, Error> {
    if table.copies_binary() {
        copy_binary(transaction, table, rows).await
    } else {
        copy_text(transaction, table, rows).await
    }
}

async fn copy_binary(
    transaction: &Transaction<'_>,
    table: &Table,
    rows: &[(&Key, &[Cell])],
) -> Result<u64, Error> {
    let statement = transaction.prepare_cached(&table.sql.copy_binary).await?;
    let sink: CopyInSink<Bytes> = transaction.copy_in(&statement).await?;
    let mut sink = pin!(sink);
    let mut copy = BinaryCopy::begin();
    let fields =
        i16::try_from(table.keys.len() + table.sql.payload_wires.len()).unwrap_or(i16::MAX);
    let mut key_bytes = Vec::new();
    for (key, cells) in rows {
        copy.row(fields);
        for (at, column) in table.keys.iter().enumerate() {
            // The key fits its columns, so it has bytes.
            let _ = keys::copy_bytes(&column.part, keys::part(key, at), &mut key_bytes);
            copy.field(&[], Some(&key_bytes));
        }
        for cell in *cells {
            let prefix: &[u8] = if cell.jsonb { &[JSONB_VERSION] } else { &[] };
            copy.field(prefix, cell.content.as_deref());
        }
        if let Some(piece) = copy.piece() {
            sink.feed(piece).await?;
        }
    }
    sink.feed(copy.end()).await?;
    sink.finish().await
}

async fn copy_text(
    transaction: &Transaction<'_>,
    table: &Table,
    rows: &[(&Key, &[Cell])],
) -> Result<u64, Error> {
    let statement = transaction.prepare_cached(&table.sql.copy_text).await?;
    let sink: CopyInSink<Bytes> = transaction.copy_in(&statement).await?;
    let mut sink = pin!(sink);
    let mut copy = TextCopy::begin();
    for (key, cells) in rows {
        for at in 0..table.keys.len() {
            let text = keys::part(key, at).to_string();
            copy.field(Some(text.as_bytes()));
        }
        for cell in *cells {
            copy.field(cell.content.as_deref());
        }
        copy.end_row();
        if let Some(piece) = copy.piece() {
            sink.feed(piece).await?;
        }
    }
    sink.feed(copy.end()).await?;
    sink.finish().await
}
