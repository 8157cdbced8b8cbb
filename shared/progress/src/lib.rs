//! Reads progress out of the lines that a converter writes, and keeps track of it for each job.
//!
//! The formats are the original system's. Each may stand plainly on its line or in the `event` of a JSON log line:
//!
//! | line | percentage | message | stage |
//! |---|---|---|---|
//! | `Processing progress: Audio processing: Initializing (52%)` | 52 | `Audio processing: Initializing` | `Audio processing` |
//! | `Processing... 75%` | 75 | `Processing` | |
//! | `Progress: 45% - Converting video` | 45 | `Converting video` | |
//! | `Stage: transcription (67%)` | 67 | `transcription` | `transcription` |
//! | `Audio processing: 80% complete` | 80 | `Audio processing` | `Audio processing` |
//! | `[75%] Processing audio content` | 75 | `Processing audio content` | |
//!
//! Anything else is not progress, and neither is a percentage outside 0 to 100 or JSON that does not parse: a
//! converter's lines are also its log, so what is not understood is passed over.
//!
//! [`parse_line`] reads one such line; [`parse_json_line`] and [`parse_plain_line`] read one of a known kind. What
//! tools write of their own accord needs what the lines before said, so [`ProgressParser`] reads it, one for each
//! converter that runs:
//!
//! | tool | lines |
//! |---|---|
//! | ffmpeg's status | `frame=  100 fps= 25 ... time=00:00:12.34 bitrate=...` |
//! | ffmpeg's `-progress` | `out_time_us=12340000`, `out_time=00:00:12.340000`, `progress=continue`, `progress=end` |
//! | yt-dlp | `[download]  12.3% of ~  10.00MiB at    1.00MiB/s ETA 00:10` |
//! | tqdm and its like | <code>Reading:  45%&#124;####5     &#124; 45/100 [00:10<00:12,  4.50it/s]</code> |
//! | whisper.cpp | `whisper_print_progress_callback: progress =  45%` |
//!
//! How far ffmpeg is follows from the `Duration: 00:01:40.00` of its input, which it writes before; without one there
//! is no percentage. [`parse_stream`] reads many lines, [`latest`] tells which of the events counts.
//! [`LineSplitter`] cuts lines out of bytes as they come from a pipe, in bounded memory, and [`ProgressStream`] is
//! all of it together. [`handler::ProgressHandler`] turns progress into what a job displays.

mod event;
mod formats;
pub mod handler;
mod json;
mod lines;
mod printable;
mod stream;
mod timestamp;
mod tools;

pub use event::{Origin, ProgressEvent};
pub use formats::parse_plain_line;
pub use json::parse_json_line;
pub use lines::{LineSplitter, MOST_LINE_BYTES};
pub use printable::printable;
pub use stream::{ProgressParser, ProgressStream, latest, parse_line, parse_stream};
