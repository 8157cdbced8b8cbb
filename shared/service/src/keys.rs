use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api::{
    Kind, Scope,
    keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse},
    rfc3339,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{KeyId, Tenant, Timestamp};
use rand::Rng;
use sha2::{Digest, Sha256};
use store::KeyRecord;
use subtle::ConstantTimeEq;

use crate::{Caller, Error, Service};

/// How long a key that was read is believed. A revocation takes this long to reach every function.
const BELIEVED: Duration = Duration::from_secs(60);
/// The most keys remembered at once.
const MOST_REMEMBERED: usize = 10_000;

/// Keys that were read a short while ago.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(Mutex<HashMap<KeyId, (Timestamp, KeyRecord)>>);

/// A key that was just made. Its text is shown once and kept nowhere.
pub struct NewKey {
    /// What goes behind `Authorization: Bearer`.
    pub text: String,
    /// What is stored.
    pub record: KeyRecord,
}

impl Service {
    /// Who makes a call that came with this API key.
    ///
    /// # Errors
    /// 401 for a key that is not one, is unknown, wrong or revoked; and the store.
    pub async fn authenticate(&self, api_key: &str) -> Result<Caller, Error> {
        let refused = || {
            Error::rejected(
                Kind::Unauthorized,
                "The API key is not valid; check it, or ask an operator for a new one.",
            )
        };
        let (id, secret) = api_key.split_once('.').ok_or_else(refused)?;
        let id: KeyId = id.parse().map_err(|_| refused())?;
        let record = self.key(&id).await?.ok_or_else(refused)?;
        let same: bool = Sha256::digest(secret.as_bytes()).ct_eq(&record.secret_sha256).into();
        if !same || record.revoked_at.is_some() {
            return Err(refused());
        }
        let scopes =
            Scope::ALL.into_iter().filter(|scope| record.scopes.iter().any(|name| name == scope.as_str()));
        Ok(Caller { tenant: record.tenant, key: id, scopes: scopes.collect() })
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        let now = self.now();
        if let Some(record) = self.keys.get(id, now) {
            return Ok(Some(record));
        }
        let record = self.store.keys.get(id).await?;
        if let Some(record) = &record {
            self.keys.put(record.clone(), now);
        }
        Ok(record)
    }

    /// Makes a key and stores it.
    ///
    /// # Errors
    /// The store.
    pub async fn make_key(&self, name: &str, tenant: Tenant, scopes: &[Scope]) -> Result<NewKey, Error> {
        let id = hex::encode(rand::rng().random::<[u8; 8]>());
        let secret = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>());
        let record = KeyRecord {
            id: id.parse().map_err(|error: domain::InvalidValue| Error::Internal(error.0))?,
            name: name.to_owned(),
            tenant,
            scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            secret_sha256: Sha256::digest(secret.as_bytes()).into(),
            created_at: self.now(),
            revoked_at: None,
        };
        if !self.store.keys.create(&record).await? {
            return Err(Error::Internal("a new key's random id was taken".to_owned()));
        }
        Ok(NewKey { text: format!("{id}.{secret}"), record })
    }

    /// Makes a key for somebody.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn create_key(
        &self,
        caller: &Caller,
        request: &CreateKeyRequest,
    ) -> Result<CreateKeyResponse, Error> {
        if request.name.chars().count() > 100 || request.name.chars().any(char::is_control) {
            return Err(Error::field("name", "must be 1 to 100 characters without control characters"));
        }
        if request.scopes.is_empty() {
            return Err(Error::field("scopes", "must name at least one of ingest, worker and admin"));
        }
        let tenant = match &request.tenant {
            None => caller.tenant.clone(),
            Some(tenant) => {
                tenant.parse().map_err(|error: domain::InvalidValue| Error::field("tenant", error.0))?
            }
        };
        let mut scopes: Vec<Scope> = request.scopes.iter().copied().map(Scope::from).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let key = self.make_key(&request.name, tenant, &scopes).await?;
        Ok(CreateKeyResponse { api_key: key.text, key: view(key.record) })
    }

    /// Every key.
    ///
    /// # Errors
    /// The store.
    pub async fn list_keys(&self) -> Result<ListKeysResponse, Error> {
        Ok(ListKeysResponse { keys: self.store.keys.list().await?.into_iter().map(view).collect() })
    }

    /// Ends a key. Ending it again changes nothing.
    ///
    /// # Errors
    /// No such key, or the store.
    pub async fn revoke_key(&self, id: &str) -> Result<KeyView, Error> {
        // The id is not repeated: somebody may have put the whole key there, and its secret would be in the log.
        let no_key = || {
            let detail = "There is no key with this id; GET /api/v1/keys lists the ids, which are the part of a key before its dot.";
            Error::rejected(Kind::NotFound, detail)
        };
        let id: KeyId = id.parse().map_err(|_| no_key())?;
        let record = self.store.keys.get(&id).await?.ok_or_else(no_key)?;
        self.keys.forget(&id);
        if record.revoked_at.is_none() {
            // Not written means that somebody else revoked it at the same moment.
            self.store.keys.revoke(&record, self.now()).await?;
        }
        let revoked = self.store.keys.get(&id).await?.ok_or_else(no_key)?;
        Ok(view(revoked))
    }
}

impl KeyCache {
    fn get(&self, id: &KeyId, now: Timestamp) -> Option<KeyRecord> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).filter(|(read_at, _)| now.since(*read_at) < BELIEVED).map(|(_, record)| record.clone())
    }

    fn put(&self, record: KeyRecord, now: Timestamp) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST_REMEMBERED {
            keys.clear();
        }
        keys.insert(record.id.clone(), (now, record));
    }

    fn forget(&self, id: &KeyId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn view(record: KeyRecord) -> KeyView {
    KeyView {
        key_id: record.id.to_string(),
        name: record.name,
        scopes: record.scopes,
        tenant: record.tenant.to_string(),
        created_at: rfc3339(record.created_at),
        revoked_at: record.revoked_at.map(rfc3339),
    }
}
