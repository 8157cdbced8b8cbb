use std::time::Duration;

use reqwest::Method;

use crate::{Client, Error, PresignedUrl, answer};

/// How long a wait for a hint may take: the 20 seconds that the queue waits, and as much again as any call may take.
const LIMIT: Duration = Duration::from_secs(40);
/// The largest answer that is read, in bytes. Ten hints take a tenth of it.
const MOST: usize = 64 << 10;
/// What is in an answer, be it XML or JSON, exactly when there is a message.
const MESSAGE: &[u8] = b"MessageId";

impl Client {
    /// Waits at a poll's `hint_url`, without the API key, and tells whether there was a hint. Without one the answer comes
    /// after about 20 seconds.
    ///
    /// # Errors
    /// [`Error::Transfer`] with the status when the URL does not work (any more): another poll gives a new one. Else as of
    /// any transfer.
    pub async fn wait_for_hint(&self, url: &PresignedUrl) -> Result<bool, Error> {
        let host = url.host();
        let request = self.presigned(Method::GET, url.url().clone()).timeout(LIMIT);
        let response = request.send().await.map_err(|error| answer::sending(&error, &host, LIMIT))?;
        if !response.status().is_success() {
            return Err(answer::not_transferred(response, &host).await);
        }
        let body = answer::body(response, MOST, &host, LIMIT).await?;
        Ok(body.windows(MESSAGE.len()).any(|piece| piece == MESSAGE))
    }
}
