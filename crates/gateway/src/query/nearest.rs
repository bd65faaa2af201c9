//! The documents whose vectors are nearest to a given one: all candidates are looked at, the best are kept.

use super::filter::Field;
use super::parse;
use crate::status::invalid;
use std::cmp::Ordering;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::core::field_path::{self, FieldPath};
use whimbrel_firestore::core::order::{is_vector, vector_elements};
use whimbrel_firestore::v1::structured_query::FindNearest;
use whimbrel_firestore::v1::structured_query::find_nearest::DistanceMeasure;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{StructuredQuery, Value};
use whimbrel_firestore::{Fields, Place};

const DIMENSIONS: usize = 2_048;

/// What `find_nearest` asks for.
#[derive(Clone, Debug)]
pub struct Nearest {
    field: FieldPath,
    target: Vec<f64>,
    measure: Measure,
    limit: usize,
    threshold: Option<f64>,
    /// The field that the distance is put into: a name, not a path.
    distance_field: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Measure {
    Euclidean,
    Cosine,
    DotProduct,
}

impl Nearest {
    pub fn parse(find: &FindNearest, query: &StructuredQuery) -> Result<Self, Status> {
        let target = match find.query_vector.as_ref().map(|v| &v.value_type) {
            Some(Some(ValueType::MapValue(map))) if is_vector(map) => doubles(vector_elements(map))
                .ok_or_else(|| invalid("Vector must only contain values of type 'double'"))?,
            _ => return Err(invalid("Query Value must be of type vector.")),
        };
        if target.is_empty() {
            return Err(invalid("Cannot have a zero length vector."));
        }
        if target.len() > DIMENSIONS {
            return Err(invalid(format!(
                "Vectors must be at most {DIMENSIONS} dimensions."
            )));
        }
        let limit = find
            .limit
            .filter(|limit| (1..=1_000).contains(limit))
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or_else(|| {
                invalid("FindNearest.limit must be a positive integer of no more than 1000")
            })?;
        let measure = match DistanceMeasure::try_from(find.distance_measure) {
            Ok(DistanceMeasure::Euclidean) => Measure::Euclidean,
            Ok(DistanceMeasure::Cosine) => Measure::Cosine,
            Ok(DistanceMeasure::DotProduct) => Measure::DotProduct,
            _ => return Err(invalid("Unknown Distance Measure.")),
        };
        let Field::Path(field) = parse::field(find.vector_field.as_ref())? else {
            return Err(invalid("the name __key__ is reserved"));
        };
        for (given, what) in [
            (query.limit.is_some(), "A query limit"),
            (query.offset != 0, "A query offset"),
            (
                query.start_at.is_some() || query.end_at.is_some(),
                "A cursor",
            ),
        ] {
            if given {
                return Err(invalid(format!("{what} cannot be used with FindNearest")));
            }
        }
        let name = &find.distance_result_field;
        if name.len() >= 4 && name.starts_with("__") && name.ends_with("__") {
            return Err(invalid(format!(
                "The distanceResultField.property.name \"{name}\" is reserved."
            )));
        }
        Ok(Self {
            field,
            target,
            measure,
            limit,
            threshold: find.distance_threshold,
            distance_field: (!name.is_empty()).then(|| name.clone()),
        })
    }

    /// How index descriptions show it: `embedding VECTOR<3>`.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} VECTOR<{}>", self.field, self.target.len())
    }

    /// The distance of a document that has a vector of the same length, within the threshold.
    fn distance(&self, fields: &Fields) -> Option<f64> {
        let Some(ValueType::MapValue(map)) = &field_path::get(fields, &self.field)?.value_type
        else {
            return None;
        };
        if !is_vector(map) {
            return None;
        }
        let vector = doubles(vector_elements(map))?;
        if vector.len() != self.target.len() {
            return None;
        }
        let distance = self.measure.distance(&vector, &self.target);
        self.threshold
            .is_none_or(|threshold| self.measure.within(distance, threshold))
            .then_some(distance)
    }

    /// Puts the distance into the fields to be shown.
    #[must_use]
    pub fn with_distance(&self, stored: &Stored, distance: f64) -> Stored {
        let Some(name) = &self.distance_field else {
            return stored.clone();
        };
        let mut fields = (*stored.fields).clone();
        fields.insert(
            name.clone(),
            Value {
                value_type: Some(ValueType::DoubleValue(distance)),
            },
        );
        Stored {
            fields: fields.into(),
            ..stored.clone()
        }
    }
}

impl Measure {
    fn distance(self, a: &[f64], b: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        match self {
            Self::Euclidean => a
                .iter()
                .zip(b)
                .map(|(x, y)| (x - y).powi(2))
                .sum::<f64>()
                .sqrt(),
            // Not a number where one has no direction; such come last.
            Self::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            Self::DotProduct => dot(a, b),
        }
    }

    /// The nearest first.
    fn compare(self, a: f64, b: f64) -> Ordering {
        match (a.is_nan(), b.is_nan()) {
            (false, false) => {
                let ordering = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                match self {
                    Self::DotProduct => ordering.reverse(),
                    Self::Euclidean | Self::Cosine => ordering,
                }
            }
            (a, b) => a.cmp(&b),
        }
    }

    fn within(self, distance: f64, threshold: f64) -> bool {
        match self {
            Self::DotProduct => distance >= threshold,
            Self::Euclidean | Self::Cosine => distance <= threshold,
        }
    }
}

fn doubles(values: &[Value]) -> Option<Vec<f64>> {
    values
        .iter()
        .map(|value| match value.value_type {
            Some(ValueType::DoubleValue(double)) => Some(double),
            _ => None,
        })
        .collect()
}

/// The nearest so far, best first; of the same distance, those that the query has first.
#[derive(Debug)]
pub struct Best {
    nearest: Nearest,
    kept: Vec<(f64, Place, Stored)>,
}

impl Best {
    #[must_use]
    pub fn new(nearest: Nearest) -> Self {
        Self {
            nearest,
            kept: Vec::new(),
        }
    }

    /// Takes up a document, in the query's order.
    pub fn offer(&mut self, place: Place, stored: Stored) {
        let Some(distance) = self.nearest.distance(&stored.fields) else {
            return;
        };
        let at = self
            .kept
            .partition_point(|(kept, _, _)| self.nearest.measure.compare(*kept, distance).is_le());
        if at < self.nearest.limit {
            self.kept.insert(at, (distance, place, stored));
            self.kept.truncate(self.nearest.limit);
        }
    }

    /// The result, with the distances in the documents where they were asked for.
    #[must_use]
    pub fn into_documents(self) -> Vec<(Place, Stored)> {
        let nearest = &self.nearest;
        self.kept
            .into_iter()
            .map(|(distance, place, stored)| {
                let stored = nearest.with_distance(&stored, distance);
                (place, stored)
            })
            .collect()
    }
}
