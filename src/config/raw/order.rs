//! The order in which keys are written down in the raw types. A schema's properties have none, and the reference
//! should tell of `exec` before `background`.

use std::fmt;

use schemars::Schema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Where the order is kept in the schema.
pub(crate) const ORDER: &str = "x-order";

/// Notes the order of a type's fields in its schema.
pub(crate) fn in_order<T: for<'de> Deserialize<'de>>(schema: &mut Schema) {
    let Err(Fields(fields)) = T::deserialize(Asking) else { return };
    schema.insert(ORDER.to_owned(), serde_json::json!(fields));
}

/// Asks a type for its fields, and gives it nothing.
struct Asking;

/// The answer, as an error: there is no value to go on with.
#[derive(Debug)]
struct Fields(&'static [&'static str]);

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fields {:?}", self.0)
    }
}

impl std::error::Error for Fields {}

impl de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Fields {
        Fields(&[])
    }
}

impl<'de> Deserializer<'de> for Asking {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
