use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::error::ObjectError;
use super::schema;
use crate::folder::Folder;

/// More idle connections than this are closed: each holds a cache of up to 2 MB.
const MOST_IDLE: usize = 16;

/// Connections that read beside the writer and never wait for it.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    _folder: Arc<Folder>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, folder: Arc<Folder>) -> Self {
        Self { path, idle: Mutex::default(), _folder: folder }
    }

    /// Runs `work` on a thread that may wait for the disk.
    pub(super) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, ObjectError>
    where
        F: FnOnce(&Connection) -> Result<T, ObjectError> + Send + 'static,
        T: Send + 'static,
    {
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let result = work(&connection);
            readers.give_back(connection);
            result
        })
        .await?
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_for_reading(&self.path), Ok)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }
}
