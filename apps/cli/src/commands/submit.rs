use std::path::{Path, PathBuf};

use api::{
    create::{CreateJobRequest, CreateJobResponse, PriorityName},
    result::ResultDocument,
    status::StatusResponse,
};
use clap::{Args, ValueEnum};
use client::{Client, retrying};
use domain::{ContentType, WebhookUrl};
use futures::{StreamExt, stream::FuturesOrdered};
use ingestion::detect;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Each, Session, TRIES, save};
use crate::{
    bars::{Bar, Bars},
    failure::Failure,
    filters::content_type,
    follow::{self, Pace},
    seconds,
};

#[derive(Args, Debug)]
pub(crate) struct SubmitArgs {
    /// Files; or URLs, with --type web or youtube
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// What they are: audio, video, document, image, web, youtube, or a custom type spelled x-…; by default told from
    /// the extension, or else from the first bytes
    #[arg(long = "type", value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_type: Option<ContentType>,
    /// Wait until the jobs have ended, and write their Markdown
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: the folder for the Markdown, in files named like the sources; - is standard output, the default
    #[arg(long, value_name = "DIR", requires = "wait")]
    pub(crate) out: Option<PathBuf>,
    /// An option for the converter; the value may be JSON, and is text otherwise; may be given several times
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    pub(crate) options: Vec<(String, Value)>,
    /// How long one attempt may run, such as 90s, 15m or 2h; by default what the server has for the type
    #[arg(long, value_name = "TIME", value_parser = seconds::parse)]
    pub(crate) timeout: Option<u64>,
    /// How long the job may wait for a worker; by default a day
    #[arg(long, value_name = "TIME", value_parser = seconds::parse)]
    pub(crate) queue_timeout: Option<u64>,
    /// How long the whole job may take, whatever happens; by default there is no such limit
    #[arg(long, value_name = "TIME", value_parser = seconds::parse)]
    pub(crate) total_timeout: Option<u64>,
    /// How urgent it is; by default normal
    #[arg(long)]
    pub(crate) priority: Option<Priority>,
    /// How many failed attempts are followed by another, at most 20; by default 3
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(0..=20))]
    pub(crate) max_retries: Option<u64>,
    /// Who is told when the job has ended: a URL that takes Standard Webhooks, https:// unless the server admits its
    /// network; `remote-jobs webhook-secret show` writes what the messages are signed with
    #[arg(long, value_name = "URL", value_parser = webhook_url)]
    pub(crate) webhook_url: Option<WebhookUrl>,
    /// Your own id for the work; by default a new one for each file
    #[arg(long, value_name = "ID")]
    pub(crate) task_id: Option<String>,
    /// Makes it safe to run the same command again: one file under one key is one upload and one job
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Priority {
    /// Two hours ahead of low
    High,
    /// One hour ahead of low
    Normal,
    /// In the order of creation
    Low,
}

impl From<Priority> for PriorityName {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Normal => Self::Normal,
            Priority::Low => Self::Low,
        }
    }
}

fn webhook_url(text: &str) -> Result<WebhookUrl, String> {
    text.parse().map_err(|error: domain::InvalidValue| error.to_string())
}

pub(crate) fn option(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(session: &Session<'_>, args: &SubmitArgs) -> Result<(), Failure> {
    if args.idempotency_key.is_some() && args.files.len() > 1 {
        return Err(Failure::Usage(
            "One idempotency key stands for one job; submit the files one by one.".to_owned(),
        ));
    }
    let client = session.client()?;
    let mut folder = args.folder().map(save::Folder::create).transpose()?;
    let bars = Bars::new(session.output);
    let mut each = Each::of(session.output, &args.files);
    let mut jobs = Vec::new();
    for source in &args.files {
        let submitted = submit(&client, args, source, &bars).await;
        if let Some(job) = each.note(source, submitted)? {
            announce(session, args, source, &job)?;
            let save_to = folder.as_mut().map(|folder| folder.path_for(source));
            jobs.push(Waited { source, job_id: job.created.job_id, save_to, bar: None });
        }
    }
    if args.wait {
        wait(session, &client, &bars, jobs, &mut each).await?;
    }
    each.end()
}

impl SubmitArgs {
    /// Where results are saved, unless they go to standard output.
    fn folder(&self) -> Option<&Path> {
        self.out.as_deref().filter(|out| out.as_os_str() != "-")
    }

    /// The type of a source, which for a URL must be said.
    fn type_of(&self, source: &str) -> Result<ContentType, Failure> {
        match &self.content_type {
            Some(ContentType::Web | ContentType::Youtube) => {}
            _ if detect::is_url(source) => {
                return Err(Failure::Usage(
                    "A URL is submitted with --type web or --type youtube; download any other file first."
                        .to_owned(),
                ));
            }
            Some(_) | None => {}
        }
        let told = || Ok(detect::content_type(Path::new(source))?);
        self.content_type.clone().map_or_else(told, Ok)
    }

    fn request(&self, source_file_path: String, content_type: ContentType, key: &str) -> CreateJobRequest {
        // The same for every run under one key, or the server would take it for another request.
        let task_id = self.task_id.clone().unwrap_or_else(|| format!("cli-{key}"));
        CreateJobRequest {
            source_file_path,
            content_type,
            task_options: self.options.iter().cloned().collect::<Map<_, _>>(),
            ingestion_task_id: task_id,
            timeout_seconds: self.timeout,
            queue_timeout_seconds: self.queue_timeout,
            total_timeout_seconds: self.total_timeout,
            fallback_to_local: None,
            priority: self.priority.map(PriorityName::from),
            max_retries: self.max_retries,
            webhook_url: self.webhook_url.clone(),
        }
    }
}

/// A job that was created.
struct Submitted {
    created: CreateJobResponse,
    request: CreateJobRequest,
}

async fn submit(client: &Client, args: &SubmitArgs, source: &str, bars: &Bars) -> Result<Submitted, Failure> {
    let content_type = args.type_of(source)?;
    // With a key of its own every creation can be repeated when its answer is lost.
    let key = args.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let source_file_path =
        if detect::is_url(source) { source.to_owned() } else { upload(client, source, &key, bars).await? };
    let request = args.request(source_file_path, content_type, &key);
    let created = retrying(&TRIES, || client.create_job(&request, Some(&key))).await?;
    Ok(Submitted { created, request })
}

async fn upload(client: &Client, source: &str, key: &str, bars: &Bars) -> Result<String, Failure> {
    let path = Path::new(source);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bar = bars.transfer(&name);
    let uploaded = client.upload_file_as(path, &name, key, &|done, total| bar.bytes(done, total)).await?;
    Ok(uploaded.source_file_path)
}

fn announce(session: &Session<'_>, args: &SubmitArgs, source: &str, job: &Submitted) -> Result<(), Failure> {
    let (created, request) = (&job.created, &job.request);
    session.output.value(&json!({
        "event": "created",
        "file": source,
        "job_id": created.job_id,
        "status": created.status,
        "created_at": created.created_at,
        "content_type": request.content_type,
        "source_file_path": request.source_file_path,
        "ingestion_task_id": request.ingestion_task_id,
    }))?;
    let line = format!("{}  {}  {}  {source}", created.job_id, created.status, request.content_type);
    match (args.wait, session.global.quiet) {
        // Standard output is for the Markdown then.
        (true, _) => session.output.note(&line),
        // Just the id is what a script stores.
        (false, true) => session.output.line(&created.job_id)?,
        (false, false) => session.output.line(&line)?,
    }
    Ok(())
}

/// A job that is waited for.
struct Waited<'a> {
    source: &'a str,
    job_id: String,
    save_to: Option<PathBuf>,
    bar: Option<Bar>,
}

/// Follows all jobs at once. Results are saved as they come; on standard output they appear in the files' order.
async fn wait(
    session: &Session<'_>,
    client: &Client,
    bars: &Bars,
    mut jobs: Vec<Waited<'_>>,
    each: &mut Each<'_>,
) -> Result<(), Failure> {
    let job_ids: Vec<String> = jobs.iter().map(|job| job.job_id.clone()).collect();
    session.jobs_go_on(&job_ids);
    for job in &mut jobs {
        job.bar = bars.shown().then(|| bars.job(job.source));
    }
    let sources: Vec<&str> = jobs.iter().map(|job| job.source).collect();
    let pace = Pace::of(jobs.len(), bars.shown());
    let mut ends: FuturesOrdered<_> =
        jobs.into_iter().map(|job| finish(session, client, bars, pace, job)).collect();
    let mut sources = sources.into_iter();
    while let (Some(source), Some(end)) = (sources.next(), ends.next().await) {
        if let Some(Some(document)) = each.note(source, end)? {
            bars.aside(|| session.output.markdown(&document.content))?;
        }
    }
    Ok(())
}

/// Follows one job and saves its result, or gives it back to be written to standard output.
async fn finish(
    session: &Session<'_>,
    client: &Client,
    bars: &Bars,
    pace: Pace,
    job: Waited<'_>,
) -> Result<Option<ResultDocument>, Failure> {
    let ended = follow::follow(client, &job.job_id, pace, |now| tell(session, &job, now)).await?;
    drop(job.bar);
    if let Err(failure) = follow::completed(&ended) {
        session.output.value(&json!({"event": "ended", "file": job.source, "job": ended}))?;
        return Err(failure);
    }
    let document = retrying(&TRIES, || client.result(&job.job_id)).await?;
    let Some(path) = job.save_to else {
        session
            .output
            .value(&json!({"event": "ended", "file": job.source, "job": ended, "result": document}))?;
        return Ok(Some(document));
    };
    save::whole(&path, &document.content)?;
    session.output.value(&json!({"event": "ended", "file": job.source, "job": ended, "saved": path}))?;
    bars.aside(|| session.output.note(&format!("Saved {}", path.display())));
    Ok(None)
}

/// Tells a change: on the job's bar, or as a line beside the answer.
fn tell(session: &Session<'_>, job: &Waited<'_>, now: &StatusResponse) -> Result<(), Failure> {
    match &job.bar {
        Some(bar) => bar.percent(now.percentage, said(now)),
        None => session.output.note(&follow::line(now)),
    }
    if follow::has_ended(&now.status) {
        return Ok(());
    }
    session.output.value(&json!({"event": "status", "file": job.source, "job": now}))
}

/// What a bar says.
fn said(job: &StatusResponse) -> String {
    let message =
        job.progress_message.as_deref().filter(|_| job.status == "processing").unwrap_or(&job.status);
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(line: &str) -> SubmitArgs {
        let cli = Cli::try_parse_from(format!("remote-jobs submit {line}").split(' ')).unwrap();
        let Command::Submit(args) = cli.command else { panic!("another command") };
        args
    }

    #[test]
    fn options_are_json_or_text() {
        for (text, value) in [
            ("a=1", json!(1)),
            ("a=true", json!(true)),
            ("a=[1,2]", json!([1, 2])),
            ("a=en", json!("en")),
            ("a=x=y", json!("x=y")),
            ("a=\"1\"", json!("1")),
            ("a=", json!("")),
        ] {
            assert_eq!(option(text), Ok(("a".to_owned(), value)));
        }
        assert!(option("a").is_err() && option("=1").is_err());
    }

    #[test]
    fn a_url_needs_its_type() {
        let url = "https://example.com/talk.mp3";
        assert_eq!(args(&format!("{url} --type web")).type_of(url).unwrap(), ContentType::Web);
        for line in [url.to_owned(), format!("{url} --type audio")] {
            let failure = args(&line).type_of(url).unwrap_err();
            assert!(failure.code() == 2 && failure.to_string().contains("--type web"));
        }
        assert_eq!(args("a.mp3").type_of("a.mp3").unwrap(), ContentType::Audio);
        assert_eq!(args("a.mp3 --type video").type_of("a.mp3").unwrap(), ContentType::Video);
    }

    #[test]
    fn one_key_makes_one_request() {
        let args = args(
            "a.mp3 --option lang=en --timeout 1m --total-timeout 2h --webhook-url https://h/x?y=z --priority low \
             --max-retries 1",
        );
        let request = || args.request("p".into(), ContentType::Audio, "key");
        let json = serde_json::to_value(request()).unwrap();
        assert_eq!(json, serde_json::to_value(request()).unwrap());
        assert_eq!(
            json,
            json!({
                "source_file_path": "p", "content_type": "audio", "task_options": {"lang": "en"},
                "ingestion_task_id": "cli-key", "timeout_seconds": 60, "total_timeout_seconds": 7200,
                "priority": "low", "max_retries": 1, "webhook_url": "https://h/x?y=z",
            })
        );
    }

    #[test]
    fn results_go_to_a_folder_or_to_standard_output() {
        assert_eq!(args("a --wait --out texts").folder(), Some(Path::new("texts")));
        assert_eq!(args("a --wait --out -").folder(), None);
        assert_eq!(args("a --wait").folder(), None);
    }
}
