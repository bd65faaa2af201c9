//! What a script may not do because the same document must always give the same result: read other
//! modules, wait, or remember anything from one document to the next.
//!
//! Only rebinding is judged here (`let count = 0; export const up = (doc) => { count++; … }`). What a
//! module's values hold is frozen when the module has been loaded, so that changing it throws.

use oxc::ast::AstKind;
use oxc::ast::ast::{ImportOrExportKind, Program, Statement};
use oxc::semantic::{Semantic, SymbolId};
use oxc::span::GetSpan;

pub(super) struct Finding {
    /// A byte of the file.
    pub at: usize,
    pub message: String,
}

fn finding(at: u32, message: impl Into<String>) -> Finding {
    Finding {
        at: at as usize,
        message: message.into(),
    }
}

/// All that is wrong with the program as it was written.
pub(super) fn findings(semantic: &Semantic<'_>) -> Vec<Finding> {
    let scoping = semantic.scoping();
    let root = scoping.root_scope_id();
    let mut found: Vec<Finding> = scoping
        .symbol_ids()
        .filter(|symbol| scoping.symbol_scope_id(*symbol) == root)
        .filter_map(|symbol| remembered(semantic, symbol))
        .collect();
    for node in semantic.nodes().iter() {
        let at = node.kind().span().start;
        match node.kind() {
            AstKind::ImportExpression(_) => found.push(finding(at, IMPORTS)),
            AstKind::ImportMeta(_) => {
                found.push(finding(at, "import.meta does not exist in a transform"));
            }
            AstKind::AwaitExpression(_) => found.push(finding(at, WAITS)),
            AstKind::ForOfStatement(each) if each.r#await => found.push(finding(at, WAITS)),
            _ => {}
        }
    }
    found.sort_by_key(|f| f.at);
    found
}

const IMPORTS: &str = "a transform can import nothing but types: put what it needs into this file";
const WAITS: &str = "a transform cannot wait: there is nothing to wait for without I/O";

/// A top-level binding that a function assigns: it would carry over to the next document.
fn remembered(semantic: &Semantic<'_>, symbol: SymbolId) -> Option<Finding> {
    let scoping = semantic.scoping();
    let write = scoping.get_resolved_references(symbol).find(|reference| {
        reference.is_write()
            && scoping
                .scope_ancestors(reference.scope_id())
                .any(|scope| scoping.scope_flags(scope).is_function())
    })?;
    let at = semantic
        .nodes()
        .get_node(write.node_id())
        .kind()
        .span()
        .start;
    Some(finding(
        at,
        format!(
            "\"{}\" would carry over from one document to the next: keep state inside the function",
            scoping.symbol_name(symbol)
        ),
    ))
}

/// The imports that are left when the types are gone.
pub(super) fn imports(program: &Program<'_>) -> Vec<Finding> {
    program
        .body
        .iter()
        .filter(|statement| match statement {
            Statement::ImportDeclaration(import) => import.import_kind != ImportOrExportKind::Type,
            Statement::ExportAllDeclaration(export) => {
                export.export_kind != ImportOrExportKind::Type
            }
            Statement::ExportFromDeclaration(export) => {
                export.export_kind != ImportOrExportKind::Type
            }
            _ => false,
        })
        .map(|statement| finding(statement.span().start, IMPORTS))
        .collect()
}
