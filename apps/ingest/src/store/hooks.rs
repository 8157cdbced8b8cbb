//! The webhooks that came.

use domain::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

/// What is known of a webhook that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is the first of its id.
    First,
    /// Its sender sends it again, signed anew: the answer to the one before did not arrive.
    Again,
    /// It was not signed after the one that came before, so somebody plays that one again.
    Replayed,
}

impl Store {
    /// Remembers a webhook whose signature was verified. `signed_s` is the time of its signature, in Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hook(&self, id: String, signed_s: i64, now: Timestamp) -> Result<Seen, StoreError> {
        self.transact(move |sql| {
            let before: Option<i64> = sql
                .prepare_cached("SELECT signed_s FROM hooks WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            if before.is_some_and(|before| signed_s <= before) {
                return Ok(Seen::Replayed);
            }
            let statement = "INSERT INTO hooks (id, signed_s, seen_ms) VALUES (?1, ?2, ?3)
                             ON CONFLICT (id) DO UPDATE SET signed_s = excluded.signed_s";
            sql.execute(statement, params![id, signed_s, now.0])?;
            Ok(if before.is_some() { Seen::Again } else { Seen::First })
        })
        .await
    }

    /// Forgets webhooks that came before this. It must be so long ago that a replay would be refused for its age.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_hooks(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |sql| Ok(sql.execute("DELETE FROM hooks WHERE seen_ms < ?1", [before.0])?)).await
    }
}
