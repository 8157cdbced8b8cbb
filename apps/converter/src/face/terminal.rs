use std::{
    fmt::Display,
    io::{self, Write},
    mem,
    sync::{Mutex, PoisonError},
};

use console::Term;
use indicatif::TermLike;

use crate::background::Background;

/// Standard error as a terminal that may go away or be stopped: nobody waits for it, and what is written to one that is
/// gone is lost and no error, because the library that draws would panic at one.
#[derive(Debug)]
pub(super) struct Terminal {
    term: Term,
    /// What is drawn next, which is written in one piece so that nothing flickers.
    next: Mutex<String>,
}

impl Terminal {
    /// None when standard error is no terminal, or one that knows no sequences.
    pub(super) fn of_standard_error() -> Option<Self> {
        let term = Term::stderr();
        let is_capable = term.is_term() && !console::is_dumb();
        is_capable.then(|| Self { term, next: Mutex::default() })
    }

    fn add(&self, text: impl Display) -> io::Result<()> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.push_str(&text.to_string());
        Ok(())
    }

    /// A sequence that does something so many times.
    fn times(&self, count: usize, what: char) -> io::Result<()> {
        // None would mean one to a terminal.
        if count > 0 { self.add(format_args!("\x1b[{count}{what}")) } else { Ok(()) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.times(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.times(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.times(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.times(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(format_args!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let next = mem::take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner));
        Background::standard_error().write_all(next.as_bytes())
    }
}
