//! Webhooks: what carries them, the calls about them, and whole deliveries to a real receiver.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper meets unexpectedly is a failed test")]

mod calls;
mod carrying;
mod deliveries;
