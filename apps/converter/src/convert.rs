//! Converts one source with one converter, and reads what comes out.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    contain::Walls,
    descriptions::{BAD_INPUT, Description, FAR_END, Format, Origin, Places},
    folders,
    limits::Exceeded,
    process::{self, Ended, Finished, Task, TaskResult},
};

/// How much of a converter's log a failure carries, in bytes. The server cuts a reason after 2000 characters, and the
/// end is what matters.
const MOST_TAIL: usize = 1800;

/// A source, and what its conversion needs.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file.
    pub path: &'a Path,
    /// The job's options.
    pub options: &'a Map<String, Value>,
    /// An empty folder for the conversion.
    pub folder: &'a Path,
    /// The interpreter of the setting `python`.
    pub python: &'a Path,
    /// When the conversion must have ended.
    pub deadline: Instant,
    /// What the converter is kept away from.
    pub walls: &'a Walls,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The Markdown.
    pub content: String,
    /// What is known about the source and its conversion.
    pub metadata: Map<String, Value>,
}

/// Why nothing came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// It was stopped.
    #[error("The conversion was stopped.")]
    Stopped,
    /// This machine cannot do it now, whatever the source.
    #[error("{0}")]
    Unable(String),
    /// What the source names far from here cannot be had now, which says nothing about this machine.
    #[error("{0}")]
    Elsewhere(String),
    /// It failed.
    #[error("{message}")]
    Failed {
        /// Why, with the end of the converter's log.
        message: String,
        /// Whether another attempt may work.
        retryable: bool,
    },
}

impl ConvertError {
    /// A failure that another attempt may get over.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), retryable: true }
    }

    /// A failure that every attempt would meet.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), retryable: false }
    }
}

/// Runs the converter on the source. `on_line` sees each line of its log and must not block.
///
/// # Errors
/// [`ConvertError::Stopped`] when `stop` was cancelled, [`ConvertError::Unable`] when the work folder cannot be written
/// or nothing can be started, [`ConvertError::Failed`] or [`ConvertError::Elsewhere`] when nothing came out.
pub async fn convert(
    description: &Description,
    source: Source<'_>,
    stop: &CancellationToken,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<Converted, ConvertError> {
    let task = task(description, source).await.map_err(|error| {
        ConvertError::Unable(format!("The work folder of the converter cannot be written: {error}."))
    })?;
    let mut on_line = |line: &str| {
        tracing::debug!(line, "the converter said");
        on_line(line);
    };
    let finished = process::run(&task, stop, &mut on_line).await.map_err(|error| {
        ConvertError::Unable(format!("The converter `{}` cannot be started: {error}.", description.name))
    })?;
    succeeded(description, &task, &finished)?;
    read(description, task, finished).await
}

/// A command that fails does not say whether that is for a full disk, so this finds out: then it is not the source's
/// fault. `folder` is where the conversion worked.
///
/// # Errors
/// Those of the conversion, with [`ConvertError::Unable`] in place of a failure when nothing can be written any more.
pub(crate) async fn blaming_the_disk(
    converted: Result<Converted, ConvertError>,
    folder: &Path,
) -> Result<Converted, ConvertError> {
    let Err(ConvertError::Failed { message, retryable: true }) = converted else { return converted };
    let folder = folder.to_owned();
    let tried = tokio::task::spawn_blocking(move || folders::try_writing(&folder)).await;
    match tried.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => Err(ConvertError::passing(message)),
        Err(error) => {
            tracing::warn!(reason = message, "failed, and the disk may be why");
            Err(ConvertError::Unable(format!("Nothing can be written here any more: {error}.")))
        }
    }
}

async fn task(description: &Description, source: Source<'_>) -> io::Result<Task> {
    let (output, options) = (source.folder.join("output"), source.folder.join("options.json"));
    std::fs::write(&options, serde_json::to_vec(source.options)?)?;
    let places = Places {
        input: source.path,
        output: &output,
        options: &options,
        work: source.folder,
        python: source.python,
    };
    let words = description.command_line(&places);
    let most = description.limits.max_output_bytes;
    let result = match description.result.from {
        Origin::File => TaskResult::File(output, most),
        Origin::Stdout => TaskResult::Stdout(most),
    };
    let readable = vec![source.path.to_owned(), description.here.clone()];
    let task = Task::of(description, words, source.folder, readable, source.walls, result).await?;
    Ok(task.until(source.deadline))
}

fn succeeded(description: &Description, task: &Task, finished: &Finished) -> Result<(), ConvertError> {
    let name = &description.name;
    let told = |what: String| format!("{what}.{}", context(task, finished));
    match finished.ended {
        Ended::Exited(0) => Ok(()),
        Ended::Stopped => Err(ConvertError::Stopped),
        Ended::Exited(BAD_INPUT) => {
            Err(ConvertError::lasting(told(format!("The converter `{name}` cannot convert this source"))))
        }
        Ended::Exited(FAR_END) => Err(ConvertError::Elsewhere(told(format!(
            "The converter `{name}` cannot get what the source names"
        )))),
        Ended::Exited(code) => {
            Err(ConvertError::passing(told(format!("The converter `{name}` failed with exit code {code}"))))
        }
        Ended::Signalled(signal) => {
            Err(ConvertError::passing(told(format!("The converter `{name}` was ended by signal {signal}"))))
        }
        Ended::Over(exceeded) => Err(ConvertError::Failed {
            message: told(format!("The converter `{name}` {exceeded}")),
            retryable: exceeded.is_passing(),
        }),
    }
}

/// What a failure carries along: what its converter was refused on the network, and the end of its log.
fn context(task: &Task, finished: &Finished) -> String {
    let refused = task.way.iter().flat_map(|way| way.refused()).map(|text| format!(" {text}"));
    let mut context: String = refused.collect();
    let log = finished.log_end(MOST_TAIL.saturating_sub(context.len()));
    // How far it was is told by the progress that was reported.
    let said: Vec<&str> = log.lines().filter(|line| progress::parse_line(line).is_none()).collect();
    if !said.is_empty() {
        context.push_str(" Its log ends:\n");
        context.push_str(&said.join("\n"));
    }
    context
}

fn too_large(name: &str, most: u64) -> ConvertError {
    ConvertError::lasting(format!("The converter `{name}` {}.", Exceeded::Output(most)))
}

/// Reads and checks the result, away from the threads that keep connections and heartbeats going.
async fn read(description: &Description, task: Task, finished: Finished) -> Result<Converted, ConvertError> {
    let (name, format) = (description.name.clone(), description.result.format);
    let context = context(&task, &finished);
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = match &task.result {
            TaskResult::Stdout(_) => finished.stdout,
            TaskResult::File(path, most) => read_file(&name, path, *most)?,
        };
        parse(&name, format, bytes)
    });
    let read = reading.await.unwrap_or_else(|_| Err(ConvertError::passing("The result could not be read.")));
    read.map_err(|error| match error {
        ConvertError::Failed { message, retryable } => {
            ConvertError::Failed { message: message + &context, retryable }
        }
        other => other,
    })
}

fn read_file(name: &str, path: &PathBuf, most: u64) -> Result<Vec<u8>, ConvertError> {
    let missing = |error: io::Error| {
        ConvertError::passing(format!(
            "The converter `{name}` ended well but its result cannot be read: {error}."
        ))
    };
    // What lies there was written by a program that read a stranger's file: it must be a file, and no way to another.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(missing)?;
    if !file.metadata().map_err(missing)?.is_file() {
        return Err(missing(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(missing)?;
    if bytes.len() as u64 > most { Err(too_large(name, most)) } else { Ok(bytes) }
}

fn parse(name: &str, format: Format, bytes: Vec<u8>) -> Result<Converted, ConvertError> {
    #[derive(Deserialize)]
    struct Document {
        content: String,
        #[serde(default)]
        metadata: Option<Map<String, Value>>,
    }
    let wrong = |what: String| ConvertError::passing(format!("The result of the converter `{name}` {what}."));
    let mut converted = match format {
        Format::Markdown => {
            let content = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".to_owned()))?;
            Converted { content, metadata: Map::new() }
        }
        Format::Json => {
            let document: Document = serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("is not the JSON object that it should be: {error}")))?;
            Converted { content: document.content, metadata: document.metadata.unwrap_or_default() }
        }
    };
    if converted.content.trim().is_empty() {
        return Err(ConvertError::lasting(format!("The converter `{name}` found no text in the source.")));
    }
    converted.metadata.entry("converter").or_insert_with(|| name.into());
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn converted(script: &str, rest: &str) -> (Result<Converted, ConvertError>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "name: mine\ncontent_types: [audio]\ncommand: [sh, '{{here}}/x.sh', '{{input}}', '{{output}}', '{{options}}']\n{rest}"
        );
        std::fs::write(folder.path().join("x.sh"), script).unwrap();
        std::fs::write(folder.path().join("in.txt"), "input").unwrap();
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let description = Description::parse(&text, folder.path()).unwrap();
        let options = serde_json::json!({"a": 1});
        let source = Source {
            path: &folder.path().join("in.txt"),
            options: options.as_object().unwrap(),
            folder: &work,
            python: Path::new("python3"),
            deadline: Instant::now() + Duration::from_secs(60),
            walls: &Walls::default(),
        };
        let mut seen = Vec::new();
        let mut on_line = |line: &str| seen.extend(progress::parse_line(line).map(|event| event.percentage));
        let result = convert(&description, source, &CancellationToken::new(), &mut on_line).await;
        (result, seen)
    }

    const JSON_FILE: &str = "result: {format: json, from: file}\n";
    const MARKDOWN_STDOUT: &str = "result: {format: markdown, from: stdout}\n";

    async fn failure(script: &str, rest: &str) -> (String, bool) {
        match converted(script, rest).await.0 {
            Err(ConvertError::Failed { message, retryable }) => (message, retryable),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn json_from_a_file_with_progress() {
        let script = r#"echo '[10%] a'; echo 'Progress: 90%' >&2
            printf '{"content":"%s","metadata":{"options":%s},"more":1}' "$(cat "$1")" "$(cat "$3")" >"$2""#;
        let (result, mut seen) = converted(script, JSON_FILE).await;
        let result = result.unwrap();
        seen.sort_unstable();
        assert_eq!((result.content.as_str(), seen), ("input", vec![10, 90]));
        assert_eq!(
            Value::Object(result.metadata),
            serde_json::json!({"options": {"a": 1}, "converter": "mine"})
        );
    }

    #[tokio::test]
    async fn markdown_from_standard_output() {
        let (result, _) = converted("cat \"$1\"", MARKDOWN_STDOUT).await;
        assert_eq!(result.unwrap().content, "input");
    }

    #[tokio::test]
    async fn failures_say_why_and_whether_to_try_again() {
        let (message, retryable) = failure("echo it is a scan >&2; exit 65", JSON_FILE).await;
        assert!(message.contains("it is a scan") && !retryable, "{message}");
        let (result, _) = converted("echo '[7%] Looking'; echo no such host >&2; exit 75", JSON_FILE).await;
        let Err(ConvertError::Elsewhere(message)) = result else { panic!("{result:?}") };
        assert!(message.ends_with("Its log ends:\nno such host"), "{message}");
        let (message, retryable) = failure("seq 100000; exit 3", JSON_FILE).await;
        assert!(message.contains("exit code 3") && message.ends_with("100000") && retryable, "{message}");
        assert!(message.len() < 2000);
        let (message, retryable) = failure("kill -9 $$", JSON_FILE).await;
        assert!(message.contains("signal 9") && retryable, "{message}");
        let (message, retryable) =
            failure("sleep 60", &format!("{JSON_FILE}limits: {{timeout_seconds: 1}}")).await;
        assert!(message.contains("time limit") && retryable, "{message}");
    }

    #[tokio::test]
    async fn results_that_are_none_are_failures() {
        for (script, rest, why) in [
            ("true", JSON_FILE, "cannot be read"),
            ("echo '{\"content\":' >\"$2\"", JSON_FILE, "JSON object"),
            ("echo '{\"content\":5}' >\"$2\"", JSON_FILE, "JSON object"),
            ("printf '\\377'", MARKDOWN_STDOUT, "UTF-8"),
            ("ln -s /etc/passwd \"$2\"", JSON_FILE, "cannot be read"),
            ("mkdir \"$2\"", JSON_FILE, "not a file"),
            ("mkfifo \"$2\"", JSON_FILE, "not a file"),
        ] {
            let (message, retryable) = failure(script, rest).await;
            assert!(message.contains(why) && retryable, "{script}: {message}");
        }
        let (message, retryable) = failure("echo ' '", MARKDOWN_STDOUT).await;
        assert!(message.contains("no text") && !retryable, "{message}");
        let large = format!("{JSON_FILE}limits: {{max_output_bytes: 10}}");
        let (message, retryable) = failure("echo '{\"content\":\"long\"}' >\"$2\"", &large).await;
        assert!(message.contains("more than the 10 bytes") && !retryable, "{message}");
    }
}
