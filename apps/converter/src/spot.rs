//! Notices that this machine goes away soon, as spot instances do at two minutes' notice.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::{settings::SpotNotice, shutdown::Shutdown};

/// How often to look.
const EVERY: Duration = Duration::from_secs(5);
/// Where EC2 answers an instance about itself, unless `AWS_EC2_METADATA_SERVICE_ENDPOINT` says otherwise.
const METADATA: &str = "http://169.254.169.254";
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// What of the remaining time is left for giving jobs back.
const MARGIN: Duration = Duration::from_secs(10);
/// How much of a notice is read.
const LONGEST: u64 = 64 << 10;

/// That the machine goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Notice {
    /// When, as far as the notice says.
    at: Option<SystemTime>,
}

impl Notice {
    /// How long running jobs may go on, if the notice says when the machine goes.
    fn time_left(self) -> Option<Duration> {
        let left = self.at?.duration_since(SystemTime::now()).unwrap_or_default();
        Some(left.saturating_sub(MARGIN))
    }

    /// Reads `{"action": "terminate", "time": "2026-01-01T00:00:00Z"}`, or such a time alone. A notice that says
    /// something else is one all the same.
    fn parse(text: &str) -> Self {
        let fields: Option<Value> = serde_json::from_str(text).ok();
        let time = fields.as_ref().and_then(|fields| fields["time"].as_str()).unwrap_or(text.trim());
        Self { at: time.parse::<jiff::Timestamp>().ok().map(SystemTime::from) }
    }
}

/// Looks for the notice.
#[derive(Debug)]
pub(crate) struct Lookout {
    notice: SpotNotice,
    http: reqwest::Client,
    metadata: String,
    token: Option<String>,
    failed: bool,
}

impl Lookout {
    /// `metadata` is where EC2's metadata service is, if not where it usually is.
    pub(crate) fn new(notice: SpotNotice, metadata: Option<String>) -> Result<Self, reqwest::Error> {
        // The machine's own neighbourhood is never behind a proxy.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        let http = http.redirect(reqwest::redirect::Policy::none()).build()?;
        let metadata = metadata.filter(|url| !url.is_empty()).unwrap_or_else(|| METADATA.to_owned());
        let metadata = metadata.trim_end_matches('/').to_owned();
        Ok(Self { notice, http, metadata, token: None, failed: false })
    }

    /// Looks once, and then again and again beside everything else until there is a notice, on which everything
    /// stops within the time that is left.
    pub(crate) async fn watch(mut self, shutdown: Shutdown) {
        let mut found = self.look().await;
        if found.is_some() {
            shutdown.drain.cancel();
        }
        tokio::spawn(async move {
            let notice = loop {
                if let Some(notice) = found {
                    break notice;
                }
                tokio::time::sleep(EVERY).await;
                found = self.look().await;
            };
            let left = notice.time_left().unwrap_or(shutdown.grace);
            tracing::warn!(
                seconds_left = left.as_secs(),
                "this machine goes away; jobs that do not end in time go back to the queue"
            );
            shutdown.within(left).await;
        });
    }

    /// Looks once. That it could not look is logged when that begins and when it ends.
    async fn look(&mut self) -> Option<Notice> {
        let looked = match &self.notice {
            SpotNotice::Aws => self.ask_aws().await,
            SpotNotice::File(path) => read(path).await.map_err(|error| error.to_string()),
            SpotNotice::Url(url) => self.ask(url).await,
        };
        match looked {
            Ok(found) => {
                if std::mem::take(&mut self.failed) {
                    tracing::info!("`spot_notice` can be read again");
                }
                found.map(|text| Notice::parse(&text))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(
                        error,
                        "`spot_notice` cannot be read, so this machine's end would not be noticed"
                    );
                }
                None
            }
        }
    }

    async fn ask(&self, url: &str) -> Result<Option<String>, String> {
        let answer = self.http.get(url).send().await.map_err(|error| told(&error))?;
        text_of(answer).await
    }

    async fn ask_aws(&mut self) -> Result<Option<String>, String> {
        let token = match self.token.take() {
            Some(token) => token,
            None => self.new_token().await?,
        };
        let url = format!("{}/latest/meta-data/spot/instance-action", self.metadata);
        let request = self.http.get(url).header("X-aws-ec2-metadata-token", &token);
        let answer = request.send().await.map_err(|error| told(&error))?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // The token has ended. The next look gets another one.
            return Ok(None);
        }
        self.token = Some(token);
        text_of(answer).await
    }

    async fn new_token(&self) -> Result<String, String> {
        let url = format!("{}/latest/api/token", self.metadata);
        let request = self.http.request(Method::PUT, url);
        let request = request.header("X-aws-ec2-metadata-token-ttl-seconds", "21600");
        let answer = request.send().await.map_err(|error| told(&error))?;
        match text_of(answer).await? {
            Some(token) => Ok(token),
            None => Err("the metadata service gives no token; is this an EC2 instance?".to_owned()),
        }
    }
}

/// A successful answer's text. Where there is no notice, the address does not exist.
async fn text_of(answer: reqwest::Response) -> Result<Option<String>, String> {
    match answer.status() {
        status if status.is_success() => answer.text().await.map(Some).map_err(|error| told(&error)),
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        status => Err(format!("answered {status}")),
    }
}

async fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    // That it is there is the notice, whatever it says.
    let _ = file.take(LONGEST).read_to_end(&mut bytes).await;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What went wrong, without the URL: it may hold a secret.
fn told(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(deeper) = source.source() {
        source = deeper;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { source.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_when_or_does_not() {
        let at = "2017-09-18T08:22:00Z".parse::<jiff::Timestamp>().unwrap();
        for text in [r#"{"action": "terminate", "time": "2017-09-18T08:22:00Z"}"#, " 2017-09-18T08:22:00Z\n"]
        {
            assert_eq!(Notice::parse(text), Notice { at: Some(at.into()) }, "{text}");
        }
        for text in ["", "soon", "{", r#"{"time": 5}"#, "null"] {
            assert_eq!(Notice::parse(text).time_left(), None, "{text}");
        }
        assert_eq!(Notice { at: Some(at.into()) }.time_left(), Some(Duration::ZERO));
        let soon = Notice { at: Some(SystemTime::now() + Duration::from_secs(120)) }.time_left().unwrap();
        assert!((100..=110).contains(&soon.as_secs()), "{soon:?}");
    }
}
