//! Broken ways to the table, to show that the histories notice them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What goes wrong with every write it applies to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mutant {
    /// Whoever writes last wins.
    NoCondition,
    /// A live job vanishes from the index.
    NotDue,
    /// Another token than the one that was given out.
    OtherToken,
    /// A job ends and its webhook is owed nothing.
    NoEvent,
    /// A retry costs nothing.
    FreeRetry,
    /// A claim counts as heard of.
    HeardAtOnce,
    /// The first outcome of an attempt is forgotten.
    NoHistory,
    /// A takeover is forgotten.
    NoTakeover,
    /// An attempt that has ended runs on.
    StillRuns,
}

impl Mutant {
    pub(crate) const ALL: [Self; 9] = [
        Self::NoCondition,
        Self::NotDue,
        Self::OtherToken,
        Self::NoEvent,
        Self::FreeRetry,
        Self::HeardAtOnce,
        Self::NoHistory,
        Self::NoTakeover,
        Self::StillRuns,
    ];

    /// What becomes of a request's body.
    pub(crate) fn of(self, mut body: Value, rows: &BTreeMap<String, Value>) -> Value {
        let Some(items) = body.get_mut("TransactItems").and_then(Value::as_array_mut) else {
            self.of_put(&mut body, rows);
            return body;
        };
        if self == Self::NoEvent {
            items.truncate(1);
        }
        items.iter_mut().filter_map(|item| item.get_mut("Put")).for_each(|put| self.of_put(put, rows));
        body
    }

    fn of_put(self, put: &mut Value, rows: &BTreeMap<String, Value>) {
        let Some(pk) = put["Item"]["pk"]["S"].as_str().filter(|pk| pk.starts_with("job#")) else { return };
        let retries = rows.get(pk).and_then(|row| row["retries"].as_i64());
        match self {
            Self::NoCondition => {
                remove(put, "", "ConditionExpression");
                remove(put, "", "ExpressionAttributeValues");
            }
            Self::NotDue => remove(put, "/Item", "due_key"),
            Self::OtherToken => {
                if let Some(token) = put.pointer_mut("/Item/running/M/token/B") {
                    *token = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
                }
            }
            Self::FreeRetry => match retries {
                Some(retries) => put["Item"]["retries"] = json!({ "N": retries.to_string() }),
                None => remove(put, "/Item", "retries"),
            },
            Self::HeardAtOnce => remove(put, "/Item/running/M", "unheard"),
            Self::NoHistory => {
                let attempts = put.pointer_mut("/Item/attempts/L").and_then(Value::as_array_mut);
                if let Some(attempts) = attempts.filter(|attempts| attempts.len() > 1) {
                    attempts.remove(0);
                }
            }
            Self::NoTakeover => remove(put, "/Item", "continued_by"),
            Self::StillRuns => {
                if let Some(ended) =
                    put.pointer("/Item/attempts/L").and_then(|ended| ended.as_array()?.last()).cloned()
                {
                    put["Item"]["running"] = ended;
                }
            }
            Self::NoEvent => {}
        }
    }
}

fn remove(from: &mut Value, pointer: &str, name: &str) {
    if let Some(object) = from.pointer_mut(pointer).and_then(Value::as_object_mut) {
        object.remove(name);
    }
}
