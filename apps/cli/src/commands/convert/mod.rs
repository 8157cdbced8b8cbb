//! Converting files into Markdown, remotely or on this machine, and going on where an earlier run was interrupted.

mod done;
mod failed;
mod here;
mod plan;
mod tell;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, SystemTime},
};

use api::list::ListRequest;
use clap::Args;
use domain::ContentType;
use futures::{Stream, StreamExt, stream};
use ingestion::{
    ConversionError, ConversionTask, Converted, Decision, Event, Events, Ingestion, LocalConversion, Method,
    Outcome, Pace, RemoteSettings,
};
use remote_converter::local::LocalSettings;
use serde_json::{Value, json};

use self::{
    done::{Done, Target},
    failed::{is_of_an_end, not_converted},
    here::{Here, Once},
    plan::Plan,
    tell::{Going, Teller},
};
use super::{Each, Session, submit::option};
use crate::{bars::Bars, failure::Failure, filters::content_type, seconds};

/// How many files are worked on at a time. Each that is remote keeps a connection open.
const PARALLEL: usize = 16;
/// How long a remote conversion may take when there is a local one to fall back to.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// The same when there is none: only the server's own limits end it.
const NO_TIMEOUT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How often a conversion is begun anew whose earlier job has ended without a result.
const MOST_ATTEMPTS: u32 = 100;

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Files, or URLs of web pages and videos
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Convert remotely or not at all
    #[arg(long, group = "where")]
    remote: bool,
    /// Convert on this machine; the server is not asked anything
    #[arg(long, group = "where", conflicts_with_all = ["timeout", "no_fallback"])]
    local: bool,
    /// Convert remotely when a worker is there that is likely to be done in time, and else on this machine; the default
    #[arg(long, group = "where")]
    auto: bool,
    /// What they are: audio, video, document, image, web, youtube, or a custom type spelled x-…; by default told from
    /// the extension, or else from the first bytes, or from the URL
    #[arg(long = "type", value_name = "TYPE", value_parser = content_type)]
    content_type: Option<ContentType>,
    /// The folder for the Markdown, in files named like the sources; - is standard output
    #[arg(long, value_name = "DIR", default_value = "-")]
    out: PathBuf,
    /// An option for the converter; the value may be JSON, and is text otherwise; may be given several times
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, Value)>,
    /// How long a remote conversion may take before the file is converted on this machine, such as 90s, 15m or 2h, in
    /// each run of the command; by default 30m, and with --remote or --no-fallback as long as the server lets it
    #[arg(long, value_name = "TIME", value_parser = seconds::parse)]
    timeout: Option<u64>,
    /// Convert no file on this machine that was begun remotely
    #[arg(long)]
    no_fallback: bool,
    /// How many files are converted on this machine at a time, 1 to 64
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Convert anew what is converted already, and replace files that are in the way
    #[arg(long)]
    force: bool,
    /// Tell for each file why it is converted remotely or here, with the figures that decided it
    #[arg(long, short = 'v')]
    explain: bool,
}

pub(crate) async fn run(session: &Session<'_>, args: &ConvertArgs) -> Result<(), Failure> {
    let here = Here::new(local_settings()?, args.jobs.into());
    let remote = if args.local { None } else { Some(session.client()?) };
    let run = Run {
        session,
        args,
        settings: remote_settings()?,
        remote,
        here,
        bars: Bars::new(session.output),
        going: Going::of(session),
    };
    tokio::select! {
        result = run.all() => result,
        // What is converted here would go on without anybody to look after it.
        () = asked_to_end() => Err(Failure::Interrupted { hint: session.hint() }),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn remote_settings() -> Result<RemoteSettings, Failure> {
    RemoteSettings::from_environment(variable).map_err(|error| Failure::Usage(error.to_string()))
}

fn local_settings() -> Result<LocalSettings, Failure> {
    LocalSettings::from_environment(variable).map_err(|error| Failure::Usage(error.to_string()))
}

/// Waits until the terminal closes or somebody ends the program. Ctrl-C is waited for elsewhere.
#[cfg(unix)]
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};

    let told = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    let hang_up = async {
        // Who started it by nohup wants it to outlive the terminal.
        if remote_converter::ignores_hang_ups() {
            std::future::pending().await
        }
        told(SignalKind::hangup()).await;
    };
    tokio::select! {
        () = hang_up => {}
        () = told(SignalKind::terminate()) => {}
    }
}

#[cfg(not(unix))]
async fn asked_to_end() {
    std::future::pending().await
}

/// What every file is converted with.
struct Run<'a> {
    session: &'a Session<'a>,
    args: &'a ConvertArgs,
    settings: RemoteSettings,
    /// The server, unless it is not to be asked anything.
    remote: Option<client::Client>,
    here: Here,
    bars: Bars,
    going: Going<'a>,
}

/// What became of a file.
enum End {
    /// It had been converted before.
    Skipped,
    /// It was saved.
    Saved(Method),
    /// It goes to standard output.
    Markdown(Method, String),
}

/// What became of each file, as it is known.
type Ends<'a> = Pin<Box<dyn Stream<Item = (&'a str, Result<End, Failure>)> + 'a>>;

/// How many files became what.
#[derive(Default)]
struct Summary {
    remote: usize,
    local: usize,
    skipped: usize,
    failed: usize,
}

impl Run<'_> {
    /// Converts all of them. Results are saved as they come; on standard output they appear in the files' order.
    async fn all(&self) -> Result<(), Failure> {
        let folder = Some(self.args.out.as_path()).filter(|out| out.as_os_str() != "-");
        let mut done = folder.map(Done::open).transpose()?;
        let targets = self.args.files.iter().map(|source| Some(done.as_mut()?.target(source)));
        let targets: Vec<Option<Target>> = targets.collect();
        let done = done.as_ref();
        let work = stream::iter(self.args.files.iter().zip(&targets)).map(|(source, target)| async move {
            (source.as_str(), self.one(source, done.zip(target.as_ref())).await)
        });
        let mut ends: Ends<'_> = match folder {
            Some(_) => Box::pin(work.buffer_unordered(PARALLEL)),
            None => Box::pin(work.buffered(PARALLEL)),
        };
        let mut each = Each::of(self.session.output, &self.args.files);
        let mut summary = Summary::default();
        while let Some((source, end)) = ends.next().await {
            let noted = self.bars.aside(|| each.note(source, end))?;
            summary.count(noted.as_ref());
            if let Some(End::Markdown(_, text)) = noted {
                self.bars.aside(|| self.session.output.markdown(&text))?;
            }
        }
        self.sum_up(&summary)?;
        each.end()
    }

    fn sum_up(&self, summary: &Summary) -> Result<(), Failure> {
        let Summary { remote, local, skipped, failed } = summary;
        self.session.output.value(&json!({
            "event": "summary", "remote": remote, "local": local, "skipped": skipped, "failed": failed,
        }))?;
        if self.args.files.len() > 1 {
            self.session.output.note(&format!(
                "{remote} converted remotely, {local} on this machine, {skipped} converted before, {failed} failed."
            ));
        }
        Ok(())
    }

    async fn one(&self, source: &str, saved: Option<(&Done, &Target)>) -> Result<End, Failure> {
        let plan = Plan::of(source, self.args, &self.settings).await?;
        if let Some((done, target)) = saved.filter(|_| !self.args.force)
            && done.has(target, &plan)?
        {
            self.skipped(source, target)?;
            return Ok(End::Skipped);
        }
        let teller = Teller::new(self.session, &self.bars, &self.going, source, self.args.explain);
        let outcome = self.convert(&plan, &teller).await;
        teller.end()?;
        let outcome = outcome.map_err(not_converted)?;
        let text = outcome.converted.content.as_str();
        let path = saved.map(|(done, target)| done.save(target, &plan, text)).transpose()?;
        self.converted(source, &outcome, path.as_deref())?;
        Ok(match path {
            Some(_) => End::Saved(outcome.method),
            None => End::Markdown(outcome.method, outcome.converted.content),
        })
    }

    /// Remotely or here, as the arguments want it.
    async fn convert(&self, plan: &Plan, teller: &Teller<'_>) -> Result<Outcome, ConversionError> {
        let Some(client) = &self.remote else {
            let not_asked = self.settings.should_use_remote(&plan.content_type, false);
            return self.locally(plan, not_asked, teller).await;
        };
        let content_types = vec![plan.content_type.clone()];
        let settings = RemoteSettings { enabled: true, content_types, ..self.settings.clone() };
        let ingestion = Ingestion::new(client.clone(), settings);
        let here = Once::of(&self.here);
        for attempt in 1..MOST_ATTEMPTS {
            let converted = self.attempt(&ingestion, plan, attempt, &here, teller).await;
            // An earlier run has told of that job's end already. Who runs the command again wants another try.
            match &converted {
                Err(error) if teller.had_ended_before() && is_of_an_end(error, client).await => {}
                _ => return converted,
            }
        }
        Err(ConversionError::Invalid("Too many jobs of this file have failed; use --force.".to_owned()))
    }

    /// Converts under the id of one attempt. With `--no-fallback` a file may be begun here, but not one that an earlier
    /// run has begun remotely.
    async fn attempt(
        &self,
        ingestion: &Ingestion,
        plan: &Plan,
        attempt: u32,
        here: &Once<'_, Here>,
        teller: &Teller<'_>,
    ) -> Result<Outcome, ConversionError> {
        let mut task = self.task(plan, attempt);
        if self.args.no_fallback && !self.args.remote {
            let decision = ingestion.decide(&plan.content_type, true, self.time()).await;
            if !decision.is_remote() {
                match has_job(ingestion, &task).await {
                    Some(true) => {}
                    Some(false) => return self.locally(plan, decision, teller).await,
                    // Beside local work the job is looked for, and ended, or its result is taken.
                    None => task.fallback_to_local = true,
                }
            }
        }
        ingestion.convert(&task, here, teller).await
    }

    async fn locally(
        &self,
        plan: &Plan,
        decision: Decision,
        teller: &Teller<'_>,
    ) -> Result<Outcome, ConversionError> {
        teller.tell(Event::Decided(&decision));
        let progress = |percentage: u8, message: &str| teller.tell(Event::Local { percentage, message });
        match self.here.convert(&self.task(plan, 1), &progress).await {
            Ok(converted) => Ok(Outcome {
                converted,
                method: Method::Local,
                decision,
                remote_job_id: None,
                fallback: None,
                takeover: None,
            }),
            Err(message) => Err(ConversionError::Local {
                message,
                decision: Box::new(decision),
                fallback: None,
                job_id: None,
                takeover: None,
            }),
        }
    }

    /// How long a remote conversion may take.
    fn time(&self) -> Duration {
        let otherwise = if self.falls_back() { TIMEOUT } else { NO_TIMEOUT };
        self.args.timeout.map_or(otherwise, Duration::from_secs)
    }

    fn falls_back(&self) -> bool {
        !self.args.remote && !self.args.no_fallback
    }

    fn task(&self, plan: &Plan, attempt: u32) -> ConversionTask {
        let now = SystemTime::now();
        let deadline = now.checked_add(self.time()).unwrap_or(now);
        let (source, content_type) = (plan.source.clone(), plan.content_type.clone());
        ConversionTask {
            options: plan.options.clone(),
            requested: true,
            fallback_to_local: self.falls_back(),
            pace: if self.bars.shown() { Pace::Lively } else { Pace::Quiet },
            ..ConversionTask::new(plan.task_id(attempt), source, content_type, deadline)
        }
    }

    fn skipped(&self, source: &str, target: &Target) -> Result<(), Failure> {
        let path = &target.path;
        self.session.output.value(&json!({"event": "skipped", "file": source, "saved": path}))?;
        let line = format!("{source}: converted before, as {}", path.display());
        self.bars.aside(|| self.session.output.note(&line));
        Ok(())
    }

    fn converted(&self, source: &str, outcome: &Outcome, path: Option<&Path>) -> Result<(), Failure> {
        let Converted { content, metadata, processing_time } = &outcome.converted;
        let mut event = json!({
            "event": "converted",
            "file": source,
            "processing_method": outcome.method,
            "decision": outcome.decision,
            "remote_job_id": outcome.remote_job_id,
            "fallback": outcome.fallback,
            "takeover": outcome.takeover,
            "metadata": metadata,
            "processing_time": processing_time,
        });
        match path {
            Some(path) => event["saved"] = json!(path),
            None => event["content"] = json!(content),
        }
        self.bars.aside(|| self.session.output.value(&event))?;
        let place = match outcome.method {
            Method::Remote => "remotely",
            Method::Local => "on this machine",
        };
        let saved = path.map(|path| format!(", saved as {}", path.display())).unwrap_or_default();
        self.bars.aside(|| self.session.output.note(&format!("{source}: converted {place}{saved}")));
        Ok(())
    }
}

/// Whether an earlier run has created a job for this task, if the server can be asked.
async fn has_job(ingestion: &Ingestion, task: &ConversionTask) -> Option<bool> {
    let request = ListRequest {
        ingestion_task_id: Some(task.task_id.clone()),
        content_type: Some(task.content_type.clone()),
        limit: Some(1),
        ..ListRequest::default()
    };
    let asking = ingestion.client().list_jobs(&request);
    let page = tokio::time::timeout(ingestion.settings().longest_question, asking).await.ok()?;
    page.ok().map(|page| !page.jobs.is_empty())
}

impl Summary {
    fn count(&mut self, end: Option<&End>) {
        match end {
            Some(End::Skipped) => self.skipped += 1,
            Some(End::Saved(Method::Remote) | End::Markdown(Method::Remote, _)) => self.remote += 1,
            Some(End::Saved(Method::Local) | End::Markdown(Method::Local, _)) => self.local += 1,
            None => self.failed += 1,
        }
    }
}
