//! Cuts Markdown into chunks, embeds, stores and searches them.
//!
//! [`chunks`] cuts, and a [`Library`] does the rest: in a Qdrant server, or in Qdrant's engine in this process, so that
//! nothing needs to be installed. Texts are embedded by their words, which needs neither key nor download, or by a
//! model behind an OpenAI-compatible interface or Gemini's. Which of all that is used, [`Settings`] say.

mod chunk;
mod embedded;
mod embedding;
mod error;
mod http;
mod lexical;
mod library;
mod point;
mod server;
mod settings;
mod store;
mod turns;
mod unwritten;

#[cfg(test)]
mod tests;

pub use chunk::{Chunk, ChunkRules, InvalidChunking, chunks};
pub use error::Error;
pub use library::{Document, Hit, Library};
pub use settings::{Settings, SettingsError};
