use api::events::WebhookSecretResponse;
use clap::Subcommand;
use client::retrying;

use super::{Session, TRIES};
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookSecretCommand {
    /// Write the secret to standard output
    Show,
    /// Make a new secret and write it to standard output; for a day messages are signed with both
    ///
    /// Give the receivers the new one within that day. However often it is replaced, each secret signs for its day.
    Rotate,
}

pub(crate) async fn run(session: &Session<'_>, command: &WebhookSecretCommand) -> Result<(), Failure> {
    let client = session.client()?;
    let secret = match command {
        WebhookSecretCommand::Show => retrying(&TRIES, || client.webhook_secret()).await?,
        // Tried once: a repetition would make one secret more. `show` tells how it went.
        WebhookSecretCommand::Rotate => client.rotate_webhook_secret().await?,
    };
    session.output.value(&secret)?;
    if let Some(note) = note(&secret) {
        session.output.note(&note);
    }
    session.output.line(&secret.secret)
}

/// What a person must know beside the secret. The previous one is not shown: whoever needs it has it.
fn note(secret: &WebhookSecretResponse) -> Option<String> {
    secret.previous.as_ref()?;
    let until = secret.previous_until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
    Some(format!("Messages are signed with the previous secret too{until}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_secret_is_told_of_but_not_shown() {
        let mut secret =
            WebhookSecretResponse { secret: "whsec_new".into(), previous: None, previous_until: None };
        assert_eq!(note(&secret), None);
        secret.previous = Some("whsec_old".into());
        secret.previous_until = Some("2026-06-09T10:10:00.000Z".into());
        assert_eq!(
            note(&secret).unwrap(),
            "Messages are signed with the previous secret too until 2026-06-09T10:10:00.000Z."
        );
    }
}
