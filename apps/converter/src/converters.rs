//! The converters that are usable here, and which of them takes a source.

use std::{path::PathBuf, time::Duration};

use domain::ContentType;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    descriptions::Description,
    folders::Folders,
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
    ) -> Result<Self, NoConverter> {
        let mut all = Self { usable: Vec::new(), python };
        let mut unusable = Vec::new();
        let needed = |one: &Description| wanted.iter().any(|wanted| one.content_types.contains(wanted));
        for description in descriptions.into_iter().filter(needed) {
            match all.try_out(&description, folders).await {
                Ok(said) => {
                    tracing::info!(converter = description.name, %said, "a converter is usable");
                    all.usable.push(description);
                }
                Err(reason) => {
                    tracing::warn!(converter = description.name, reason, "a converter is not usable");
                    unusable.push((description, reason));
                }
            }
        }
        wanted.iter().try_for_each(|content_type| all.must_take(content_type, &unusable))?;
        Ok(all)
    }

    fn must_take(
        &self,
        content_type: &ContentType,
        unusable: &[(Description, String)],
    ) -> Result<(), NoConverter> {
        if self.usable.iter().any(|one| one.content_types.contains(content_type)) {
            return Ok(());
        }
        let tried = unusable.iter().filter(|(one, _)| one.content_types.contains(content_type));
        let tried = tried.map(|(one, reason)| {
            let install = one.install.as_deref().unwrap_or_default();
            format!(" `{}` is not usable: {reason} {install}", one.name)
        });
        Err(NoConverter { content_type: content_type.clone(), tried: tried.collect() })
    }

    /// Runs the command that tells whether it is usable. What it says, or why it is not usable.
    async fn try_out(&self, description: &Description, folders: &Folders) -> Result<String, String> {
        let work =
            folders.work("check").map_err(|error| format!("A work folder cannot be created: {error}."))?;
        let Some(words) = description.check_line(work.path(), &self.python) else { return Ok(String::new()) };
        let task = Task {
            words,
            folder: work.path().to_owned(),
            environment: description.environment.clone(),
            memory_bytes: description.limits.memory_bytes,
            deadline: Some(Instant::now() + CHECK),
            result: TaskResult::File(work.path().join("none"), 0),
        };
        let finished = process::run(&task, &CancellationToken::new(), &mut |_| {}).await;
        let finished = finished.map_err(|error| format!("Its `requires` cannot be started: {error}."))?;
        let said = finished.log_end(300);
        match finished.ended {
            Ended::Exited(0) => Ok(said),
            Ended::TimedOut => Err(format!("Its `requires` did not end within {} s.", CHECK.as_secs())),
            Ended::Exited(_) | Ended::Signalled(_) | Ended::TooLarge | Ended::Stopped => {
                Err(format!("Its `requires` failed: {}.", said.trim_end_matches('.')))
            }
        }
    }

    /// The first converter that takes a source of this type and name.
    #[must_use]
    pub fn choose(&self, content_type: &ContentType, filename: &str) -> Option<&Description> {
        self.usable.iter().find(|one| one.takes(content_type, filename))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let checked = Converters::check(descriptions, &[wanted], "python3".into(), &folders).await;
        checked.map_err(|error| error.to_string())
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
    }
}
