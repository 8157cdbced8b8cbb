use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use ingestion::{ConversionTask, Converted, LocalConversion, Source};
use remote_converter::local::{Input, LocalConverter, LocalError, LocalSettings, LocalSource};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a conversion on this machine may take. A person who does not want to wait so long presses Ctrl-C.
const TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Converts on this machine, some files at a time. Nothing is made ready for it before the first.
pub(super) struct Here {
    settings: LocalSettings,
    opened: OnceCell<LocalConverter>,
    slots: Semaphore,
}

impl Here {
    pub(super) fn new(settings: LocalSettings, at_a_time: usize) -> Self {
        Self { settings, opened: OnceCell::new(), slots: Semaphore::new(at_a_time) }
    }

    async fn opened(&self) -> Result<&LocalConverter, LocalError> {
        self.opened.get_or_try_init(|| LocalConverter::open(self.settings.clone())).await
    }
}

/// Converts one file on this machine. What has failed is not tried again, however many of the file's jobs have too.
pub(super) struct Once<'a, L> {
    local: &'a L,
    failed: OnceLock<String>,
}

impl<'a, L> Once<'a, L> {
    pub(super) fn of(local: &'a L) -> Self {
        Self { local, failed: OnceLock::new() }
    }
}

impl<L: LocalConversion + Sync> LocalConversion for Once<'_, L> {
    async fn convert(
        &self,
        task: &ConversionTask,
        progress: &(dyn Fn(u8, &str) + Sync),
    ) -> Result<Converted, String> {
        if let Some(message) = self.failed.get() {
            return Err(message.clone());
        }
        let converted = self.local.convert(task, progress).await;
        converted.inspect_err(|message| {
            self.failed.get_or_init(|| message.clone());
        })
    }
}

impl LocalConversion for Here {
    async fn convert(
        &self,
        task: &ConversionTask,
        progress: &(dyn Fn(u8, &str) + Sync),
    ) -> Result<Converted, String> {
        let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
        let converter = self.opened().await.map_err(|error| error.to_string())?;
        let (input, name) = match &task.source {
            Source::File { path, name } => (Input::File(path), name.as_str()),
            Source::Url(url) => (Input::Url(url), ""),
        };
        let (content_type, options) = (&task.content_type, &task.options);
        let source = LocalSource { input, name, content_type, options, time_limit: TIME };
        let begun = Instant::now();
        // Dropping the future ends it, so nothing else needs to.
        let never = CancellationToken::new();
        let mut told = |percentage: u8, message: &str| progress(percentage, message);
        let converted = converter.convert(source, &never, &mut told).await;
        let converted = converted.map_err(|error| error.to_string())?;
        Ok(Converted {
            content: converted.content,
            metadata: converted.metadata,
            processing_time: begun.elapsed().as_secs_f64(),
        })
    }
}
