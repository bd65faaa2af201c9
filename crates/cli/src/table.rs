//! Lists in columns.

use crate::screen::Screen;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};

/// A table that fits the screen's width; nothing but columns, so that it can be cut and searched.
pub struct Table {
    inner: comfy_table::Table,
    heads: Vec<String>,
}

impl Table {
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        inner.set_content_arrangement(ContentArrangement::Dynamic);
        Self {
            inner,
            heads: heads.iter().map(|h| (*h).to_owned()).collect(),
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.inner.add_row(cells);
    }

    /// Right-aligns columns that hold numbers.
    pub fn numbers(&mut self, columns: &[usize]) {
        // Columns exist once a row was added; an empty table has none to align.
        for index in columns {
            if let Some(column) = self.inner.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    pub fn print(mut self, screen: &Screen) {
        if self.inner.is_empty() {
            return;
        }
        let heads = self.heads.iter().map(|h| {
            let cell = Cell::new(h);
            if screen.out.0 {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        });
        self.inner.set_header(heads.collect::<Vec<_>>());
        for column in self.inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.inner
            .set_width(u16::try_from(screen.width).unwrap_or(100));
        if screen.out.0 {
            self.inner.enforce_styling();
        } else {
            self.inner.force_no_tty();
        }
        for line in self.inner.lines() {
            screen.line(line.trim_end());
        }
    }
}
