use api::{
    Kind,
    events::{EventView, ListEventsRequest},
};
use clap::{Args, Subcommand};
use client::{Client, Error, retrying};
use jiff::Timestamp;
use serde_json::json;

use super::{Each, Session, TRIES, bulk, repeating};
use crate::{age, failure::Failure, table::Table};

/// The most events that the server puts into one page.
const MOST_IN_A_PAGE: u64 = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List the events whose delivery was given up, the last one first
    List(ListArgs),
    /// Send such events out again, with all their tries
    Redrive(RedriveArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// The most events to show
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show every one
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RedriveArgs {
    /// The events' ids, as the list shows them
    #[arg(value_name = "EVENT", required_unless_present = "all", conflicts_with = "all")]
    events: Vec<String>,
    /// Every event whose delivery was given up
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: &EventsCommand) -> Result<(), Failure> {
    match command {
        EventsCommand::List(args) => list(session, args).await,
        EventsCommand::Redrive(args) => redrive(session, args).await,
    }
}

async fn list(session: &Session<'_>, args: &ListArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let mut pages = Pages { client: &client, cursor: None, ended: false };
    let mut table = table(session.output.width());
    let (mut left, mut shown) = (if args.all { u64::MAX } else { args.limit }, 0_u64);
    while left > 0
        && let Some(page) = pages.next(left).await?
    {
        for event in &page {
            session.output.value(event)?;
            row(&mut table, event, Timestamp::now());
        }
        left = left.saturating_sub(page.len() as u64);
        shown += page.len() as u64;
        if !page.is_empty() {
            session.output.line(&table.take())?;
        }
    }
    if shown == 0 {
        session.output.note("No event's delivery was given up.");
    } else if !pages.ended {
        session.output.note("There may be more; --limit shows a larger number, and --all all of them.");
    }
    Ok(())
}

/// The pages of events that were given up, each fetched when it is asked for.
struct Pages<'a> {
    client: &'a Client,
    cursor: Option<String>,
    ended: bool,
}

impl Pages<'_> {
    async fn next(&mut self, most: u64) -> Result<Option<Vec<EventView>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let request = ListEventsRequest { limit: Some(most.min(MOST_IN_A_PAGE)), cursor: self.cursor.take() };
        let page = retrying(&TRIES, || self.client.list_events(&request)).await?;
        self.ended = page.cursor.is_none();
        self.cursor = page.cursor;
        Ok(Some(page.events))
    }
}

fn table(width: Option<usize>) -> Table {
    Table::new(["EVENT", "STATUS", "GIVEN UP", "TRIES", "URL", "ERROR"]).within(width, &[4, 5])
}

fn row(table: &mut Table, event: &EventView, now: Timestamp) {
    table.row([
        &event.event_id,
        &event.status,
        &format!("{} ago", age::of(&event.at, now)),
        &event.tries.to_string(),
        &event.url,
        event.last_error.as_deref().unwrap_or_default(),
    ]);
}

async fn redrive(session: &Session<'_>, args: &RedriveArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let (events, each) = if args.all {
        (given_up(&client).await?, Each::several(session.output))
    } else {
        (args.events.clone(), Each::of(session.output, &args.events))
    };
    if events.is_empty() {
        session.output.note("No event's delivery was given up.");
        return Ok(());
    }
    let act = async |event_id: &str| {
        let sent = repeating(async || client.redrive_event(event_id).await.map(Some), sent_already).await?;
        Ok((event_id.to_owned(), sent))
    };
    bulk::work(session, each, &events, "sent out again", act, |sent| tell(session, sent)).await
}

/// When an answer was lost, a second call finds an event that is due again. What else it is cannot be told then.
fn sent_already(refused: &Error) -> Option<Option<EventView>> {
    (refused.kind() == Some(Kind::Refused)).then_some(None)
}

async fn given_up(client: &Client) -> Result<Vec<String>, Failure> {
    let mut pages = Pages { client, cursor: None, ended: false };
    let mut events = Vec::new();
    while let Some(page) = pages.next(MOST_IN_A_PAGE).await? {
        events.extend(page.into_iter().map(|event| event.event_id));
    }
    Ok(events)
}

fn tell(session: &Session<'_>, (event_id, sent): &(String, Option<EventView>)) -> Result<(), Failure> {
    let Some(event) = sent else {
        session.output.value(&json!({"event_id": event_id}))?;
        return session.output.line(event_id);
    };
    session.output.value(event)?;
    session.output.line(&format!("{event_id}  {}  to {}", event.delivery, event.url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_table() {
        let event: EventView = serde_json::from_value(serde_json::json!({
            "event_id": "01890a5d.1.2", "job_id": "01890a5d", "status": "failed", "url": "https://h/hook",
            "delivery": "dead", "tries": 16, "last_error": "it answered 500", "ended_at": "",
            "at": "2026-06-09T10:10:00.000Z",
        }))
        .unwrap();
        let mut table = table(None);
        row(&mut table, &event, "2026-06-09T10:13:20Z".parse().unwrap());
        assert_eq!(
            table.render(),
            "EVENT         STATUS  GIVEN UP   TRIES  URL             ERROR\n\
             01890a5d.1.2  failed  3 min ago  16     https://h/hook  it answered 500"
        );
    }
}
