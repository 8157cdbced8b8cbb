use client::{ApiKey, BaseUrl, Client};

use crate::{args::Global, failure::Failure};

/// How the command names itself to the server.
const PRODUCT: &str = concat!("remote-jobs/", env!("CARGO_PKG_VERSION"));

/// A client of the server, under the key, that the options name.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let base: BaseUrl = global.api_url.parse()?;
    Ok(Client::new(base, key(global)?, PRODUCT)?)
}

/// The key that the options name: the file's before the environment's. Without one only public calls are answered,
/// or a server that waives keys.
pub(crate) fn key(global: &Global) -> Result<Option<ApiKey>, Failure> {
    let Some(path) = &global.api_key_file else {
        // An empty variable is how some shells and service managers unset one.
        return Ok(global.api_key.clone().filter(|key| !key.is_empty()));
    };
    let text =
        std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.clone(), source })?;
    let key = ApiKey::from(text);
    if key.is_empty() {
        return Err(Failure::Usage(format!(
            "The key file {} is empty; write the key into it.",
            path.display()
        )));
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn global(api_key: Option<&str>, api_key_file: Option<PathBuf>) -> Global {
        let api_url = "http://localhost:8000".to_owned();
        Global { api_url, api_key: api_key.map(ApiKey::from), api_key_file, json: false, quiet: false }
    }

    #[test]
    fn the_files_key_comes_first() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "file.secret\n").unwrap();
        let id = |global: &Global| key(global).unwrap().map(|key| key.id().to_owned());
        assert_eq!(id(&global(Some("env.secret"), Some(path))).as_deref(), Some("file"));
        assert_eq!(id(&global(Some("env.secret"), None)).as_deref(), Some("env"));
        assert_eq!(id(&global(Some(" "), None)), None);
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_told() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("key");
        let code = |path: &PathBuf| key(&global(None, Some(path.clone()))).unwrap_err().code();
        assert_eq!(code(&path), 7);
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(code(&path), 2);
    }

    #[test]
    fn an_address_that_is_none_is_a_usage_error() {
        let global = Global { api_url: "localhost".into(), ..global(None, None) };
        assert_eq!(client(&global).unwrap_err().code(), 2);
    }
}
