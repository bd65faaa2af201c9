//! Documents as the tagged JSON that a table keeps.
//!
//! This runs for every document that is read or written, so values go straight from one form into the other.
//! What the model says of tags decides: where a map could be taken for one, the model writes it.

use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{MapValue, Value as Proto};
use whimbrel_firestore::value::{self, Decimals};
use whimbrel_model::{GeoPoint, Timestamp, Value, json};

/// Rows above this are no documents: one takes several times that of memory while it is read.
const DOCUMENT_BYTES: usize = 32 << 20;

pub(super) fn encode(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_fields(fields, &mut out);
    out
}

fn write_fields(fields: &Fields, out: &mut Vec<u8>) {
    let mut entries = fields.iter();
    if let (Some((name, _)), None) = (entries.next(), entries.next())
        && name.starts_with('$')
    {
        // It may look like a tag, and is escaped then.
        return json::write_map(&value::to_model(fields), out);
    }
    out.push(b'{');
    for (i, (name, value)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_string(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Proto, out: &mut Vec<u8>) {
    match &value.value_type {
        Some(ValueType::BooleanValue(true)) => out.extend_from_slice(b"true"),
        Some(ValueType::BooleanValue(false)) => out.extend_from_slice(b"false"),
        Some(ValueType::IntegerValue(n)) => json::write(&Value::Int(*n), out),
        Some(ValueType::DoubleValue(x)) => json::write(&Value::Double(*x), out),
        Some(ValueType::TimestampValue(at)) => {
            let nanos = u32::try_from(at.nanos).ok();
            let at = nanos.and_then(|nanos| Timestamp::new(at.seconds, nanos));
            json::write(&at.map_or(Value::Null, Value::Timestamp), out);
        }
        Some(ValueType::StringValue(text)) => json::write_string(text, out),
        Some(ValueType::GeoPointValue(point)) => {
            let (latitude, longitude) = (point.latitude, point.longitude);
            let point = GeoPoint {
                latitude,
                longitude,
            };
            json::write(&Value::GeoPoint(point), out);
        }
        Some(ValueType::ArrayValue(array)) => {
            out.push(b'[');
            for (i, value) in array.values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(value, out);
            }
            out.push(b']');
        }
        Some(ValueType::MapValue(map)) if !may_be_vector(map) => write_fields(&map.fields, out),
        Some(ValueType::BytesValue(_) | ValueType::ReferenceValue(_) | ValueType::MapValue(_)) => {
            let alone = Fields::from([(String::new(), value.clone())]);
            let model = value::to_model(&alone).swap_remove("");
            json::write(&model.unwrap_or(Value::Null), out);
        }
        // Null, and expressions of pipelines, which no document holds.
        _ => out.extend_from_slice(b"null"),
    }
}

fn may_be_vector(map: &MapValue) -> bool {
    map.fields.len() == 2 && map.fields.contains_key("__type__")
}

/// Plain JSON that others wrote is taken, too.
///
/// # Errors
/// Why the bytes are no document. Names fields, never values.
pub(super) fn decode(bytes: &[u8]) -> Result<Fields, String> {
    if bytes.len() > DOCUMENT_BYTES {
        return Err(format!("it is larger than {} MiB", DOCUMENT_BYTES >> 20));
    }
    match json::parse(bytes) {
        Ok(Value::Map(map)) => {
            value::from_model(&map, Decimals::Nearest).map_err(|e| e.to_string())
        }
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use whimbrel_firestore::proto::google::r#type::LatLng;
    use whimbrel_firestore::v1::ArrayValue;

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("$timestamp".to_owned()),
            Just("$$bytes".to_owned()),
            Just("$".to_owned()),
            Just("__type__".to_owned()),
            Just("value".to_owned()),
            any::<String>(),
            "[a-z]{1,4}",
        ]
    }

    fn fields(value: impl Strategy<Value = Proto> + 'static) -> impl Strategy<Value = Fields> {
        proptest::collection::vec((name(), value), 0..4)
            .prop_map(|entries| entries.into_iter().collect())
    }

    fn values() -> impl Strategy<Value = Proto> {
        let scalar = prop_oneof![
            Just(ValueType::NullValue(0)),
            any::<bool>().prop_map(ValueType::BooleanValue),
            any::<i64>().prop_map(ValueType::IntegerValue),
            any::<f64>().prop_map(ValueType::DoubleValue),
            Just(ValueType::DoubleValue(-0.0)),
            (-62_135_596_800..253_402_300_799_i64, 0..1_000_000_000_i32).prop_map(
                |(seconds, nanos)| ValueType::TimestampValue(prost_types::Timestamp {
                    seconds,
                    nanos
                })
            ),
            any::<String>().prop_map(ValueType::StringValue),
            Just(ValueType::StringValue("__vector__".to_owned())),
            any::<Vec<u8>>().prop_map(ValueType::BytesValue),
            any::<String>().prop_map(ValueType::ReferenceValue),
            (any::<f64>(), any::<f64>()).prop_map(|(latitude, longitude)| {
                ValueType::GeoPointValue(LatLng {
                    latitude,
                    longitude,
                })
            }),
        ];
        let value = |kind| Proto {
            value_type: Some(kind),
        };
        scalar
            .prop_map(value)
            .prop_recursive(4, 24, 4, move |inner| {
                let values = proptest::collection::vec(inner.clone(), 0..4);
                prop_oneof![
                    values.prop_map(|values| ValueType::ArrayValue(ArrayValue { values })),
                    fields(inner.clone())
                        .prop_map(|fields| ValueType::MapValue(MapValue { fields })),
                    proptest::collection::vec(any::<f64>(), 0..3).prop_map(|elements| {
                        let double = |d| Proto {
                            value_type: Some(ValueType::DoubleValue(d)),
                        };
                        let values = elements.into_iter().map(double).collect();
                        let kind = ValueType::StringValue("__vector__".to_owned());
                        let kind = Proto {
                            value_type: Some(kind),
                        };
                        let array = Proto {
                            value_type: Some(ValueType::ArrayValue(ArrayValue { values })),
                        };
                        let fields = [("__type__".to_owned(), kind), ("value".to_owned(), array)];
                        ValueType::MapValue(MapValue {
                            fields: fields.into(),
                        })
                    }),
                ]
                .prop_map(value)
            })
    }

    proptest! {
        /// The direct way writes what the model writes, byte by byte.
        #[test]
        fn written_as_the_model_writes(fields in fields(values())) {
            let mut model = Vec::new();
            json::write_map(&value::to_model(&fields), &mut model);
            let direct = encode(&fields);
            prop_assert_eq!(String::from_utf8_lossy(&direct), String::from_utf8_lossy(&model));
            let back = decode(&direct).unwrap();
            prop_assert_eq!(value::to_model(&back), value::to_model(&fields));
        }
    }

    #[test]
    fn what_is_no_document_says_why_and_nothing_else() {
        for (bytes, expect) in [
            (&b"[\"secret\"]"[..], "it is no JSON object"),
            (b"secret", "byte 0"),
            (b"", "byte 0"),
            (b"{\"a\":\"secret", "at byte"),
            (b"{\"a\":1,\"a\":2}", "at byte"),
            (b"\xff", "at byte"),
        ] {
            let why = decode(bytes).unwrap_err();
            assert!(why.contains(expect), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
        assert_eq!(decode(b" {} ").unwrap().len(), 0);
    }
}
