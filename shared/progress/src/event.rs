use jiff::Timestamp;

/// How far a converter says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressEvent {
    /// 0 to 100. Fractions are cut.
    pub percentage: u8,
    /// What the converter says it is doing; empty when it says only how far it is. It holds nothing that would move a
    /// terminal's cursor (see [`crate::printable`]).
    pub message: String,
    /// The stage it is in, where the format names one.
    pub stage: Option<String>,
    /// When the converter wrote it, which only JSON lines tell.
    pub timestamp: Option<Timestamp>,
    /// Whose percentage this is.
    pub origin: Origin,
}

/// Who tells how far he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The converter, of the whole conversion.
    Converter,
    /// A tool, of its own run, which may be one of several in a conversion.
    Tool,
}
