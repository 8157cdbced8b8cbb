//! Conversion on this machine outside of any job: the same descriptions, walls and limits as those of the remote
//! converter, for programs that have a file or a URL and want its Markdown here and now.
//!
//! Each [`LocalConverter`] works in a folder of its own below `temp_dir`, so that several programs, a remote converter
//! among them, may have the same one. What a killed program left there is removed by the next that opens.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    convert::Infallible,
    fs::File,
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{ContentType, FileName};
use ipnet::IpNet;
use progress::handler::{DisplayedProgress, Handled, JobStore, ProgressHandler};
use reqwest::Url;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    builtin,
    contain::{self, Walls},
    convert::{self, Source},
    converters::Converters,
    descriptions::{self, Description, DescriptionError},
    egress::Egress,
    folders::{self, Folders, FoldersError, Lock, WorkFolder},
};
pub use crate::{
    convert::{ConvertError, Converted},
    settings::SettingsError,
};

/// What a file with a URL is called: as where a server makes one for a job.
const URL_FILE: &str = "url.txt";
/// The longest URL, in bytes.
const LONGEST_URL: usize = 8192;
/// The longest time limit: no clock goes on for ever.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// After how long it is looked again whether a type without usable converter has got one.
const EXAMINED_AGAIN: Duration = Duration::from_secs(60);

/// What a program that converts here can set. The variables are those of the remote converter.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// What to convert here; every type that a description names when there are none.
    pub content_types: Vec<ContentType>,
    /// Description files and folders of them, besides the built-in ones; absolute.
    pub converters: Vec<PathBuf>,
    /// The Python of the built-in converters: a name to look for in `PATH`, or an absolute path.
    pub python: PathBuf,
    /// The folder for work in progress, of which only a subfolder is used; absolute.
    pub temp_dir: PathBuf,
    /// Where converters with `network: internet` may go besides globally routable addresses.
    pub networks: Vec<IpNet>,
    /// The only hosts, each with its subdomains, for converters with `hosts: youtube`; lower case.
    pub youtube_hosts: Vec<String>,
    /// Files and folders that no converter may read, besides `temp_dir` and where people keep secrets; absolute.
    pub closed: Vec<PathBuf>,
}

impl LocalSettings {
    /// Reads the settings: `MORAG_LOCAL_CONTENT_TYPES` (all when it is not given), and `MORAG_CONVERTERS`,
    /// `MORAG_CONVERTER_PYTHON`, `MORAG_TEMP_DIR`, `MORAG_WORKER_NETWORKS` and `MORAG_WORKER_YOUTUBE_HOSTS`. An empty
    /// variable is one that is not given.
    ///
    /// # Errors
    /// [`SettingsError`], for the first thing that is wrong.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        crate::settings::local(get)
    }
}

/// What to convert.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A file. It is read where it is, and not copied.
    File(&'a Path),
    /// What a URL leads to, for the types `web`, `youtube` and custom ones.
    Url(&'a str),
}

/// A source, and how to convert it.
#[derive(Clone, Copy, Debug)]
pub struct LocalSource<'a> {
    /// The file or the URL.
    pub input: Input<'a>,
    /// What a file is called: its extension chooses among the converters of a type. Not used for URLs.
    pub name: &'a str,
    /// What it is.
    pub content_type: &'a ContentType,
    /// What a job would have as `task_options`.
    pub options: &'a Map<String, Value>,
    /// How long the conversion may take.
    pub time_limit: Duration,
}

/// Why nothing can be converted on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The folder for work in progress cannot be used.
    #[error("{0} (MORAG_TEMP_DIR)")]
    Folder(#[from] FoldersError),
    /// A description is wrong.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// This machine does not do what is needed.
    #[error("Converters cannot be made ready: {0}.")]
    Machine(#[from] std::io::Error),
}

/// Converts on this machine. Dropping it removes its work folder.
#[derive(Debug)]
pub struct LocalConverter {
    folder: OwnFolder,
    descriptions: Vec<Description>,
    content_types: Vec<ContentType>,
    python: PathBuf,
    walls: Walls,
    types: Mutex<HashMap<ContentType, Arc<Examined>>>,
    begun: AtomicU64,
}

/// What is known of the converters of a type, and since when. Whoever finds it out holds it meanwhile.
type Examined = tokio::sync::Mutex<Option<(Instant, Result<Arc<Converters>, String>)>>;

impl LocalConverter {
    /// Reads the descriptions, takes a work folder, and removes what killed programs left in theirs. Which of the
    /// converters are usable is found out when a source needs one of its type.
    ///
    /// The memory and the environment of this process are kept from other programs of its user from now on, because
    /// commands run as that user.
    ///
    /// # Errors
    /// [`LocalError`] when the work folder or a description cannot be used.
    pub async fn open(settings: LocalSettings) -> Result<Self, LocalError> {
        contain::guard_this_process()?;
        for lack in contain::Kernel::tried().lacks() {
            tracing::warn!("{lack}");
        }
        let mut closed = settings.closed;
        closed.push(settings.temp_dir.clone());
        let walls = Walls::new(closed, Egress::new(settings.networks, &settings.youtube_hosts));
        let (temp_dir, mut paths) = (settings.temp_dir, settings.converters);
        // Others may be opening or cleaning, and processes that were left take a moment to end.
        let opening = tokio::task::spawn_blocking(move || {
            let folder = OwnFolder::open(&temp_dir)?;
            paths.push(builtin::materialise(folder.0.root())?);
            Ok::<_, LocalError>((folder, descriptions::load(&paths)?))
        });
        let (folder, descriptions) = opening.await.map_err(io::Error::other)??;
        Ok(Self {
            folder,
            descriptions,
            content_types: settings.content_types,
            python: settings.python,
            walls,
            types: Mutex::default(),
            begun: AtomicU64::new(0),
        })
    }

    /// Finds out whether a converter for this type is usable here.
    ///
    /// # Errors
    /// [`ConvertError::Unable`] says which converters there could be, what they lack, and how to install it.
    pub async fn check(&self, content_type: &ContentType) -> Result<(), ConvertError> {
        self.converters(content_type).await.map(|_| ())
    }

    /// Converts a source. `progress` hears how far it is, in percent, and what it does, and must not block.
    ///
    /// Nothing of the conversion is left when this returns, whatever way it ends, and neither when the future is
    /// dropped: no process and no file.
    ///
    /// # Errors
    /// [`ConvertError::Stopped`] when `stop` was cancelled, [`ConvertError::Unable`] when this machine has no converter
    /// for the type or cannot run it, [`ConvertError::Failed`] or [`ConvertError::Elsewhere`] when nothing came out.
    pub async fn convert(
        &self,
        source: LocalSource<'_>,
        stop: &CancellationToken,
        progress: &mut (dyn FnMut(u8, &str) + Send),
    ) -> Result<Converted, ConvertError> {
        let deadline = Instant::now() + source.time_limit.min(LONGEST);
        let converters = stop.run_until_cancelled(self.converters(source.content_type)).await;
        let converters = converters.ok_or(ConvertError::Stopped)??;
        let name = source.file_name();
        let description = converters.choose(source.content_type, name.as_str()).ok_or_else(|| {
            let content_type = source.content_type;
            ConvertError::lasting(format!(
                "No converter here takes {content_type} sources named like {name}."
            ))
        })?;
        let folder =
            self.folder.0.work(&format!("conversion-{}", self.begun.fetch_add(1, Ordering::Relaxed)));
        let folder = folder.map_err(|error| no_folder(&error))?;
        progress(0, "Converting");
        let reported = Reported::new(progress);
        let converted = self.run(description, source, &folder, deadline, stop, reported).await;
        let converted = convert::blaming_the_disk(converted, folder.path()).await;
        folder.remove().await;
        converted
    }

    async fn run(
        &self,
        description: &Description,
        source: LocalSource<'_>,
        folder: &WorkFolder,
        deadline: Instant,
        stop: &CancellationToken,
        mut reported: Reported<'_>,
    ) -> Result<Converted, ConvertError> {
        let (path, scratch) = (source.put_into(folder.path())?, folder.path().join("scratch"));
        std::fs::create_dir(&scratch).map_err(|error| no_folder(&error))?;
        let source = Source {
            path: &path,
            options: source.options,
            folder: &scratch,
            python: &self.python,
            deadline,
            walls: &self.walls,
        };
        convert::convert(description, source, stop, &mut |line| reported.line(line)).await
    }

    /// The usable converters of a type. What keeps all of them from being usable may be mended, so it is looked again
    /// after a while.
    async fn converters(&self, content_type: &ContentType) -> Result<Arc<Converters>, ConvertError> {
        if !self.content_types.is_empty() && !self.content_types.contains(content_type) {
            return Err(ConvertError::Unable(format!(
                "{content_type} sources are not converted on this machine: MORAG_LOCAL_CONTENT_TYPES does not name \
                 that type."
            )));
        }
        let examined = {
            let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(types.entry(content_type.clone()).or_default())
        };
        let mut examined = examined.lock().await;
        if let Some((since, found)) = examined.as_ref()
            && (found.is_ok() || since.elapsed() < EXAMINED_AGAIN)
        {
            return found.clone().map_err(ConvertError::Unable);
        }
        let found = self.examine(content_type).await;
        *examined = Some((Instant::now(), found.clone()));
        found.map_err(ConvertError::Unable)
    }

    async fn examine(&self, content_type: &ContentType) -> Result<Arc<Converters>, String> {
        let (descriptions, python) = (self.descriptions.clone(), self.python.clone());
        let wanted = std::slice::from_ref(content_type);
        let checked =
            Converters::check(descriptions, wanted, python, &self.folder.0, self.walls.clone()).await;
        checked.map(Arc::new).map_err(|error| {
            format!(
                "No converter on this machine takes the content type `{content_type}`.{} Install what is missing, or \
                 name a description of a converter of your own in MORAG_CONVERTERS; `remote-converter doctor` shows \
                 what there is.",
                error.tried()
            )
        })
    }
}

impl LocalSource<'_> {
    /// The name as a remote converter would see it.
    fn file_name(&self) -> FileName {
        FileName::from_client(match self.input {
            Input::File(_) => self.name,
            Input::Url(_) => URL_FILE,
        })
    }

    /// Puts the source into a work folder, under its name: a link to a file, or a file with the URL.
    fn put_into(&self, folder: &Path) -> Result<PathBuf, ConvertError> {
        let folder = folder.join("source");
        std::fs::create_dir(&folder).map_err(|error| no_folder(&error))?;
        let path = folder.join(self.file_name().as_str());
        match self.input {
            Input::File(file) => {
                let file = readable(file).map_err(|error| {
                    ConvertError::lasting(format!("The file {} cannot be read: {error}.", file.display()))
                })?;
                symlink(file, &path).map_err(|error| no_folder(&error))?;
            }
            Input::Url(url) => {
                check_url(self.content_type, url).map_err(ConvertError::lasting)?;
                std::fs::write(&path, url).map_err(|error| no_folder(&error))?;
            }
        }
        Ok(path)
    }
}

/// The place of a file that this process may read.
fn readable(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    // Opening what is no file could wait for whoever writes to it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(&path)?;
    Ok(path)
}

/// Whether a job could be created of this URL.
fn check_url(content_type: &ContentType, url: &str) -> Result<(), String> {
    match content_type {
        ContentType::Web | ContentType::Youtube | ContentType::Custom(_) => {}
        ContentType::Audio | ContentType::Video | ContentType::Document | ContentType::Image => {
            return Err(format!("The source is a URL, and {content_type} sources are files."));
        }
    }
    if !is_http(url) || url.len() > LONGEST_URL || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "The source is not a URL that begins with http:// or https://, has no spaces or control characters, and \
             is no longer than {LONGEST_URL} bytes."
        ));
    }
    Ok(())
}

/// The scheme may be spelled in any letters, as the converters take it.
fn is_http(url: &str) -> bool {
    let begins = url.get(.."https://".len()).unwrap_or(url).to_ascii_lowercase();
    (begins.starts_with("http://") || begins.starts_with("https://"))
        && Url::parse(url).is_ok_and(|url| url.has_host())
}

fn no_folder(error: &io::Error) -> ConvertError {
    ConvertError::Unable(format!("A work folder cannot be written: {error}."))
}

/// Tells how far a conversion is, by the rules for jobs.
struct Reported<'a> {
    handler: ProgressHandler<Displayed>,
    tell: &'a mut (dyn FnMut(u8, &str) + Send),
}

/// What the one job of a handler displays.
#[derive(Debug, Default)]
struct Displayed(Mutex<Option<DisplayedProgress>>);

impl JobStore for Displayed {
    type Error = Infallible;

    fn update(&self, _job_id: &str, progress: &DisplayedProgress) -> Result<(), Infallible> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        Ok(())
    }
}

impl<'a> Reported<'a> {
    fn new(tell: &'a mut (dyn FnMut(u8, &str) + Send)) -> Self {
        Self { handler: ProgressHandler::new(Displayed::default()), tell }
    }

    fn line(&mut self, line: &str) {
        if self.handler.process_log_line(line, "local") != Handled::Updated {
            return;
        }
        let displayed = self.handler.store().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(displayed) = displayed {
            (self.tell)(displayed.percentage, &displayed.summary);
        }
    }
}

/// A folder below `temp_dir` that nobody else has, as long as the value lives.
#[derive(Debug)]
struct OwnFolder(Folders);

impl OwnFolder {
    fn open(temp_dir: &Path) -> Result<Self, LocalError> {
        let all = temp_dir.join("local");
        folders::take(temp_dir)?;
        folders::take(&all)?;
        // A folder that is just being made looks like one that was left.
        let _making = Lock::wait(&temp_dir.join("local.lock"))?;
        for entry in std::fs::read_dir(&all)? {
            // Taking it ends what still works there. One that is in use is not left.
            if let Ok(left) = Folders::open(&entry?.path()) {
                drop(Self(left));
            }
        }
        Ok(Self(Folders::open(&all.join(format!("{:016x}", rand::random::<u64>())))?))
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if let Err(error) = folders::remove_all(self.0.root()) {
            tracing::warn!(folder = %self.0.root().display(), %error, "a work folder could not be removed");
        }
    }
}
