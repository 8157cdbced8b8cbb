//! Writes on a thread of its own, so that nobody waits for a terminal that was stopped or a pipe that nobody empties.

use std::{
    io::{self, Write},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

/// How many bytes wait at most. What comes then is lost: the work is more important.
const MOST_WAITING: usize = 4 << 20;
/// How long the end of the program waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Standard error: the log, and the lines of running jobs.
static STANDARD_ERROR: LazyLock<Background> = LazyLock::new(|| Background::over(io::stderr()));

enum Order {
    Write(Vec<u8>),
    /// Tells when all before it is written.
    Tell(SyncSender<()>),
}

/// Something to write to without waiting for it.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    orders: Sender<Order>,
    waiting: Arc<AtomicUsize>,
}

impl Background {
    /// Standard error, which all of the program shares.
    pub(crate) fn standard_error() -> Self {
        STANDARD_ERROR.clone()
    }

    fn over(mut writer: impl Write + Send + 'static) -> Self {
        let (orders, taken) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        // Without the thread nothing takes the orders, and each is lost at once.
        let _ = thread::Builder::new().name("standard error".to_owned()).spawn(move || {
            for order in taken {
                match order {
                    Order::Write(bytes) => {
                        // Where even this cannot be written, there is nobody left to tell.
                        let _ = writer.write_all(&bytes);
                        written.fetch_sub(bytes.len(), Ordering::Relaxed);
                    }
                    Order::Tell(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { orders, waiting }
    }

    /// Waits until all is written, for a second at most.
    pub(crate) fn finish(&self) {
        let (tell, told) = mpsc::sync_channel(1);
        if self.orders.send(Order::Tell(tell)).is_ok() {
            let _ = told.recv_timeout(PATIENCE);
        }
    }
}

impl Write for Background {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let fits = waiting + bytes.len() <= MOST_WAITING;
        if !fits || self.orders.send(Order::Write(bytes.to_vec())).is_err() {
            self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing while somebody else holds it.
    #[derive(Clone, Default)]
    struct Stoppable(Arc<Mutex<Vec<u8>>>);

    impl Write for Stoppable {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_writes_to_a_stopped_terminal_waits_for_nothing_and_its_memory_is_bounded() {
        let terminal = Stoppable::default();
        let stopped = terminal.0.lock().unwrap();
        let mut background = Background::over(terminal.clone());
        for _ in 0..100 {
            background.write_all(&[b'a'; 1 << 20]).unwrap();
        }
        assert!(background.waiting.load(Ordering::Relaxed) <= MOST_WAITING);
        drop(stopped);
        background.finish();
        assert_eq!(terminal.0.lock().unwrap().len(), MOST_WAITING);
        background.write_all(b"end").unwrap();
        background.finish();
        assert!(terminal.0.lock().unwrap().ends_with(b"aend"));
    }
}
