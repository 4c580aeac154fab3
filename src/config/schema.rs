//! The JSON Schema of the file (draft 2020-12), for editors and other tools. It says what one can say about shapes; what
//! takes more than one place of the file to see (overlaps, references, the alias pool) only `check` knows.

use serde_json::{Map, Value, json};

use super::spec::{Format, KeySpec, ROOT, Shape, TableSpec};

/// What `ixgate check --schema` prints.
pub fn schema() -> Value {
    let mut root = table(&ROOT);
    if let Value::Object(fields) = &mut root {
        fields.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".into(), json!("ixgate configuration"));
    }
    root
}

fn table(spec: &TableSpec) -> Value {
    let properties: Map<_, _> = spec.keys.iter().map(|k| (k.name.to_owned(), key(k))).collect();
    let (replaceable, required): (Vec<_>, Vec<_>) =
        spec.keys.iter().filter(|k| k.required).map(|k| k.name).partition(|name| !spec.instead_of(name).is_empty());
    let mut value = json!({
        "type": "object",
        "description": spec.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if let (false, Value::Object(fields)) = (spec.one_of.is_empty(), &mut value) {
        let one_of: Vec<_> = spec.one_of.iter().map(|key| json!({ "required": [key] })).collect();
        fields.insert("oneOf".into(), json!(one_of));
    }
    if let (Some(name), Value::Object(fields)) = (replaceable.first(), &mut value) {
        let any_of: Vec<_> =
            [name].into_iter().chain(spec.instead_of(name)).map(|key| json!({ "required": [key] })).collect();
        fields.insert("anyOf".into(), json!(any_of));
    }
    value
}

fn key(spec: &KeySpec) -> Value {
    let mut value = shape(spec.shape);
    if let Value::Object(fields) = &mut value {
        fields.insert("description".into(), json!(spec.doc));
        // Defaults are written as TOML; those that we have are JSON as well.
        if let Some(default) = spec.default.and_then(|d| serde_json::from_str::<Value>(d).ok()) {
            fields.insert("default".into(), default);
        }
    }
    value
}

fn shape(shape: Shape) -> Value {
    match shape {
        Shape::Text(format) => text(format),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Texts { of, max } => list(text(of), 1, max),
        Shape::TextOrTexts { of, max } => json!({ "anyOf": [text(of), list(text(of), 1, max)] }),
        Shape::Table(spec) => table(spec),
        Shape::Tables { of, max } => list(table(of), 0, max),
        Shape::TextsOrTables { text: format, table: spec, max } => {
            list(json!({ "anyOf": [text(format), table(spec)] }), 0, max)
        }
    }
}

fn list(items: Value, min: usize, max: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": min, "maxItems": max })
}

fn text(format: Format) -> Value {
    let mut value = json!({ "type": "string", "description": format.doc });
    if let Value::Object(fields) = &mut value {
        if let Ok(example) = serde_json::from_str::<Value>(format.example) {
            fields.insert("examples".into(), json!([example]));
        }
        if let Some(pattern) = format.pattern {
            fields.insert("pattern".into(), json!(pattern));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_keys(spec: &'static TableSpec, keys: &mut Vec<&'static KeySpec>) {
        for key in spec.keys {
            keys.push(key);
            match key.shape {
                Shape::Table(of) | Shape::Tables { of, .. } | Shape::TextsOrTables { table: of, .. } => {
                    all_keys(of, keys);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_default_and_example_is_valid_toml_and_json() {
        let mut keys = Vec::new();
        all_keys(&ROOT, &mut keys);
        assert!(keys.len() > 30);
        for key in keys {
            assert!(!key.doc.is_empty(), "{}", key.name);
            if let Some(default) = key.default {
                assert!(key_value(key.name, default).contains_key(key.name), "{default}");
                serde_json::from_str::<Value>(default).unwrap();
            }
        }
    }

    fn key_value(key: &str, value: &str) -> toml::Table {
        format!("{key} = {value}").parse().unwrap()
    }

    #[test]
    fn unknown_keys_are_not_part_of_the_schema() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["realm"]["items"]["required"], json!(["name"]));
        let either = json!([{ "required": ["networks"] }, { "required": ["routes_from"] }]);
        assert_eq!(schema["properties"]["realm"]["items"]["anyOf"], either);
        assert_eq!(schema["properties"]["ix"]["properties"]["alias4"]["default"], json!(["100.64.0.0/10"]));
        let attach = &schema["properties"]["realm"]["items"]["properties"]["attach"]["items"];
        assert_eq!(
            attach["oneOf"],
            json!(["wireguard", "ipsec", "port", "tun"].map(|kind| json!({ "required": [kind] })))
        );
    }
}
