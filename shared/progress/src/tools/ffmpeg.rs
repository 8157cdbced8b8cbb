use std::sync::LazyLock;

use regex::Regex;

use super::event;
use crate::{ProgressEvent, formats::whole_percent};

/// What is known of the run of ffmpeg that writes.
#[derive(Debug, Default)]
pub(super) struct Ffmpeg {
    /// How long its longest input is, in microseconds.
    total: Option<u64>,
    /// Where it is, in microseconds, as the block of `-progress` says that is not yet complete.
    block: Option<u64>,
    /// Whether it has begun to convert, so that the next duration is another run's.
    begun: bool,
}

/// `00:01:40.00`, with nothing that would go on as a number behind.
const CLOCK: &str =
    r"(?P<hours>[0-9]{1,6}):(?P<minutes>[0-9]{2}):(?P<seconds>[0-9]{2})(?P<fraction>\.[0-9]{1,9})?\b";

static DURATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"^\s*Duration:\s*{CLOCK}")).ok());
static STATUS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"^(?:frame|L?size)=.*\stime=\s*{CLOCK}")).ok());
static OUT_TIME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"^out_time=\s*{CLOCK}$")).ok());

impl Ffmpeg {
    pub(super) fn parse(&mut self, line: &str) -> Option<ProgressEvent> {
        let line = line.trim();
        if line.starts_with("Duration:") {
            self.input(clock(DURATION.as_ref()?, line)?);
            return None;
        }
        if line.starts_with("frame=") || line.starts_with("size=") || line.starts_with("Lsize=") {
            // In a block of `-progress`, the frame has a line to itself.
            return self.at(clock(STATUS.as_ref()?, line)?);
        }
        let (name, value) = line.split_once('=')?;
        match name {
            // Both are microseconds: the one that is named after milliseconds was so by mistake and stayed so.
            "out_time_us" | "out_time_ms" => self.block = value.trim().parse().ok().or(self.block),
            "out_time" => {
                self.block = OUT_TIME.as_ref().and_then(|format| clock(format, line)).or(self.block)
            }
            "progress" => return self.end_block(value.trim()),
            _ => {}
        }
        None
    }

    /// An input of so many microseconds.
    fn input(&mut self, length: u64) {
        let before = if self.begun { None } else { self.total };
        self.total = before.max(Some(length));
        self.begun = false;
    }

    fn end_block(&mut self, state: &str) -> Option<ProgressEvent> {
        let at = self.block.take()?;
        match state {
            "continue" => self.at(at),
            "end" => self.at(self.total?),
            _ => None,
        }
    }

    fn at(&mut self, at: u64) -> Option<ProgressEvent> {
        self.begun = true;
        let total = self.total.filter(|total| *total > 0)?;
        // What it writes may be a little longer than what it reads.
        let at = at.min(total);
        #[expect(clippy::cast_precision_loss, reason = "a percentage is wanted")]
        let percentage = whole_percent(at as f64 / total as f64 * 100.0)?;
        Some(event(percentage, format!("ffmpeg: {} of {}", shown(at), shown(total)), None))
    }
}

/// Microseconds.
fn clock(format: &Regex, line: &str) -> Option<u64> {
    let found = format.captures(line)?;
    let whole = |name: &str| found[name].parse::<u64>().ok();
    let seconds = whole("hours")? * 3600 + whole("minutes")? * 60 + whole("seconds")?;
    let fraction = found.name("fraction").map_or("", |found| &found.as_str()[1..]);
    let micros: u64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    Some(seconds * 1_000_000 + micros)
}

fn shown(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Vec<(u8, String)> {
        let mut ffmpeg = Ffmpeg::default();
        let events = lines.lines().filter_map(|line| ffmpeg.parse(line));
        events.map(|event| (event.percentage, event.message)).collect()
    }

    fn percentages(lines: &str) -> Vec<u8> {
        read(lines).into_iter().map(|(percentage, _)| percentage).collect()
    }

    const INPUT: &str = "Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'in.mp4':\n  Metadata:\n    encoder : Lavf\n  Duration: 00:01:40.00, start: 0.000000, bitrate: 128 kb/s\n  Stream #0:0: Audio: aac\n";

    #[test]
    fn its_status_lines_are_measured_by_the_duration_before_them() {
        assert!(DURATION.is_some() && STATUS.is_some() && OUT_TIME.is_some());
        let status = "frame=  100 fps= 25 q=28.0 size=     512kB time=00:00:12.34 bitrate=1048.6kbits/s speed=1.5x\n\
                      size=    1024KiB time=00:00:50.00 bitrate= 128.3kbits/s speed= 130x\n\
                      frame=  100 fps=0.0 q=-1.0 Lsize=N/A time=00:01:40.02 bitrate=N/A speed= 130x elapsed=0:00:00.78";
        assert_eq!(
            read(&format!("{INPUT}{status}")),
            [
                (12, "ffmpeg: 00:00:12 of 00:01:40".to_owned()),
                (50, "ffmpeg: 00:00:50 of 00:01:40".to_owned()),
                (100, "ffmpeg: 00:01:40 of 00:01:40".to_owned()),
            ]
        );
        assert_eq!(percentages(status), [0; 0], "nobody knows of how much");
    }

    #[test]
    fn its_progress_blocks_are_read_when_they_are_complete() {
        let block = "frame=10\nfps=25.0\nbitrate=N/A\ntotal_size=N/A\nout_time_us=25000000\nout_time_ms=25000000\n\
                     out_time=00:00:25.000000\nspeed=5x\n";
        assert_eq!(percentages(&format!("{INPUT}{block}")), [0; 0]);
        assert_eq!(
            percentages(&format!("{INPUT}{block}progress=continue\n{block}progress=end\n")),
            [25, 100]
        );
        assert_eq!(percentages(&format!("{INPUT}out_time=00:00:30.500000\nprogress=continue\n")), [30]);
        assert_eq!(percentages(&format!("{block}progress=continue\n{block}progress=end\n")), [0; 0]);
    }

    #[test]
    fn the_longest_input_counts_and_another_run_begins_anew() {
        let status = "size=1kB time=00:00:50.00 bitrate=1kbits/s\n";
        let short = INPUT.replace("00:01:40.00", "00:00:10.00");
        let long = INPUT.replace("00:01:40.00", "00:03:20.00");
        assert_eq!(percentages(&format!("{INPUT}{short}{status}{long}{status}")), [50, 25]);
    }

    #[test]
    fn what_cannot_be_measured_tells_nothing() {
        for lines in [
            "Duration: N/A, start: 0.0\nsize=1kB time=00:00:50.00 bitrate=1kbits/s",
            "Duration: 00:00:00.00, start: 0.0\nsize=1kB time=00:00:50.00 bitrate=1kbits/s",
            "Duration: 00:01:40.00,\nsize=1kB time=N/A bitrate=N/A",
            "Duration: 00:01:40.00,\nsize=1kB time=-00:00:00.03 bitrate=N/A",
            "Duration: 00:01:40.00,\nthe time=00:00:50.00 is over",
            "Duration: 00:01:40.00,\nout_time_us=N/A\nprogress=continue",
            "Duration: 00:01:40.00,\nprogress=end",
            "Duration: 00:01:40.00,\nout_time_us=-1\nprogress=continue",
            "Duration: 99999999999999:00:00.00,\nsize=1kB time=00:00:50.00 bitrate=1kbits/s",
        ] {
            assert_eq!(percentages(lines), [0; 0], "{lines}");
        }
    }
}
