use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use console::Term;
use serde::Serialize;

use crate::failure::Failure;

/// The two streams, and who reads them: a person or a program.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bars: bool,
    watched: bool,
    asking: bool,
    width: Option<usize>,
    out: Stream,
    err: Stream,
}

type Stream = Mutex<Box<dyn Write + Send>>;

impl Output {
    /// The process's own streams.
    pub(crate) fn standard(json: bool, quiet: bool) -> Self {
        let person = !json && !quiet;
        let terminal = Term::stdout();
        Self {
            json,
            quiet,
            bars: person && io::stderr().is_terminal(),
            watched: person && terminal.is_term(),
            asking: !json && io::stdin().is_terminal() && io::stderr().is_terminal(),
            width: terminal
                .size_checked()
                .map(|(_, columns)| usize::from(columns))
                .filter(|columns| *columns > 0),
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
        }
    }

    /// Streams of a test.
    #[cfg(test)]
    pub(crate) fn captured(
        json: bool,
        quiet: bool,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        let (out, err): (Stream, Stream) = (Mutex::new(Box::new(out)), Mutex::new(Box::new(err)));
        Self { json, quiet, bars: false, watched: false, asking: false, width: None, out, err }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress bars can be drawn on standard error.
    pub(crate) fn has_bars(&self) -> bool {
        self.bars
    }

    /// Whether a person looks on as the answer is written.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// How wide the terminal is that the answer is written to, if it is one.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether there is a person to ask.
    pub(crate) fn can_ask(&self) -> bool {
        self.asking
    }

    /// Asks a question, and waits for the answer yes or no. No is what any other word means.
    pub(crate) async fn ask(&self, question: &str) -> Result<bool, Failure> {
        {
            let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
            write!(err, "{} [y/N] ", printable(question))
                .and_then(|()| err.flush())
                .map_err(Failure::Output)?;
        }
        // On a thread of its own, so that Ctrl-C still ends the program.
        let read = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).map(|_| answer)
        });
        let answer = read.await.map_err(io::Error::other).flatten();
        let answer =
            answer.map_err(|error| Failure::Local(format!("The answer cannot be read: {error}.")))?;
        Ok(is_yes(&answer))
    }

    /// A line of the answer, for a person. A program gets a [`Output::value`] instead.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.write(&format!("{}\n", printable(text))) }
    }

    /// A value of the answer on a line of its own, for a program.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
        self.write(&format!("{text}\n"))
    }

    /// Text just as it is, with a line's end. It is what was asked for, so nobody's mode keeps it back.
    pub(crate) fn verbatim(&self, text: &str) -> Result<(), Failure> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.write(&format!("{text}{end}"))
    }

    /// Markdown just as it is, for a person or a pipe. A program gets it within a [`Output::value`].
    pub(crate) fn markdown(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.verbatim(text) }
    }

    /// Something that a person may want to know meanwhile, beside the answer.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && !self.quiet {
            self.say(&printable(text));
        }
    }

    /// Something that failed, while the command goes on.
    pub(crate) fn failure(&self, failure: &Failure, about: Option<&str>) {
        if failure.is_silent() {
            return;
        }
        if self.json {
            let mut json = failure.to_json();
            if let Some(about) = about {
                json["error"]["about"] = about.into();
            }
            return self.say(&json.to_string());
        }
        let about = about.map(|about| format!("{about}: ")).unwrap_or_default();
        // Whoever presses Ctrl-C gets what was asked for.
        let prefix = if matches!(failure, Failure::Interrupted { .. }) { "" } else { "error: " };
        self.say(&printable(&format!("{prefix}{about}{failure}")));
    }

    /// Says why the command ends.
    pub(crate) fn end(&self, failure: &Failure) -> ExitCode {
        self.failure(failure, None);
        ExitCode::from(failure.code())
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        // A poisoned stream is as good as before: what was written is written.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
    }

    fn say(&self, text: &str) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to be told that standard error is closed.
        let _ = writeln!(err, "{text}");
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Without what would move a terminal's cursor: some texts come from other machines.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(json: bool, quiet: bool) -> (String, String) {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Output::captured(json, quiet, out.clone(), err.clone());
        output.line("line \x1b[2J").unwrap();
        output.value(&["value"]).unwrap();
        output.verbatim("# Text").unwrap();
        output.note("note");
        output.failure(&Failure::Usage("Why.".into()), Some("a.mp3"));
        output.failure(&Failure::Told { code: 5 }, None);
        (out.text(), err.text())
    }

    #[test]
    fn people_and_programs_get_what_is_theirs() {
        let error = "error: a.mp3: Why.\n";
        assert_eq!(said(false, false), ("line  [2J\n# Text\n".into(), format!("note\n{error}")));
        assert_eq!(said(false, true), ("line  [2J\n# Text\n".into(), error.into()));
        let (out, err) = said(true, false);
        assert_eq!(out, "[\"value\"]\n# Text\n");
        let err: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!(err["error"]["about"], "a.mp3");
    }

    #[test]
    fn only_yes_means_yes() {
        assert!(["y\n", " Yes ", "YES\r\n"].into_iter().all(is_yes));
        assert!(["", "\n", "n", "no", "yeah", "y y"].into_iter().all(|answer| !is_yes(answer)));
    }

    #[test]
    fn a_closed_stream_is_told_to_the_caller() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::captured(false, false, Closed, Closed);
        assert_eq!(output.line("x").unwrap_err().code(), 0);
        output.note("nobody hears it");
    }
}
