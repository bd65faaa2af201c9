//! Which indexes answer a query, and which parts of them are walked.
//!
//! Each conjunction of the filter's disjunctive normal form becomes one branch. Its index has the fields of equalities
//! first, then those of the orders: so its lines are in the result's order, and those between the bounds
//! that equalities, the first order's inequalities, cursors and names give are the conjunction's documents.
//! What no bound can say (an inequality on a second field) is judged on the documents.

use super::filter::{Conjunction, Field, Op, Test, path_of};
use super::index::{Definition, How, Index, Known, Over, database_of};
use super::key::{Interval, Intervals, push_value};
use super::position::{Element, Position, Space, narrow};
use super::scope::Scope;
use super::{Cursor, Order, Query};
use std::cmp::Ordering;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::core::field_path::FieldPath;
use whimbrel_firestore::core::key::{encode_path_prefix, path_subtree_end};
use whimbrel_firestore::core::order::compare;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::value::ValueType;

/// One source of the result, in the result's order.
#[derive(Clone, Debug)]
pub struct Branch {
    pub source: Source,
    /// In ascending order, whatever way they are walked.
    pub intervals: Intervals,
    pub descending: bool,
    /// Whether each line between the bounds is a document of the conjunction, and no other is.
    pub exact: bool,
    /// How many of the index's fields have one value in the whole branch.
    pub fixed: usize,
    pub conjunction: Conjunction,
}

impl Branch {
    /// Documents with these paths in the store, in the order of names.
    #[must_use]
    pub fn named(paths: Vec<String>, conjunction: &Conjunction) -> Self {
        Self {
            source: Source::Named(paths),
            intervals: Intervals(Vec::new()),
            descending: false,
            exact: false,
            fixed: 0,
            conjunction: conjunction.clone(),
        }
    }

    /// Whether the bounds leave nothing to walk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !matches!(self.source, Source::Named(_)) && self.intervals.0.is_empty()
    }
}

#[derive(Clone, Debug)]
pub enum Source {
    Index(Arc<Definition>),
    /// A collection's own keys, which are in the order of names below one parent without numeric ids.
    Keys(Arc<str>),
    /// The documents with these paths in the store, in the order of names.
    Named(Vec<String>),
}

impl Query {
    /// The branches of a query over a collection or a collection group.
    ///
    /// # Errors
    /// The filter has too many disjunctions.
    pub(super) fn branches(&self, known: &Known) -> Result<Vec<Branch>, Status> {
        Ok(self
            .conjunctions()?
            .iter()
            .filter_map(|conjunction| self.branch(conjunction, known))
            .collect())
    }

    /// The filter as alternatives; one that demands nothing where there is no filter.
    pub(super) fn conjunctions(&self) -> Result<Vec<Conjunction>, Status> {
        match &self.filter {
            Some(filter) => filter.disjunctions(),
            None => Ok(vec![Conjunction::new()]),
        }
    }

    /// `None` where no document can pass.
    fn branch(&self, conjunction: &Conjunction, known: &Known) -> Option<Branch> {
        if conjunction.iter().any(Test::is_never) {
            return None;
        }
        let name = conjunction
            .iter()
            .find(|test| test.field == Field::Name && test.op == Op::Equal);
        if let Some(test) = name {
            let path = path_of(test.values.first()?).to_owned();
            return Some(Branch::named(vec![path], conjunction));
        }
        let fixed = Fixed::of(conjunction)?;
        let suffix: Vec<&Order> = self
            .orders
            .iter()
            .filter(|order| fixed.value_of(&order.field).is_none())
            .collect();
        let first = *suffix.first()?;
        if let (Field::Name, true, Scope::Collection { name, keys }) =
            (&first.field, fixed.is_empty(), &self.scope)
        {
            let space = Space::Keys {
                collection: name.clone(),
                keys: keys.clone(),
            };
            let (intervals, exact) =
                self.intervals(conjunction, &fixed, &suffix, &space, keys.as_bytes());
            return Some(Branch {
                source: Source::Keys(name.clone()),
                intervals,
                descending: first.descending,
                exact,
                fixed: 0,
                conjunction: conjunction.clone(),
            });
        }
        let wanted = self.definition(&fixed, &suffix);
        let definition = serving(known, &wanted, fixed.fields.len()).unwrap_or(wanted);
        let (space, prefix) = self.line_space(&definition, &fixed);
        let (intervals, exact) = self.intervals(conjunction, &fixed, &suffix, &space, &prefix);
        Some(Branch {
            source: Source::Index(Arc::new(definition)),
            intervals,
            descending: first.descending,
            exact,
            fixed: fixed.fields.len(),
            conjunction: conjunction.clone(),
        })
    }

    /// The branch for documents that are ordered by name, through an index: for collections whose own keys are not in
    /// that order.
    pub(super) fn branch_by_name(&self, conjunction: &Conjunction) -> Option<Branch> {
        let fixed = Fixed::default();
        let suffix: Vec<&Order> = self.orders.iter().collect();
        let first = *suffix.first()?;
        let definition = Definition {
            over: self.over()?,
            fields: Vec::new(),
            name_descending: false,
        };
        let (space, prefix) = self.line_space(&definition, &fixed);
        let (intervals, exact) = self.intervals(conjunction, &fixed, &suffix, &space, &prefix);
        Some(Branch {
            source: Source::Index(Arc::new(definition)),
            intervals,
            descending: first.descending,
            exact,
            fixed: 0,
            conjunction: conjunction.clone(),
        })
    }

    /// What an index for the query is over.
    fn over(&self) -> Option<Over> {
        match &self.scope {
            Scope::Collection { name, .. } => Some(Over::Collection(name.clone())),
            Scope::Group { id, .. } => Some(Over::Group {
                database: database_of(&self.database),
                id: id.clone(),
            }),
            Scope::Children { .. } | Scope::Descendants { .. } => None,
        }
    }

    /// The index that a conjunction needs. Directions are such that the first order ascends: the opposite is the same
    /// index, walked backwards.
    fn definition(&self, fixed: &Fixed, suffix: &[&Order]) -> Definition {
        let flip = suffix.first().is_some_and(|order| order.descending);
        let mut fields: Vec<(FieldPath, How)> = fixed
            .fields
            .iter()
            .map(|(path, _, how)| (path.clone(), *how))
            .collect();
        let mut name_descending = false;
        for order in suffix {
            let descending = order.descending != flip;
            match &order.field {
                Field::Path(path) if descending => fields.push((path.clone(), How::Descending)),
                Field::Path(path) => fields.push((path.clone(), How::Ascending)),
                Field::Name => name_descending = descending,
            }
        }
        Definition {
            over: self.over().unwrap_or(Over::Collection("".into())),
            fields,
            name_descending,
        }
    }

    /// How positions lie in an index, and what all lines of the conjunction begin with.
    fn line_space(&self, definition: &Definition, fixed: &Fixed) -> (Space, Vec<u8>) {
        let mut prefix = Vec::new();
        let mut skip = Vec::new();
        if let Scope::Collection { name, keys } = &self.scope
            && matches!(definition.over, Over::Collection(_))
        {
            prefix = encode_path_prefix(keys.split_terminator('/'));
            let ids = name.split('/').zip(keys.split_terminator('/'));
            for (id, document) in ids {
                skip.extend([id.to_owned(), document.to_owned()]);
            }
            skip.extend(name.rsplit('/').next().map(str::to_owned));
        }
        for (path, how) in definition.fields.iter().take(fixed.fields.len()) {
            if let Some((_, value, _)) = fixed
                .fields
                .iter()
                .find(|(fixed, _, kind)| fixed == path && kind == how)
            {
                push_value(&mut prefix, value, false);
            }
        }
        let directions = definition.fields[fixed.fields.len()..]
            .iter()
            .map(|(_, how)| *how == How::Descending)
            .chain([definition.name_descending])
            .collect();
        (Space::Lines { skip, directions }, prefix)
    }

    /// The parts of the space that a conjunction's documents lie in, and whether nothing else does.
    fn intervals(
        &self,
        conjunction: &Conjunction,
        fixed: &Fixed,
        suffix: &[&Order],
        space: &Space,
        prefix: &[u8],
    ) -> (Intervals, bool) {
        let mut intervals = Intervals(vec![Interval::below(prefix)]);
        let mut exact = self.required.is_empty() || self.all_ordered();
        let Some(first) = suffix.first() else {
            return (intervals, false);
        };
        for test in conjunction {
            if test.field == first.field && test.is_inequality() {
                narrow(&mut intervals, test, space, prefix);
            } else if test.is_inequality() {
                exact = false;
            }
        }
        match &self.scope {
            Scope::Collection { .. } => {}
            Scope::Group { parent, .. }
            | Scope::Children { parent }
            | Scope::Descendants { parent } => {
                if !parent.is_root && first.field == Field::Name {
                    let below = encode_path_prefix(parent.segments());
                    let end = [prefix, &path_subtree_end(&below)].concat();
                    intervals.start_at(&Some([prefix, &below].concat()));
                    intervals.end_at(&Some(end));
                } else if !parent.is_root {
                    exact = false;
                }
            }
        }
        let backwards = first.descending;
        if let Some(start) = &self.start {
            let position = self.position(start, fixed, suffix, space, prefix);
            match (backwards, start.before) {
                (false, true) => intervals.start_at(&position.before),
                (false, false) => intervals.start_at(&position.after),
                (true, true) => intervals.end_at(&position.after),
                (true, false) => intervals.end_at(&position.before),
            }
        }
        if let Some(end) = &self.end {
            let position = self.position(end, fixed, suffix, space, prefix);
            match (backwards, end.before) {
                (false, true) => intervals.end_at(&position.before),
                (false, false) => intervals.end_at(&position.after),
                (true, true) => intervals.start_at(&position.after),
                (true, false) => intervals.start_at(&position.before),
            }
        }
        if matches!(space, Space::Lines { .. }) && intervals.shorten() {
            exact = false;
        }
        (intervals, exact)
    }

    /// Whether the orders hold every required field, so that an index does.
    fn all_ordered(&self) -> bool {
        self.required.iter().all(|path| {
            self.orders
                .iter()
                .any(|order| order.field == Field::Path(path.clone()))
        })
    }

    /// Where a cursor lies among the lines that begin with `prefix`.
    fn position(
        &self,
        cursor: &Cursor,
        fixed: &Fixed,
        suffix: &[&Order],
        space: &Space,
        prefix: &[u8],
    ) -> Position {
        let backwards = suffix.first().is_some_and(|order| order.descending);
        let mut bytes = prefix.to_vec();
        let mut at = 0;
        for (order, value) in self.orders.iter().zip(&cursor.values) {
            if let Some(fixed) = fixed.value_of(&order.field) {
                // All lines have the same value here: they may lie before the cursor or behind it as a whole.
                let lines = order.turn(compare(fixed, value));
                match if backwards { lines.reverse() } else { lines } {
                    Ordering::Equal => continue,
                    Ordering::Greater => return Position::before_all(&bytes),
                    Ordering::Less => return Position::behind_all(&bytes),
                }
            }
            match space.element(&order.field, value, at) {
                Element::At(element) => bytes.extend(element),
                // A name is the last there is.
                element => return Position::new(&bytes, &element),
            }
            at += 1;
        }
        Position::at(&bytes)
    }
}

/// The fields whose values a conjunction fixes: equalities by path, then array membership.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    pub fields: Vec<(FieldPath, Value, How)>,
}

impl Fixed {
    /// `None` where two equalities contradict each other.
    fn of(conjunction: &Conjunction) -> Option<Self> {
        let mut fixed: Vec<(FieldPath, Value, How)> = Vec::new();
        for test in conjunction {
            let Field::Path(path) = &test.field else {
                continue;
            };
            let (value, how) = match test.op {
                Op::Equal => (test.values.first()?.clone(), How::Ascending),
                Op::IsNull => (
                    Value {
                        value_type: Some(ValueType::NullValue(0)),
                    },
                    How::Ascending,
                ),
                Op::IsNan => (
                    Value {
                        value_type: Some(ValueType::DoubleValue(f64::NAN)),
                    },
                    How::Ascending,
                ),
                Op::Contains => (test.values.first()?.clone(), How::Contains),
                _ => continue,
            };
            let there = fixed
                .iter()
                .find(|(other, _, kind)| other == path && *kind == how);
            match there {
                Some((_, other, How::Ascending)) if compare(other, &value).is_ne() => return None,
                Some(_) => {}
                None => fixed.push((path.clone(), value, how)),
            }
        }
        fixed.sort_by(|a, b| {
            let late = |how: How| how == How::Contains;
            (late(a.2), &a.0).cmp(&(late(b.2), &b.0))
        });
        Some(Self { fields: fixed })
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn value_of(&self, field: &Field) -> Option<&Value> {
        let Field::Path(path) = field else {
            return None;
        };
        self.fields
            .iter()
            .find(|(fixed, _, how)| fixed == path && *how == How::Ascending)
            .map(|(_, value, _)| value)
    }
}

/// An index that is ready and serves as well as the wanted one: the fixed fields may come in any order.
fn serving(known: &Known, wanted: &Definition, fixed: usize) -> Option<Definition> {
    let serves = |index: &&Index| {
        let there = &index.definition;
        index.ready
            && there.name_descending == wanted.name_descending
            && there.fields.len() == wanted.fields.len()
            && there.fields[fixed..] == wanted.fields[fixed..]
            && there.fields[..fixed]
                .iter()
                .all(|field| wanted.fields[..fixed].contains(field))
            && wanted.fields[..fixed]
                .iter()
                .all(|field| there.fields[..fixed].contains(field))
    };
    known
        .over(&wanted.over)
        .find(serves)
        .map(|index| (*index.definition).clone())
}
