//! The converters that are usable here, and which of them takes a source.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use domain::ContentType;
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    contain::Walls,
    descriptions::Description,
    folders::{Folders, WorkFolder},
    limits::Exceeded,
    process::{self, Ended, Task, TaskResult},
};

/// How long the command that tells whether a converter is usable may take. The first start of an interpreter with
/// large libraries reads much from the disk.
const CHECK: Duration = Duration::from_secs(60);

/// The usable converters, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Converters {
    usable: Vec<Description>,
    /// The interpreter of the setting `python`.
    pub python: PathBuf,
    /// What all of them are kept away from.
    pub walls: Walls,
}

/// A content type that nothing here converts.
#[derive(Debug, thiserror::Error)]
#[error(
    "No converter here takes the content type `{content_type}`, which `content_types` names.{tried} \
     Install what is missing, name a description of a converter of your own in `converters`, or take the type out of \
     `content_types` (MORAG_WORKER_CONTENT_TYPES, --content-types)."
)]
pub struct NoConverter {
    content_type: ContentType,
    tried: String,
    may_pass: bool,
}

impl NoConverter {
    /// Whether another try may find what this one did not: none of those that could have been one said what it lacks.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// Which converters were tried, what they lack and how to install it: sentences, each with a space before it.
    pub(crate) fn tried(&self) -> &str {
        &self.tried
    }
}

impl Converters {
    /// Finds out which of the descriptions are usable for the wanted types.
    ///
    /// # Errors
    /// [`NoConverter`] for the first wanted type that none is usable for, with the reasons.
    pub async fn check(
        descriptions: Vec<Description>,
        wanted: &[ContentType],
        python: PathBuf,
        folders: &Folders,
        walls: Walls,
    ) -> Result<Self, NoConverter> {
        let needed = |one: &Description| wanted.iter().any(|wanted| one.content_types.contains(wanted));
        let needed = descriptions.into_iter().filter(needed).collect();
        let mut all = Self { usable: Vec::new(), python, walls };
        let mut unusable = Vec::new();
        for Finding { description, outcome, may_pass } in
            examine(needed, &all.python, folders, &all.walls).await
        {
            match outcome {
                Ok(said) => {
                    tracing::info!(converter = description.name, %said, "a converter is usable");
                    all.usable.push(description);
                }
                Err(reason) => {
                    tracing::warn!(converter = description.name, reason, "a converter is not usable");
                    unusable.push((description, reason, may_pass));
                }
            }
        }
        wanted.iter().try_for_each(|content_type| all.must_take(content_type, &unusable))?;
        Ok(all)
    }

    fn must_take(
        &self,
        content_type: &ContentType,
        unusable: &[(Description, String, bool)],
    ) -> Result<(), NoConverter> {
        if self.usable.iter().any(|one| one.content_types.contains(content_type)) {
            return Ok(());
        }
        let mut error =
            NoConverter { content_type: content_type.clone(), tried: String::new(), may_pass: false };
        for (one, reason, may_pass) in unusable {
            if one.content_types.contains(content_type) {
                let install = one.install.as_deref().unwrap_or_default();
                error.tried += &format!(" `{}` is not usable: {reason} {install}", one.name);
                error.may_pass |= may_pass;
            }
        }
        Err(error)
    }

    /// The first converter that takes a source of this type and name.
    #[must_use]
    pub fn choose(&self, content_type: &ContentType, filename: &str) -> Option<&Description> {
        self.usable.iter().find(|one| one.takes(content_type, filename))
    }
}

/// What was found out about a description on this machine.
#[derive(Debug)]
pub struct Finding {
    /// The description.
    pub description: Description,
    /// What its `requires` says when it is usable, such as versions; or why it is not.
    pub outcome: Result<String, String>,
    /// Whether it may be usable after all, because its `requires` did not get to say what it lacks.
    pub may_pass: bool,
}

/// Why a description is not usable, and whether that may pass.
struct Unusable {
    reason: String,
    may_pass: bool,
}

impl Unusable {
    fn passing(reason: String) -> Self {
        Self { reason, may_pass: true }
    }
}

/// Finds out which of the descriptions are usable, all at the same time. The order stays. Dropping the future ends the
/// commands that find it out.
pub async fn examine(
    descriptions: Vec<Description>,
    python: &Path,
    folders: &Folders,
    walls: &Walls,
) -> Vec<Finding> {
    /// Several types may be looked into at the same time.
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    let examining = descriptions.into_iter().map(|description| {
        let work = folders.work(&format!("check-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        examine_one(description, work, python, walls)
    });
    // Nothing is spawned, so that who lets go of this ends the commands with it.
    join_all(examining).await
}

async fn examine_one(
    description: Description,
    work: io::Result<WorkFolder>,
    python: &Path,
    walls: &Walls,
) -> Finding {
    let outcome = match work {
        Ok(work) => try_out(&description, &work, python, walls).await,
        Err(error) => Err(Unusable::passing(format!("A work folder cannot be created: {error}."))),
    };
    let may_pass = outcome.as_ref().is_err_and(|unusable| unusable.may_pass);
    Finding { description, outcome: outcome.map_err(|unusable| unusable.reason), may_pass }
}

/// Runs the command that tells whether it is usable. What it says, or why it is not usable.
async fn try_out(
    description: &Description,
    work: &WorkFolder,
    python: &Path,
    walls: &Walls,
) -> Result<String, Unusable> {
    let not_started = |error| Unusable::passing(format!("Its `requires` cannot be started: {error}."));
    let Some(words) = description.check_line(work.path(), python) else { return Ok(String::new()) };
    let result = TaskResult::File(work.path().join("none"), 0);
    let readable = vec![description.here.clone()];
    let task = Task::of(description, words, work.path(), readable, walls, result).await;
    let task = task.map_err(not_started)?.until(Instant::now() + CHECK);
    let finished = process::run(&task, &CancellationToken::new(), &mut |_| {}).await;
    let finished = finished.map_err(not_started)?;
    let said = finished.log_end(300);
    match finished.ended {
        Ended::Exited(0) => Ok(said),
        Ended::Over(Exceeded::JobTime) => {
            Err(Unusable::passing(format!("Its `requires` did not end within {} s.", CHECK.as_secs())))
        }
        Ended::Over(exceeded) => Err(Unusable::passing(format!("Its `requires` {exceeded}."))),
        Ended::Exited(_) | Ended::Signalled(_) | Ended::Stopped => {
            // What it was is said last, after the lines that say where.
            let last = said.lines().last().unwrap_or_default().trim_end_matches('.');
            let may_pass = !matches!(finished.ended, Ended::Exited(_));
            Err(Unusable { reason: format!("Its `requires` failed: {last}."), may_pass })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, rest: &str) -> Description {
        let text = format!(
            "name: {name}\ncontent_types: [audio]\ncommand: [cat, '{{input}}']\n\
             result: {{format: markdown, from: stdout}}\n{rest}"
        );
        Description::parse(&text, Path::new("/")).unwrap()
    }

    async fn check(descriptions: Vec<Description>, wanted: ContentType) -> Result<Converters, String> {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(parent.path()).unwrap();
        let checked =
            Converters::check(descriptions, &[wanted], "python3".into(), &folders, Walls::default()).await;
        checked.map_err(|error| format!("{error} (may pass: {})", error.may_pass()))
    }

    #[tokio::test]
    async fn the_first_usable_one_that_takes_the_name_is_chosen() {
        let all = vec![
            description("broken", "requires: ['false']"),
            description("picky", "requires: ['true']\naccepts: {extensions: [mp3]}"),
            description("any", ""),
        ];
        let converters = check(all, ContentType::Audio).await.unwrap();
        let chosen = |name: &str| converters.choose(&ContentType::Audio, name).map(|one| one.name.clone());
        assert_eq!(chosen("a.mp3").as_deref(), Some("picky"));
        assert_eq!(chosen("a.wav").as_deref(), Some("any"));
        assert!(converters.choose(&ContentType::Image, "a.png").is_none());
    }

    #[tokio::test]
    async fn a_type_without_converter_is_named_with_what_to_do() {
        let text = check(vec![description("a", "")], ContentType::Video).await.unwrap_err();
        assert!(text.contains("`video`") && text.contains("`content_types`"), "{text}");

        let broken =
            description("b", "requires: [sh, -c, 'echo lacks a module; exit 1']\ninstall: pip install it.");
        let text = check(vec![broken], ContentType::Audio).await.unwrap_err();
        assert!(text.contains("lacks a module") && text.contains("pip install it."), "{text}");
        assert!(text.contains("may pass: false"), "{text}");
    }

    #[tokio::test]
    async fn a_check_that_did_not_get_to_say_what_is_lacking_may_pass() {
        for passing in [
            "requires: [sh, -c, 'kill -9 $$']",
            "requires: [sh, -c, 'sleep 60']\nlimits: {timeout_seconds: 1}",
        ] {
            let lacking = description("a", "requires: ['false']");
            let text = check(vec![lacking, description("b", passing)], ContentType::Audio).await.unwrap_err();
            assert!(text.contains("may pass: true"), "{text}");
        }
    }

    #[tokio::test]
    async fn checks_end_with_whoever_waits_for_them() {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(parent.path()).unwrap();
        let walls = Walls::default();
        let slow = description("slow", "requires: [sh, -c, 'echo $$ >id; exec sleep 600']");
        let mut examining = Box::pin(examine(vec![slow], Path::new("python3"), &folders, &walls));
        let in_progress = folders.in_progress();
        let process = tokio::select! {
            _ = &mut examining => panic!("it ended"),
            process = named_below(&in_progress) => process,
        };
        assert!(runs(&process));
        drop(examining);
        // A killed process takes a moment to end.
        for _ in 0..1000 {
            if !runs(&process) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the command still runs");
    }

    /// The id of the process that wrote it to the file `id` of its work folder.
    async fn named_below(folder: &Path) -> String {
        loop {
            let works = std::fs::read_dir(folder).unwrap().flatten();
            let mut ids = works.filter_map(|work| std::fs::read_to_string(work.path().join("id")).ok());
            if let Some(id) = ids.find(|id| id.ends_with('\n')) {
                return id.trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether a process has not ended. One that nobody has waited for yet has.
    fn runs(process: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        !(status.is_empty() || status.contains(") Z "))
    }
}
