use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_sdk_dynamodb::types::ConsumedCapacity;

/// Counts the capacity units that DynamoDB says it consumed, over all calls of one [`crate::Store`].
#[derive(Debug, Default)]
pub struct Meter {
    // Tenths of a unit: DynamoDB counts in halves.
    read_tenths: AtomicU64,
    write_tenths: AtomicU64,
    lost_conditions: AtomicU64,
    /// Counts what this one counts as well.
    whole: Option<Arc<Self>>,
}

/// What a [`Meter`] has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Read capacity units.
    pub read: f64,
    /// Write capacity units.
    pub write: f64,
    /// Writes whose condition failed. On AWS each costs the write units of the item that was there.
    pub lost_conditions: u64,
}

impl Meter {
    /// A meter of a part of what `whole` counts.
    pub(crate) fn within(whole: &Arc<Self>) -> Self {
        Self { whole: Some(Arc::clone(whole)), ..Self::default() }
    }

    /// What was counted so far.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of tenths stays far below 2^52")]
    pub fn units(&self) -> Units {
        Units {
            read: self.read_tenths.load(Ordering::Relaxed) as f64 / 10.0,
            write: self.write_tenths.load(Ordering::Relaxed) as f64 / 10.0,
            lost_conditions: self.lost_conditions.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn read(&self, consumed: Option<&ConsumedCapacity>) {
        self.read_tenths.fetch_add(tenths(consumed), Ordering::Relaxed);
        self.whole.iter().for_each(|whole| whole.read(consumed));
    }

    pub(crate) fn wrote(&self, consumed: Option<&ConsumedCapacity>) {
        self.write_tenths.fetch_add(tenths(consumed), Ordering::Relaxed);
        self.whole.iter().for_each(|whole| whole.wrote(consumed));
    }

    pub(crate) fn lost_condition(&self) {
        self.lost_conditions.fetch_add(1, Ordering::Relaxed);
        self.whole.iter().for_each(|whole| whole.lost_condition());
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "capacity is small and never negative"
)]
fn tenths(consumed: Option<&ConsumedCapacity>) -> u64 {
    consumed.and_then(ConsumedCapacity::capacity_units).map_or(0, |units| (units * 10.0).round() as u64)
}
