use std::path::{Path, PathBuf};

use super::{Containment, Reach};
use crate::{
    egress::{Egress, Way},
    limits::{Limits, Network},
    log_file,
    settings::Settings,
};

/// What people keep their secrets in, below their home folder.
const SECRETS: [&str; 22] = [
    ".ssh",
    ".gnupg",
    ".password-store",
    ".local/share/keyrings",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/rclone",
    ".config/gh",
    ".kube",
    ".docker",
    ".netrc",
    ".pgpass",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".bash_history",
    ".mozilla",
    ".thunderbird",
    ".config/chromium",
    ".config/google-chrome",
];

/// What all commands of this program are kept away from, and their one way out.
#[derive(Clone, Debug)]
pub struct Walls {
    closed: Vec<PathBuf>,
    egress: Egress,
}

impl Default for Walls {
    fn default() -> Self {
        Self::new(Vec::new(), Egress::default())
    }
}

impl Walls {
    /// The walls that these settings ask for: around `temp_dir` and what else this program keeps to itself.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let mut closed = settings.files.clone();
        closed.push(settings.temp_dir.clone());
        closed.extend(settings.log_file.iter().flat_map(|path| log_file::all(path)));
        Self::new(closed, Egress::new(settings.networks.clone(), &settings.youtube_hosts))
    }

    /// Closes these files and folders, and those where people keep secrets in their home folder.
    #[must_use]
    pub fn new(mut closed: Vec<PathBuf>, egress: Egress) -> Self {
        if let Some(home) = std::env::home_dir() {
            closed.extend(SECRETS.map(|secret| home.join(secret)));
        }
        Self { closed, egress }
    }

    /// What converters cannot read here although they should, as sentences for an operator.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        super::unlisted(&self.closed).iter().map(|folder| self.lack(folder)).collect()
    }

    fn lack(&self, folder: &Path) -> String {
        format!(
            "{} cannot be listed by this user, so converters cannot read what is in it, except beside what they are \
             kept away from further below. Give this user the right to list it if they need more.",
            folder.display()
        )
    }

    /// The way out for a command, if it has one. It is open as long as the value lives.
    ///
    /// # Errors
    /// When the proxy cannot be started.
    pub async fn way(&self, network: Network) -> std::io::Result<Option<Way>> {
        match network {
            Network::None => Ok(None),
            Network::Internet(hosts) => self.egress.open(hosts).await.map(Some),
        }
    }

    /// What a command that works in this folder is kept away from. It may read what is named even if that is closed.
    #[must_use]
    pub fn around(
        &self,
        folder: &Path,
        readable: Vec<PathBuf>,
        limits: &Limits,
        way: Option<&Way>,
    ) -> Containment {
        Containment {
            reach: way.map_or(Reach::Nothing, |way| Reach::Proxy(way.port())),
            writable: folder.to_owned(),
            readable,
            closed: self.closed.clone(),
            cpus: limits.cpus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Flags, settings::Environment};

    #[test]
    fn what_the_log_was_renamed_to_is_closed_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let variables = [("MORAG_LOG_FILE".to_owned(), "/var/log/mine".to_owned())];
        let environment = Environment::of(variables, Path::new("/none/.env")).unwrap();
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        let settings = Settings::load(&flags, &environment).unwrap();
        let walls = Walls::of(&settings);
        for name in ["mine", "mine.1", "mine.2", "mine.3", "mine.4", "mine.5"] {
            assert!(walls.closed.contains(&Path::new("/var/log").join(name)), "{name}");
        }
    }
}
