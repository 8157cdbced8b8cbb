//! A pipeline in a folder of its own, whose conversions, library and webhooks follow a script. What is outside of the
//! service outlives its restarts.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use domain::{ContentType, Timestamp, Tried};
use futures::future::BoxFuture;
use ingest::{
    clock::Clock,
    folder::{Folder, Incoming},
    pipeline::{Limits, Parts, Pipeline, Workers},
    seams::{Conversion, Courier, Made, Message, Shelf, ShelfError, Unmade, Work},
    secret::SigningSecret,
    store::{Left, Store},
    task::{Content, Entry, Source, Spec, Task},
};
use retrieval::{Chunk, Document, Hit};
use serde_json::{Map, json};
use tokio::time::Instant;
use uuid::Uuid;

/// The time of day as tokio's clock has it, which tests pause.
pub(crate) struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000).plus(self.0.elapsed())
    }
}

type Converts = dyn Fn(Work) -> BoxFuture<'static, Result<Made, String>> + Send + Sync;
type Stores = dyn Fn(usize) -> BoxFuture<'static, Result<(), ShelfError>> + Send + Sync;
type Carries = dyn Fn(Message) -> BoxFuture<'static, Tried> + Send + Sync;

/// Document, task and index.
type Key = (String, String, usize);

/// What is outside of the service.
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    converts: Box<Converts>,
    stores: Box<Stores>,
    carries: Box<Carries>,
    /// What conversions that fail leave behind.
    left: Left,
    /// What is stored.
    pub(crate) chunks: Mutex<BTreeMap<Key, (String, serde_json::Value)>>,
    store_calls: AtomicUsize,
    /// What arrived at webhooks.
    pub(crate) told: Mutex<Vec<Message>>,
    /// The remote jobs that were cancelled because nobody waits for them.
    pub(crate) abandoned: Mutex<Vec<String>>,
}

impl World {
    /// Everything works at once: files are converted to their text.
    pub(crate) fn new() -> Self {
        Self {
            clock: Arc::new(TestClock(Instant::now())),
            converts: Box::new(|work| Box::pin(async move { as_text(&work) })),
            stores: Box::new(|_| Box::pin(async { Ok(()) })),
            carries: Box::new(|_| Box::pin(async { Tried::Taken })),
            left: Left::Nothing,
            chunks: Mutex::default(),
            store_calls: AtomicUsize::new(0),
            told: Mutex::default(),
            abandoned: Mutex::default(),
        }
    }

    pub(crate) fn converting<F: Future<Output = Result<Made, String>> + Send + 'static>(
        self,
        converts: impl Fn(Work) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { converts: Box::new(move |work| Box::pin(converts(work))), ..self }
    }

    /// Conversions that fail leave this behind.
    pub(crate) fn leaving(self, left: Left) -> Self {
        Self { left, ..self }
    }

    /// `stores` is given how often it was called before, and what it does comes after the chunks are stored.
    pub(crate) fn storing<F: Future<Output = Result<(), ShelfError>> + Send + 'static>(
        self,
        stores: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { stores: Box::new(move |calls| Box::pin(stores(calls))), ..self }
    }

    /// What `carries` does comes after the message has arrived.
    pub(crate) fn carrying<F: Future<Output = Tried> + Send + 'static>(
        self,
        carries: impl Fn(Message) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { carries: Box::new(move |message| Box::pin(carries(message))), ..self }
    }

    /// The texts that are stored of a document.
    pub(crate) fn texts(&self, document: &str) -> Vec<String> {
        let chunks = self.chunks.lock().unwrap();
        chunks.iter().filter(|((of, ..), _)| of == document).map(|(_, (text, _))| text.clone()).collect()
    }
}

/// The source as it is, converted here.
pub(crate) fn as_text(work: &Work) -> Result<Made, String> {
    let bytes = std::fs::read(&work.source).map_err(|error| error.to_string())?;
    Ok(made(&String::from_utf8_lossy(&bytes), "local"))
}

pub(crate) fn made(text: &str, method: &'static str) -> Made {
    let metadata = Map::from_iter([("converter".to_owned(), json!("scripted"))]);
    let content = Content { text: text.to_owned(), metadata, processing_time: 1.5 };
    Made { content, method, left: Left::Nothing }
}

struct Scripted(Arc<World>);

#[async_trait]
impl Conversion for Scripted {
    async fn convert(&self, work: Work) -> Result<Made, Unmade> {
        (self.0.converts)(work).await.map_err(|message| Unmade { message, left: self.0.left.clone() })
    }

    async fn abandon(&self, job_id: &str) -> Result<String, String> {
        self.0.abandoned.lock().unwrap().push(job_id.to_owned());
        Ok("The remote job was cancelled.".to_owned())
    }
}

#[async_trait]
impl Shelf for Scripted {
    async fn store(&self, document: Document<'_>, chunks: &[Chunk]) -> Result<usize, ShelfError> {
        {
            let mut stored = self.0.chunks.lock().unwrap();
            if document.replace {
                stored.retain(|(of, task, _), _| of != document.id || task == document.task_id);
            }
            for chunk in chunks {
                let key = (document.id.to_owned(), document.task_id.to_owned(), chunk.index);
                let said = json!({
                    "metadata": document.metadata,
                    "source_type": document.source_type,
                    "processing_method": document.processing_method,
                });
                stored.insert(key, (chunk.text.clone(), said));
            }
        }
        (self.0.stores)(self.0.store_calls.fetch_add(1, Ordering::SeqCst)).await?;
        Ok(chunks.len())
    }

    async fn search(
        &self,
        query: &str,
        limit: usize,
        document_id: Option<&str>,
    ) -> Result<Vec<Hit>, ShelfError> {
        let stored = self.0.chunks.lock().unwrap();
        let fits = stored.iter().filter(|((document, ..), (text, _))| {
            text.contains(query) && document_id.is_none_or(|wanted| wanted == document)
        });
        let hit = |((document, _, index), (text, _)): (&Key, &(String, _))| Hit {
            score: 1.0,
            document_id: document.clone(),
            chunk_index: *index,
            text: text.clone(),
            metadata: Map::new(),
        };
        Ok(fits.map(hit).take(limit).collect())
    }

    async fn delete(&self, document_id: &str) -> Result<(), ShelfError> {
        self.0.chunks.lock().unwrap().retain(|(of, ..), _| of != document_id);
        Ok(())
    }
}

#[async_trait]
impl Courier for Scripted {
    async fn carry(&self, message: &Message) -> Tried {
        self.0.told.lock().unwrap().push(message.clone());
        (self.0.carries)(message.clone()).await
    }
}

/// Waits longer each time: what is waited for may take moments or, by a paused clock, days.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    async fn longer(&mut self) {
        tokio::time::sleep(Duration::from_millis(1 << self.0.min(20))).await;
        self.0 += 1;
    }
}

/// A running pipeline.
pub(crate) struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) pipeline: Pipeline,
    workers: Workers,
    dir: tempfile::TempDir,
}

pub(crate) const LIMITS: Limits = Limits {
    concurrent_tasks: 4,
    retention: Duration::from_secs(7 * 86_400),
    remote_timeout: Duration::from_secs(1800),
};

impl Bench {
    pub(crate) async fn new(world: World) -> Self {
        Self::of(Arc::new(world), tempfile::tempdir().unwrap()).await
    }

    async fn of(world: Arc<World>, dir: tempfile::TempDir) -> Self {
        let (pipeline, workers) = Pipeline::start(parts(&world, dir.path()).await).await.unwrap();
        Self { world, pipeline, workers, dir }
    }

    /// Ends the service where it is, and starts it again.
    pub(crate) async fn crash(self) -> Self {
        let Self { world, pipeline, workers, dir } = self;
        workers.abort().await;
        drop(pipeline);
        Self::of(world, dir).await
    }

    /// Stops the service in order, and starts it again.
    pub(crate) async fn restart(self) -> Self {
        let Self { world, pipeline, workers, dir } = self;
        workers.stop().await;
        drop(pipeline);
        Self::of(world, dir).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A source that has arrived.
    pub(crate) fn incoming(&self, text: &str) -> Incoming {
        let mut incoming = self.pipeline.parts().folder.incoming().unwrap();
        std::io::Write::write_all(&mut incoming.take().unwrap(), text.as_bytes()).unwrap();
        incoming
    }

    pub(crate) async fn accept(&self, spec: Spec, text: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.pipeline.accept(id, spec, Some(self.incoming(text))).await.unwrap();
        id
    }

    pub(crate) async fn task(&self, id: Uuid) -> Task {
        self.pipeline.store().task(id).await.unwrap().unwrap()
    }

    pub(crate) async fn history(&self, id: Uuid) -> Vec<Entry> {
        self.pipeline.store().history(id).await.unwrap()
    }

    pub(crate) async fn events(&self, id: Uuid) -> Vec<String> {
        self.history(id).await.into_iter().map(|entry| entry.event).collect()
    }

    /// The task once this holds of it.
    pub(crate) async fn until(&self, id: Uuid, holds: impl Fn(&Task) -> bool) -> Task {
        let mut wait = Wait::default();
        loop {
            let task = self.task(id).await;
            if holds(&task) {
                return task;
            }
            wait.longer().await;
        }
    }

    /// The task once it has ended, its webhook is told, and nothing works at it any more.
    pub(crate) async fn ended(&self, id: Uuid) -> Task {
        let task = self.until(id, |task| task.phase.has_ended()).await;
        let mut wait = Wait::default();
        loop {
            let events = self.events(id).await;
            let told = events.iter().any(|event| event == "webhook_told" || event == "webhook_given_up");
            if (told || task.spec.webhook_url.is_none())
                && self.pipeline.seen(id).is_none()
                && !self.pipeline.parts().folder.source(id).exists()
            {
                return task;
            }
            wait.longer().await;
        }
    }

    /// Waits until this has happened to a task.
    pub(crate) async fn happened(&self, id: Uuid, event: &str) {
        let mut wait = Wait::default();
        while !self.events(id).await.iter().any(|found| found == event) {
            wait.longer().await;
        }
    }

    /// How many files wait in the data folder.
    pub(crate) fn files(&self) -> usize {
        ["incoming", "sources"]
            .map(|folder| std::fs::read_dir(self.path().join(folder)).unwrap().count())
            .into_iter()
            .sum()
    }
}

/// The lock of a run that was ended stays until what it was writing is written.
async fn parts(world: &Arc<World>, path: &Path) -> Parts {
    let folder = loop {
        match Folder::open(path) {
            Ok(folder) => break Arc::new(folder),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    Parts {
        store: Store::open(&folder).unwrap(),
        folder,
        conversion: Arc::new(Scripted(Arc::clone(world))),
        shelf: Arc::new(Scripted(Arc::clone(world))),
        courier: Arc::new(Scripted(Arc::clone(world))),
        secret: secret(),
        clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
        limits: LIMITS,
    }
}

/// What a test's service signs with.
pub(crate) fn secret() -> SigningSecret {
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=".parse().unwrap()
}

/// A file to convert, under a name of its own.
pub(crate) fn spec(document: &str) -> Spec {
    Spec {
        source: Source::File { name: "notes.md".to_owned(), size: 5 },
        content_type: ContentType::Document,
        document_id: document.to_owned(),
        replace_existing: false,
        webhook_url: None,
        metadata: Map::new(),
        options: Map::new(),
        chunk_size: None,
        chunk_overlap: None,
        chunking_strategy: None,
        remote: false,
        remote_timeout: None,
        fallback_to_local: true,
    }
}
