//! Lifecycle rules, and what they remove.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::change::Change;
use super::error::ObjectError;
use super::rows::require_bucket;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A rule of a bucket's lifecycle configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) enabled: bool,
    /// The rule is about the keys that begin so.
    pub(crate) prefix: String,
    /// Objects are deleted this many days after they were made.
    pub(crate) expiration_days: Option<i32>,
    /// Uploads are aborted this many days after they were begun.
    pub(crate) abort_days: Option<i32>,
}

impl Rule {
    /// Objects made until then have expired; both times in ms since 1970.
    pub(super) fn expires_before(&self, now_ms: i64) -> Option<i64> {
        self.expiration_days.map(|days| now_ms.saturating_sub(i64::from(days) * DAY_MS))
    }

    /// Uploads begun until then are given up; both times in ms since 1970.
    pub(super) fn aborts_before(&self, now_ms: i64) -> Option<i64> {
        self.abort_days.map(|days| now_ms.saturating_sub(i64::from(days) * DAY_MS))
    }
}

/// Replaces the bucket's rules; an empty list removes them.
pub(super) fn store(change: &Change<'_>, bucket: &str, rules: &[Rule]) -> Result<(), ObjectError> {
    require_bucket(change.sql(), bucket)?;
    let text = if rules.is_empty() { None } else { Some(serde_json::to_string(rules)?) };
    change
        .sql()
        .prepare_cached("UPDATE buckets SET lifecycle = ?2 WHERE name = ?1")?
        .execute(params![bucket, text])?;
    Ok(())
}

pub(super) fn load(sql: &Connection, bucket: &str) -> Result<Vec<Rule>, ObjectError> {
    require_bucket(sql, bucket)?;
    let text: Option<String> = sql
        .prepare_cached("SELECT lifecycle FROM buckets WHERE name = ?1")?
        .query_row([bucket], |row| row.get(0))?;
    text.map_or_else(|| Ok(Vec::new()), |text| Ok(serde_json::from_str(&text)?))
}

/// The rules of every bucket that has some.
pub(super) fn load_all(sql: &Connection) -> Result<Vec<(String, Vec<Rule>)>, ObjectError> {
    let mut statement =
        sql.prepare_cached("SELECT name, lifecycle FROM buckets WHERE lifecycle IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (bucket, text) = row?;
        Ok((bucket, serde_json::from_str(&text)?))
    })
    .collect()
}

/// The ids of the objects made until `before_ms`.
pub(super) fn expired(
    sql: &Connection,
    bucket: &str,
    prefix: &str,
    before_ms: i64,
) -> Result<Vec<i64>, ObjectError> {
    let statement = "SELECT id FROM objects
                     WHERE bucket = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2 AND modified_ms <= ?3";
    let ids = sql
        .prepare_cached(statement)?
        .query_map(params![bucket, prefix, before_ms], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(ids)
}

/// The ids of the uploads begun until `before_ms`.
pub(super) fn stale_uploads(
    sql: &Connection,
    bucket: &str,
    prefix: &str,
    before_ms: i64,
) -> Result<Vec<String>, ObjectError> {
    let statement = "SELECT id FROM uploads
                     WHERE bucket = ?1 AND substr(key, 1, length(?2)) = ?2 AND started_ms <= ?3";
    let ids = sql
        .prepare_cached(statement)?
        .query_map(params![bucket, prefix, before_ms], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(ids)
}
