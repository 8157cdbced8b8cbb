use std::path::Path;

use api::poll::Download;
use reqwest::Response;
use tokio::time::timeout;

use super::{
    OnProgress, STALL,
    hash::{self, Hashed},
    object::{Answer, Object},
    ranges::{Cut, Ranges},
    send,
    sink::Sink,
    tries::Tries,
};
use crate::{Client, Error, Lease, answer};

/// One download, which outlives its connections and its URLs.
pub(super) struct Fetch<'a> {
    object: Object<'a>,
    dest: &'a Path,
    progress: OnProgress<'a>,
    cut: Cut,
    /// What the file holds.
    have: Hashed,
    /// Whether some of it was there before, written by who knows whom.
    inherited: bool,
    /// Whether several ranges at a time may be asked for.
    in_ranges: bool,
    tries: Tries,
}

impl<'a> Fetch<'a> {
    pub(super) async fn new(
        client: &'a Client,
        lease: &'a Lease,
        download: &'a Download,
        dest: &'a Path,
        progress: OnProgress<'a>,
    ) -> Result<Self, Error> {
        let have = hash::beginning(dest, download.size_bytes).await?;
        let inherited = have.len > 0;
        let object = Object::new(client, lease, download)?;
        // Without an ETag ranges of two objects could be mixed, and without a hash nobody would notice.
        let in_ranges = object.insists_on_etag() && download.sha256.is_some();
        let (cut, tries) = (Cut::default(), Tries::default());
        Ok(Self { object, dest, progress, cut, have, inherited, in_ranges, tries })
    }

    #[cfg(test)]
    /// Cuts the object otherwise than usual.
    pub(super) fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            (self.progress)(self.have.len, self.size());
            let filled = self.fill().await.and_then(|()| self.verified());
            match filled {
                // The beginning that was found may be at fault, and the source itself be sound.
                Err(Error::Corrupt { .. }) if self.inherited => self.restart(),
                Err(error @ Error::Corrupt { .. }) => return Err(self.discard(error).await),
                done => return done,
            }
        }
    }

    fn size(&self) -> u64 {
        self.object.download.size_bytes
    }

    /// Fetches until nothing is missing.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.have.len == 0 {
            // Also for an empty source there is a file in the end, and a longer one that was there is gone.
            self.have = Sink::open(self.dest, Hashed::default()).close().await?;
        }
        if self.in_ranges && self.size() - self.have.len >= self.cut.from {
            self.fill_in_ranges().await?;
        }
        while self.have.len < self.size() {
            let url = self.object.url();
            if let Err(error) = self.stretch(&url).await {
                self.object.again(&mut self.tries, error, &url).await?;
            }
        }
        Ok(())
    }

    /// Fetches several ranges at a time, as far as the object store plays along.
    async fn fill_in_ranges(&mut self) -> Result<(), Error> {
        let begun = std::mem::take(&mut self.have);
        let ranges = Ranges::new(&self.object, self.dest, self.progress, self.cut);
        let (have, ended) = ranges.run(begun).await;
        // What lies behind a gap must not be taken for a beginning later.
        self.have = Sink::open(self.dest, have).close().await?;
        match ended {
            Ok(Some(Answer::Changed)) => self.changed(),
            Ok(Some(_)) => {
                self.restart();
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes one request and keeps what arrives.
    async fn stretch(&mut self, url: &crate::PresignedUrl) -> Result<(), Error> {
        let response = match self.object.ask(url, self.have.len, None).await? {
            Answer::Asked(response) => response,
            // The whole source is only of use from its beginning.
            Answer::Whole(response) => {
                self.restart();
                response
            }
            Answer::Changed => return self.changed(),
            Answer::Unfit if self.have.len > 0 => {
                self.restart();
                return Ok(());
            }
            Answer::Unfit => return Err(self.object.corrupt("another part of it came than was asked for")),
        };
        let (begun, host) = (self.have.len, url.host());
        let sink = Sink::open(self.dest, std::mem::take(&mut self.have));
        let copied = self.copy(response, &sink, begun, &host).await;
        // A full disk explains a copy that broke off, so its error comes first.
        self.have = sink.close().await?;
        copied
    }

    async fn copy(
        &mut self,
        mut response: Response,
        sink: &Sink<Hashed>,
        begun: u64,
        host: &str,
    ) -> Result<(), Error> {
        let (size, mut arrived) = (self.size(), begun);
        loop {
            let piece = timeout(STALL, response.chunk()).await.map_err(|_| send::silent(host))?;
            let Some(piece) = piece.map_err(|error| answer::sending(&error, host, STALL))? else { break };
            arrived += piece.len() as u64;
            if arrived > size {
                return Err(self.object.corrupt(&format!("it is longer than {size} bytes")));
            }
            if !sink.write(piece).await {
                return Ok(());
            }
            self.tries.moved();
            (self.progress)(arrived, size);
        }
        if arrived == size { Ok(()) } else { Err(send::broken_off(host)) }
    }

    /// The object is not the one whose ETag was announced. Its bytes may be the same all the same, after a copy.
    fn changed(&mut self) -> Result<(), Error> {
        if self.object.download.sha256.is_none() {
            return Err(self.object.corrupt("it was replaced since the job was claimed; release the job"));
        }
        self.object.take_any();
        self.restart();
        Ok(())
    }

    /// Begins anew, and with one request at a time: what came about by several has failed.
    fn restart(&mut self) {
        self.have = Hashed::default();
        self.inherited = false;
        self.in_ranges = false;
    }

    fn verified(&self) -> Result<(), Error> {
        let Some(announced) = &self.object.download.sha256 else { return Ok(()) };
        let found = hex::encode(self.have.clone().finish());
        if found.eq_ignore_ascii_case(announced) {
            return Ok(());
        }
        let reason = format!("its SHA-256 is {found} and {announced} was announced; submit it again");
        Err(self.object.corrupt(&reason))
    }

    /// Bytes that are wrong must not be taken for a beginning later.
    async fn discard(&self, error: Error) -> Error {
        match hash::blocking(self.dest, |path| std::fs::remove_file(path)).await {
            Ok(()) => error,
            Err(removing) => removing,
        }
    }
}
