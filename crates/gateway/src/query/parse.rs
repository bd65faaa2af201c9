//! From the protocol's `StructuredQuery` to a [`Query`]: checked, and completed by the orders that it implies.
//! Messages are Firestore's own where they are known.

use super::filter::{Field, Filter, Op, Test};
use super::nearest::Nearest;
use super::scope::{Parent, Scope};
use super::{Cursor, Order, Query};
use crate::names;
use crate::status::invalid;
use tonic::Status;
use whimbrel_firestore::core::field_path::FieldPath;
use whimbrel_firestore::core::normalize::normalize_value;
use whimbrel_firestore::core::order::is_vector;
use whimbrel_firestore::v1::structured_query::{
    self, Direction, FieldReference, composite_filter, field_filter, filter::FilterType,
    unary_filter,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{self, StructuredQuery, Value};
use whimbrel_firestore::value::each_reference;
use whimbrel_firestore::{DatabaseName, Place};

/// Filters, orders and ancestors of one query, counted over all its disjunctions.
const TERMS: usize = 100;

/// Bytes of a value that is compared with.
const VALUE_BYTES: usize = 1_500;

impl Query {
    /// Reads a request's query. `parent` is the request's full parent name
    /// (`projects/p/databases/d/documents`, or a document's name).
    ///
    /// # Errors
    /// INVALID_ARGUMENT, in Firestore's words where they are known.
    pub fn parse(
        database: &DatabaseName,
        parent: &str,
        query: &StructuredQuery,
    ) -> Result<Self, Status> {
        let (named, parent) = names::parent(parent)?;
        names::same_database(database, &named)?;
        check_operators(query)?;
        let scope = scope(database, parent, &query.from)?;
        let filter = match &query.r#where {
            Some(filter) => read_filter(database, filter, 0)?,
            None => None,
        };
        let projection = match &query.select {
            Some(select) => projection(&select.fields)?,
            None => None,
        };
        let named = query
            .order_by
            .iter()
            .map(|order| {
                Ok(Order {
                    field: field(order.field.as_ref())?,
                    descending: order.direction == Direction::Descending as i32,
                })
            })
            .collect::<Result<Vec<_>, Status>>()?;
        let cursor = |cursor: Option<&v1::Cursor>| {
            cursor
                .map(|cursor| read_cursor(database, cursor, &named))
                .transpose()
        };
        let (start, end) = (
            cursor(query.start_at.as_ref())?,
            cursor(query.end_at.as_ref())?,
        );
        let nearest = query
            .find_nearest
            .as_ref()
            .map(|find| Nearest::parse(find, query))
            .transpose()?;
        let orders = complete(&named, filter.as_ref())?;
        let count = |n: i32, what: &str| {
            u32::try_from(n).map_err(|_| invalid(format!("{what} is negative")))
        };
        let parsed = Self {
            database: database.clone(),
            offset: count(query.offset, "offset")?,
            limit: query.limit.map(|n| count(n, "limit")).transpose()?,
            named_orders: named.len(),
            scope,
            filter,
            orders,
            start,
            end,
            projection,
            required: Vec::new(),
            nearest,
        };
        parsed.check(!parent.is_empty())?;
        Ok(parsed)
    }

    /// What can only be judged of the query as a whole.
    fn check(&self, below_document: bool) -> Result<(), Status> {
        let orders = self.orders.len();
        let bounded = |filters: usize| {
            if filters + orders + usize::from(below_document) <= TERMS {
                return Ok(());
            }
            Err(invalid(format!(
                "The query may not have more than {TERMS} filters + sort orders + ancestor total. Currently there are \
                 {filters} filters, {orders} sort orders, and {} ancestor filter.",
                if below_document { "one" } else { "no" }
            )))
        };
        let mut filters = 0;
        if let Some(filter) = &self.filter {
            // Before they are multiplied out.
            filter.each(&mut |_| filters += 1);
            bounded(filters)?;
            if filter.memberships() > 1 {
                return Err(invalid(
                    "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.",
                ));
            }
            filters = filter.disjunctions()?.iter().map(Vec::len).sum();
        }
        bounded(filters)?;
        if !self.scope.is_kindless() {
            return Ok(());
        }
        if self.orders[..self.named_orders]
            .iter()
            .any(|order| order.field != Field::Name || order.descending)
        {
            return Err(invalid(
                "kind is required for all orders except __key__ ascending",
            ));
        }
        let mut foreign = None;
        if let Some(filter) = &self.filter {
            filter.each(&mut |test| {
                if let Field::Path(path) = &test.field {
                    foreign.get_or_insert(path);
                }
            });
        }
        foreign.map_or(Ok(()), |path| {
            Err(invalid(format!("kind is required for filter: {path}")))
        })
    }
}

fn scope(
    database: &DatabaseName,
    parent: &str,
    from: &[structured_query::CollectionSelector],
) -> Result<Scope, Status> {
    let below = || Parent::new(database, parent);
    match from {
        [] => Ok(Scope::Children { parent: below() }),
        [one] if one.collection_id.is_empty() && one.all_descendants => {
            Ok(Scope::Descendants { parent: below() })
        }
        [one] if one.collection_id.is_empty() => Ok(Scope::Children { parent: below() }),
        [one] => {
            names::collection_id(&one.collection_id)?;
            if one.all_descendants {
                return Ok(Scope::Group {
                    id: one.collection_id.clone(),
                    parent: below(),
                });
            }
            let collection = names::collection(database, parent, &one.collection_id);
            Ok(Scope::Collection {
                name: collection.name,
                keys: collection.keys,
            })
        }
        _ => Err(invalid(
            "StructuredQuery.from cannot have more than one collection selector.",
        )),
    }
}

/// At most one negation, and `not-in` never beside `in`, `array-contains-any` or an `or`.
fn check_operators(query: &StructuredQuery) -> Result<(), Status> {
    #[derive(Default)]
    struct Seen {
        negations: usize,
        not_in: bool,
        alternatives: bool,
    }
    fn visit(filter: &structured_query::Filter, depth: usize, seen: &mut Seen) {
        match &filter.filter_type {
            Some(FilterType::CompositeFilter(composite)) if depth < DEPTH => {
                seen.alternatives |= composite.op == composite_filter::Operator::Or as i32;
                for filter in &composite.filters {
                    visit(filter, depth + 1, seen);
                }
            }
            Some(FilterType::FieldFilter(filter)) => {
                use field_filter::Operator as F;
                match F::try_from(filter.op) {
                    Ok(F::NotEqual) => seen.negations += 1,
                    Ok(F::NotIn) => {
                        seen.negations += 1;
                        seen.not_in = true;
                    }
                    Ok(F::In | F::ArrayContainsAny) => seen.alternatives = true,
                    _ => {}
                }
            }
            Some(FilterType::UnaryFilter(filter)) => {
                use unary_filter::Operator as U;
                if matches!(U::try_from(filter.op), Ok(U::IsNotNan | U::IsNotNull)) {
                    seen.negations += 1;
                }
            }
            _ => {}
        }
    }
    let mut seen = Seen::default();
    if let Some(filter) = &query.r#where {
        visit(filter, 0, &mut seen);
    }
    if seen.negations > 1 {
        return Err(invalid(
            "Only a single 'NOT_EQUAL', 'NOT_IN', 'IS_NOT_NAN', or 'IS_NOT_NULL' filter allowed per query.",
        ));
    }
    if seen.not_in && seen.alternatives {
        return Err(invalid(
            "'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'.",
        ));
    }
    Ok(())
}

/// How deep filters may nest: prost gives up at about this depth, too.
const DEPTH: usize = 100;

/// `None` for a filter that demands nothing (an empty composite).
fn read_filter(
    database: &DatabaseName,
    filter: &structured_query::Filter,
    depth: usize,
) -> Result<Option<Filter>, Status> {
    match &filter.filter_type {
        None => Err(invalid("Unknown Filter type.")),
        Some(FilterType::CompositeFilter(composite)) => {
            use composite_filter::Operator as C;
            if depth >= DEPTH {
                return Err(invalid(format!("Filters nest deeper than {DEPTH} levels.")));
            }
            let mut filters = Vec::with_capacity(composite.filters.len());
            for filter in &composite.filters {
                filters.extend(read_filter(database, filter, depth + 1)?);
            }
            let combine: fn(Vec<Filter>) -> Filter = match C::try_from(composite.op) {
                Ok(C::And) => Filter::And,
                Ok(C::Or) => Filter::Or,
                _ => return Err(invalid("Unsupported CompositeFilter operator.")),
            };
            Ok(match filters.len() {
                0 => None,
                1 => filters.pop(),
                _ => Some(combine(filters)),
            })
        }
        Some(FilterType::FieldFilter(filter)) => {
            Ok(Some(Filter::Test(field_test(database, filter)?)))
        }
        Some(FilterType::UnaryFilter(filter)) => {
            use unary_filter::Operator as U;
            let Some(unary_filter::OperandType::Field(reference)) = &filter.operand_type else {
                return Err(invalid("Unsupported UnaryFilter operand type (non-FIELD)."));
            };
            let field = field(Some(reference))?;
            let op = match U::try_from(filter.op) {
                Ok(U::IsNan) => Op::IsNan,
                Ok(U::IsNull) => Op::IsNull,
                Ok(U::IsNotNan) => Op::IsNotNan,
                Ok(U::IsNotNull) => Op::IsNotNull,
                Ok(U::Unspecified) | Err(_) => {
                    return Err(invalid("Unknown UnaryFilter operator."));
                }
            };
            if field == Field::Name {
                return Err(key_expected());
            }
            Ok(Some(Filter::Test(Test {
                field,
                op,
                values: Vec::new(),
            })))
        }
    }
}

fn field_test(
    database: &DatabaseName,
    filter: &structured_query::FieldFilter,
) -> Result<Test, Status> {
    use field_filter::Operator as F;
    let field = field(filter.field.as_ref())?;
    let value = filter.value.clone().unwrap_or_default();
    check_value(&value)?;
    let list = |name: &str, most: usize| -> Result<Vec<Value>, Status> {
        let Some(ValueType::ArrayValue(array)) = &value.value_type else {
            return Err(invalid(format!("'{name}' requires an ArrayValue.")));
        };
        if array.values.is_empty() {
            return Err(invalid(format!(
                "'{name}' requires an non-empty ArrayValue."
            )));
        }
        if array.values.len() > most {
            return Err(invalid(format!(
                "'{name}' supports up to {most} comparison values."
            )));
        }
        Ok(array.values.clone())
    };
    let one = || vec![value.clone()];
    let (op, values) = match F::try_from(filter.op) {
        Ok(F::LessThan) => (Op::Less, one()),
        Ok(F::LessThanOrEqual) => (Op::LessOrEqual, one()),
        Ok(F::GreaterThan) => (Op::Greater, one()),
        Ok(F::GreaterThanOrEqual) => (Op::GreaterOrEqual, one()),
        Ok(F::Equal) => (Op::Equal, one()),
        Ok(F::NotEqual) => (Op::NotEqual, one()),
        Ok(F::ArrayContains) => (Op::Contains, one()),
        Ok(F::In) => (Op::In, list("IN", 30)?),
        Ok(F::ArrayContainsAny) => (Op::ContainsAny, list("ARRAY_CONTAINS_ANY", 30)?),
        Ok(F::NotIn) => (Op::NotIn, list("NOT_IN", 10)?),
        Ok(F::Unspecified) | Err(_) => return Err(invalid("Unknown FieldFilter operator.")),
    };
    let membership = matches!(op, Op::Contains | Op::ContainsAny);
    let values = match &field {
        Field::Name if membership => return Err(invalid("the name __key__ is reserved")),
        Field::Name => values
            .iter()
            .map(|value| name_operand(database, value, key_expected))
            .collect::<Result<_, _>>()?,
        Field::Path(path) => {
            if values.iter().any(|value| size(value) > VALUE_BYTES) {
                return Err(invalid(format!(
                    "value for {path}{} is too large to be used in a query",
                    if membership { "[*]" } else { "" }
                )));
            }
            values
                .into_iter()
                .map(|value| operand(database, value))
                .collect()
        }
    };
    Ok(Test { field, op, values })
}

/// What stands there is a value, and not said.
fn no_name() -> Status {
    invalid("A value in the query is a reference that is not the name of a document.")
}

fn key_expected() -> Status {
    invalid("__key__ filter value must be a Key")
}

/// A reference to compare names with, as a path in the store.
fn name_operand(
    database: &DatabaseName,
    value: &Value,
    otherwise: fn() -> Status,
) -> Result<Value, Status> {
    let Some(ValueType::ReferenceValue(name)) = &value.value_type else {
        return Err(otherwise());
    };
    let (found, place): (_, Place) = names::document(name).map_err(|_| no_name())?;
    names::same_database(database, &found)?;
    Ok(Value {
        value_type: Some(ValueType::ReferenceValue(place.path())),
    })
}

/// A value to compare with, as documents would hold it.
fn operand(database: &DatabaseName, mut value: Value) -> Value {
    normalize_value(&mut value);
    each_reference(std::iter::once(&mut value), &mut |name| {
        if let Some(path) = database.relative(name) {
            *name = path.to_owned();
        }
    });
    value
}

/// Values have types, references are names, places on Earth are on Earth.
fn check_value(value: &Value) -> Result<(), Status> {
    match &value.value_type {
        None => Err(invalid(
            "Cannot convert firestore.v1.Value with type unset.",
        )),
        Some(ValueType::ReferenceValue(name)) => {
            names::document(name).map(|_| ()).map_err(|_| no_name())
        }
        Some(ValueType::GeoPointValue(point)) => {
            let inside = |degrees: f64, limit: f64| degrees.abs() <= limit;
            if inside(point.latitude, 90.0) && inside(point.longitude, 180.0) {
                Ok(())
            } else {
                Err(invalid("Geo point outside permitted range."))
            }
        }
        Some(ValueType::ArrayValue(array)) => array.values.iter().try_for_each(check_value),
        Some(ValueType::MapValue(map)) => map.fields.values().try_for_each(check_value),
        Some(_) => Ok(()),
    }
}

/// What a value counts for against the bound of values in queries.
fn size(value: &Value) -> usize {
    match &value.value_type {
        Some(ValueType::StringValue(text)) => text.len() + 1,
        Some(ValueType::BytesValue(bytes)) => bytes.len(),
        Some(ValueType::ReferenceValue(name)) => {
            let path = name.split_once("/documents/").map_or("", |(_, path)| path);
            path.len() + 17
        }
        Some(ValueType::GeoPointValue(_)) => 16,
        Some(ValueType::ArrayValue(array)) => array.values.iter().map(size).sum(),
        Some(ValueType::MapValue(map)) if is_vector(map) => {
            map.fields
                .get("value")
                .map_or(0, |value| match &value.value_type {
                    Some(ValueType::ArrayValue(array)) => array.values.len() * 8,
                    _ => 0,
                })
        }
        Some(ValueType::MapValue(map)) => map
            .fields
            .iter()
            .map(|(name, value)| name.len() + 1 + size(value))
            .sum(),
        Some(ValueType::NullValue(_) | ValueType::BooleanValue(_)) | None => 1,
        Some(_) => 8,
    }
}

/// A field's path as filters, orders and aggregations name it.
pub(super) fn field(reference: Option<&FieldReference>) -> Result<Field, Status> {
    let text = reference.map_or("", |reference| reference.field_path.as_str());
    let path = path(text)?;
    let ids = path.segments();
    if ids == ["__name__"] {
        return Ok(Field::Name);
    }
    if ids.iter().any(|id| id == "__name__") {
        return Err(invalid("the name __key__ is reserved"));
    }
    // The type of a special value, inside of it, can be asked for.
    let inner = ids.len() > 1;
    if ids
        .iter()
        .enumerate()
        .any(|(i, id)| id == "__type__" && !(inner && i + 1 == ids.len()))
    {
        return Err(invalid("the name __type__ is reserved"));
    }
    Ok(Field::Path(path))
}

pub(super) fn path(text: &str) -> Result<FieldPath, Status> {
    if text.is_empty() {
        return Err(invalid("Invalid empty property path string."));
    }
    let path = FieldPath::parse(text).map_err(invalid)?;
    let reserved = |id: &String| {
        id.len() > 4
            && id.starts_with("__")
            && id.ends_with("__")
            && !matches!(id.as_str(), "__name__" | "__type__")
    };
    if path.segments().iter().any(reserved) {
        return Err(invalid(format!(
            "Invalid reserved name in field path {path}"
        )));
    }
    Ok(path)
}

/// The fields to return; none but the name where the list names it alone.
fn projection(fields: &[FieldReference]) -> Result<Option<Vec<FieldPath>>, Status> {
    // The protocol: an empty list returns all fields.
    if fields.is_empty() {
        return Ok(None);
    }
    let mut paths = Vec::with_capacity(fields.len());
    for reference in fields {
        if let Field::Path(path) = field(Some(reference))? {
            paths.push(path);
        }
    }
    Ok(Some(paths))
}

fn read_cursor(
    database: &DatabaseName,
    cursor: &v1::Cursor,
    orders: &[Order],
) -> Result<Cursor, Status> {
    if cursor.values.len() > orders.len() {
        return Err(invalid("Cursor has too many values."));
    }
    let values = cursor
        .values
        .iter()
        .zip(orders)
        .map(|(value, order)| match order.field {
            Field::Name => name_operand(database, value, || {
                invalid("Cursor __key__ value is not a document reference.")
            }),
            Field::Path(_) => {
                check_value(value)?;
                Ok(operand(database, value.clone()))
            }
        })
        .collect::<Result<_, Status>>()?;
    Ok(Cursor {
        values,
        before: cursor.before,
    })
}

/// The orders named, then those of inequalities in the order of their paths, then `__name__`; what is added has the
/// direction of the last one named.
fn complete(named: &[Order], filter: Option<&Filter>) -> Result<Vec<Order>, Status> {
    let behind_name = || invalid("order by clause cannot contain more fields after the key");
    let name_at = named.iter().position(|order| order.field == Field::Name);
    if name_at.is_some_and(|at| at + 1 < named.len()) {
        return Err(behind_name());
    }
    for (i, order) in named.iter().enumerate() {
        if named[..i].iter().any(|other| other.field == order.field) {
            let name = match &order.field {
                Field::Path(path) => path.to_string(),
                Field::Name => "__key__".to_owned(),
            };
            return Err(invalid(format!(
                "order by clause cannot contain duplicate fields {name}"
            )));
        }
    }
    let descending = named.last().is_some_and(|order| order.descending);
    let mut orders = named.to_vec();
    let mut implied: Vec<Field> = Vec::new();
    let (mut name_equal, mut name_range) = (false, false);
    if let Some(filter) = filter {
        filter.each(&mut |test| match (&test.field, test.is_inequality()) {
            (Field::Path(_), true) => implied.push(test.field.clone()),
            (Field::Name, true) => name_range = true,
            (Field::Name, false) => name_equal = true,
            (Field::Path(_), false) => {}
        });
    }
    if name_equal && !name_range && !implied.is_empty() {
        return Err(invalid(
            "Equality on key is not allowed if there are other inequality fields and key does not appear in \
             inequalities.",
        ));
    }
    implied.sort();
    implied.dedup();
    for field in implied {
        if orders.iter().all(|order| order.field != field) {
            if name_at.is_some() {
                return Err(behind_name());
            }
            orders.push(Order { field, descending });
        }
    }
    if name_at.is_none() {
        orders.push(Order {
            field: Field::Name,
            descending,
        });
    }
    Ok(orders)
}
