//! A choice among words, as it stands in the schema.

use schemars::Schema;
use serde_json::Value;

/// The words alone: what each means, a key's own comment says, and the checked type's comments are for its readers.
pub(super) fn words_alone(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.remove("oneOf") else { return };
    let words: Vec<Value> =
        choices.into_iter().filter_map(|mut choice| Some(choice.get_mut("const")?.take())).collect();
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), words.into());
}
