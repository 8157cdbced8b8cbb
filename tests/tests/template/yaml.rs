//! `infra/template.yaml` as JSON. The tags of CloudFormation's functions are dropped, so that `!Ref Table` reads
//! `"Table"` and `!GetAtt Table.Arn` reads `"Table.Arn"`; cfn-lint sees to it that the tags are right.

use std::{path::Path, sync::LazyLock};

use serde_json::{Map, Value};

/// The whole template.
pub(crate) static TEMPLATE: LazyLock<Value> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/template.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

/// The resources of the template.
pub(crate) fn resources() -> &'static Map<String, Value> {
    TEMPLATE["Resources"].as_object().unwrap()
}

/// The names and properties of the resources of one type.
pub(crate) fn of_type(kind: &str) -> impl Iterator<Item = (&'static str, &'static Value)> {
    resources()
        .iter()
        .filter(move |(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
}

/// The properties of a resource.
pub(crate) fn properties(name: &str) -> &'static Value {
    &resources().get(name).unwrap_or_else(|| panic!("the template has no {name}"))["Properties"]
}

/// What may be one text or a list of them.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        value => vec![value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()],
    }
}
