//! TypeScript or JavaScript to the JavaScript that runs, with the way back from its places to the file's.

use super::purity;
use crate::LoadError;
use oxc::allocator::Allocator;
use oxc::ast::ast::{Declaration, Program, Statement};
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::OxcDiagnostic;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::transformer::{TransformOptions, Transformer};
use std::path::Path;
use whimbrel_model::Code;

/// Under this prefix a module also exports what it does not export, so that the sandbox can freeze it.
pub(super) const HIDDEN: &str = "$whimbrel$";

/// A script ready to be loaded into any number of sandboxes.
#[derive(Debug)]
pub(super) struct Compiled {
    /// As the user named the file.
    pub name: String,
    pub javascript: String,
    /// Of the meaning: types, comments, white space and the description do not count.
    pub checksum: String,
    /// Places in `javascript` and in the file, all from 0, in the order of `javascript`.
    places: Vec<(Place, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
}

impl Compiled {
    /// The file's line and column (from 1) of a line and column (from 1) of the JavaScript.
    pub fn place(&self, line: u32, column: u32) -> (u32, u32) {
        let wanted = Place {
            line: line.saturating_sub(1),
            column: column.saturating_sub(1),
        };
        let after = self.places.partition_point(|(at, _)| *at <= wanted);
        match after.checked_sub(1).map(|i| self.places[i]) {
            Some((at, from)) if at.line == wanted.line => (from.line + 1, from.column + 1),
            _ => match self.places.get(after) {
                Some((at, from)) if at.line == wanted.line => (from.line + 1, from.column + 1),
                _ => (line, column),
            },
        }
    }
}

/// # Errors
/// Every syntax error, import, dynamic import, top-level `await` and state kept between documents.
pub(super) fn compile(name: &str, text: &str) -> Result<Compiled, Vec<LoadError>> {
    let allocator = Allocator::default();
    let kind = source_type(name);
    let parsed = Parser::new(&allocator, text, kind).parse();
    let failure = |found: &[OxcDiagnostic]| -> Vec<LoadError> {
        found.iter().map(|d| syntax_error(name, text, d)).collect()
    };
    if parsed.panicked || parsed.diagnostics.has_errors() {
        return Err(failure(&parsed.diagnostics.into_vec()));
    }
    let mut program = parsed.program;
    let analysed = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_build_nodes(true)
        .with_enum_eval(true)
        .build(&program);
    if analysed.diagnostics.has_errors() {
        return Err(failure(&analysed.diagnostics.into_vec()));
    }
    let semantic = analysed.semantic;
    let impure = purity::findings(&semantic);
    let scoping = semantic.into_scoping();
    let transformed = Transformer::new(&allocator, Path::new(name), &TransformOptions::default())
        .build_with_scoping(scoping, &mut program);
    if transformed.diagnostics.has_errors() {
        return Err(failure(&transformed.diagnostics.into_vec()));
    }
    let errors: Vec<LoadError> = impure
        .into_iter()
        .chain(purity::imports(&program))
        .map(|finding| located(name, text, finding.at, &finding.message))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            comments: CommentOptions::disabled(),
            source_map_path: Some(name.into()),
            ..CodegenOptions::default()
        })
        .build(&program);
    let places = printed.map.as_ref().map_or_else(Vec::new, |map| {
        map.get_tokens()
            .map(|t| {
                (
                    Place {
                        line: t.get_dst_line(),
                        column: t.get_dst_col(),
                    },
                    Place {
                        line: t.get_src_line(),
                        column: t.get_src_col(),
                    },
                )
            })
            .collect()
    });
    program.body.retain(|statement| !is_description(statement));
    Ok(Compiled {
        name: name.to_owned(),
        javascript: with_hidden_exports(printed.code),
        checksum: meaning(&program),
        places,
    })
}

/// Modules always; the ending says whether types may stand in it.
fn source_type(name: &str) -> SourceType {
    match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("js" | "mjs" | "cjs") => SourceType::mjs(),
        _ => SourceType::ts().with_module(true),
    }
}

/// The hash of the program as it prints without white space and comments.
fn meaning(program: &Program<'_>) -> String {
    let printed = Codegen::new()
        .with_options(CodegenOptions::minify())
        .build(program);
    blake3::hash(printed.code.as_bytes()).to_hex().to_string()
}

fn is_description(statement: &Statement<'_>) -> bool {
    let Statement::ExportDeclaration(export) = statement else {
        return false;
    };
    let Declaration::VariableDeclaration(declared) = &export.declaration else {
        return false;
    };
    declared.declarations.len() == 1
        && declared.declarations[0].id.get_identifier_name().as_deref() == Some("description")
}

/// Exports every top-level binding once more, under a hidden name.
fn with_hidden_exports(mut javascript: String) -> String {
    let names: Vec<String> = {
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, &javascript, SourceType::mjs()).parse();
        let semantic = SemanticBuilder::new().build(&parsed.program).semantic;
        let scoping = semantic.scoping();
        let root = scoping.root_scope_id();
        scoping
            .get_bindings(root)
            .keys()
            .map(std::string::ToString::to_string)
            .collect()
    };
    if !names.is_empty() {
        let list: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(i, name)| format!("{name} as {HIDDEN}{i}"))
            .collect();
        javascript.push_str("\nexport { ");
        javascript.push_str(&list.join(", "));
        javascript.push_str(" };\n");
    }
    javascript
}

fn syntax_error(name: &str, text: &str, found: &OxcDiagnostic) -> LoadError {
    let at = found
        .labels
        .first()
        .map_or(0, |label| label.offset() as usize);
    let mut message = found.message.to_string();
    if let Some(help) = &found.help {
        message.push_str(" (");
        message.push_str(help);
        message.push(')');
    }
    located(name, text, at, &message)
}

/// An error at a byte of the file, with the line it stands on.
pub(super) fn located(name: &str, text: &str, at: usize, message: &str) -> LoadError {
    let error = LoadError::new(Code::ScriptInvalid, name, message).at_byte(text, at);
    match error.place {
        Some((line, column)) => with_snippet(error, text, line, column),
        None => error,
    }
}

pub(super) fn with_snippet(mut error: LoadError, text: &str, line: u32, column: u32) -> LoadError {
    if let Some(source) = text.lines().nth(line.saturating_sub(1) as usize) {
        let number = line.to_string();
        let indent = " ".repeat(column.saturating_sub(1) as usize);
        let margin = " ".repeat(number.len());
        error.message.push_str(&format!(
            "\n  {number} | {}\n  {margin} | {indent}^",
            source.replace('\t', " ")
        ));
    }
    error
}
