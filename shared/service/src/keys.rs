use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    Kind, Scope,
    keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse, RotateKeyRequest},
    rfc3339,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{KeyId, Tenant, Timestamp};
use rand::Rng;
use sha2::{Digest, Sha256};
use store::{KeyRecord, KeyTable};
use subtle::ConstantTimeEq;

use crate::{Caller, Error, World};

/// How long a key that was read is believed. A revocation takes this long to reach every function.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long a key that was rotated goes on working, unless the rotation says otherwise, in seconds.
const OVERLAP: u64 = 24 * 3600;
/// The longest that a rotated key may go on working, in seconds.
const LONGEST_OVERLAP: u64 = 90 * 24 * 3600;
/// The most keys remembered at once.
const MOST_REMEMBERED: usize = 10_000;

/// Keys that were read a short while ago.
#[derive(Debug, Default)]
struct KeyCache(Mutex<HashMap<KeyId, (Timestamp, KeyRecord)>>);

/// The API keys of one table: who calls with them, and how they come and go.
///
/// What was read of a key is believed for 60 seconds, so a key that was revoked or that ended by a rotation may work for
/// that long where it was used just before. A new key works at once.
#[derive(Clone)]
pub struct Keys {
    table: KeyTable,
    world: Arc<dyn World>,
    read: Arc<KeyCache>,
}

/// A key that was just made. Its text is shown once and kept nowhere.
pub struct NewKey {
    /// What goes behind `Authorization: Bearer`.
    pub text: String,
    /// What is stored.
    pub record: KeyRecord,
}

impl Keys {
    /// The keys of `table`.
    #[must_use]
    pub fn new(table: KeyTable, world: Arc<dyn World>) -> Self {
        Self { table, world, read: Arc::default() }
    }

    /// Who makes a call that came with this API key.
    ///
    /// # Errors
    /// 401 for a key that is not one, is unknown, wrong, revoked or ended; and the store.
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
        let ended = record.expires_at.is_some_and(|expires_at| expires_at <= self.world.now());
        if !same || ended || record.revoked_at.is_some() {
            return Err(refused());
        }
        let scopes =
            Scope::ALL.into_iter().filter(|scope| record.scopes.iter().any(|name| name == scope.as_str()));
        Ok(Caller { tenant: record.tenant, key: id, scopes: scopes.collect() })
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        let now = self.world.now();
        if let Some(record) = self.read.get(id, now) {
            return Ok(Some(record));
        }
        let record = self.table.get(id).await?;
        if let Some(record) = &record {
            self.read.put(record.clone(), now);
        }
        Ok(record)
    }

    /// Makes a key and stores it.
    ///
    /// # Errors
    /// The store.
    pub async fn make(&self, name: &str, tenant: Tenant, scopes: &[Scope]) -> Result<NewKey, Error> {
        let scopes = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let key = self.new_key(name.to_owned(), tenant, scopes)?;
        if !self.table.create(&key.record).await? {
            return Err(Error::Internal("a new key's random id was taken".to_owned()));
        }
        Ok(key)
    }

    fn new_key(&self, name: String, tenant: Tenant, scopes: Vec<String>) -> Result<NewKey, Error> {
        let id = hex::encode(rand::rng().random::<[u8; 8]>());
        let secret = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>());
        let record = KeyRecord {
            id: id.parse().map_err(|error: domain::InvalidValue| Error::Internal(error.0))?,
            name,
            tenant,
            scopes,
            secret_sha256: Sha256::digest(secret.as_bytes()).into(),
            created_at: self.world.now(),
            revoked_at: None,
            expires_at: None,
        };
        Ok(NewKey { text: format!("{id}.{secret}"), record })
    }

    /// Makes a key for somebody, of `tenant` unless the request names another.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn create(
        &self,
        tenant: &Tenant,
        request: &CreateKeyRequest,
    ) -> Result<CreateKeyResponse, Error> {
        if request.name.is_empty()
            || request.name.chars().count() > 100
            || request.name.chars().any(char::is_control)
        {
            return Err(Error::field("name", "must be 1 to 100 characters without control characters"));
        }
        if request.scopes.is_empty() {
            return Err(Error::field("scopes", "must name at least one of ingest, worker and admin"));
        }
        let tenant = match &request.tenant {
            None => tenant.clone(),
            Some(tenant) => {
                tenant.parse().map_err(|error: domain::InvalidValue| Error::field("tenant", error.0))?
            }
        };
        let mut scopes: Vec<Scope> = request.scopes.iter().copied().map(Scope::from).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Ok(shown(self.make(&request.name, tenant, &scopes).await?))
    }

    /// Every key.
    ///
    /// # Errors
    /// The store.
    pub async fn list(&self) -> Result<ListKeysResponse, Error> {
        Ok(ListKeysResponse { keys: self.table.list().await?.into_iter().map(view).collect() })
    }

    /// Makes a key that may do what the one with this id may, which ends after an overlap, in which both work: 24 hours
    /// unless the request says otherwise.
    ///
    /// # Errors
    /// No such key, one that was rotated or revoked before, an overlap of more than 90 days, or the store.
    pub async fn rotate(&self, id: &str, request: &RotateKeyRequest) -> Result<CreateKeyResponse, Error> {
        let overlap = request.overlap_seconds.unwrap_or(OVERLAP);
        if overlap > LONGEST_OVERLAP {
            return Err(Error::field("overlap_seconds", format!("must be 0 to {LONGEST_OVERLAP}")));
        }
        let old = self.known(id).await?;
        if let Some(why) = not_rotatable(&old) {
            return Err(Error::rejected(Kind::Refused, why));
        }
        let new = self.new_key(old.name.clone(), old.tenant.clone(), old.scopes.clone())?;
        let expires_at = self.world.now().plus(Duration::from_secs(overlap));
        if !self.table.rotate(&old, expires_at, &new.record).await? {
            let why = "Somebody else revoked or rotated this key at the same moment; list the keys to see their ids.";
            return Err(Error::rejected(Kind::Refused, why));
        }
        self.read.forget(&old.id);
        Ok(shown(new))
    }

    /// Ends a key. Ending it again changes nothing.
    ///
    /// # Errors
    /// No such key, or the store.
    pub async fn revoke(&self, id: &str) -> Result<KeyView, Error> {
        let record = self.known(id).await?;
        self.read.forget(&record.id);
        if record.revoked_at.is_none() {
            // Not written means that somebody else revoked it at the same moment.
            self.table.revoke(&record, self.world.now()).await?;
        }
        Ok(view(self.known(id).await?))
    }

    async fn known(&self, id: &str) -> Result<KeyRecord, Error> {
        // The id is not repeated: somebody may have put the whole key there, and its secret would be in the log.
        let no_key = || {
            let detail = "There is no key with this id; a list of the keys has the ids, which are the part of a key before its dot.";
            Error::rejected(Kind::NotFound, detail)
        };
        let id: KeyId = id.parse().map_err(|_| no_key())?;
        self.table.get(&id).await?.ok_or_else(no_key)
    }
}

/// Why no other key can take this one's place.
fn not_rotatable(key: &KeyRecord) -> Option<String> {
    if key.revoked_at.is_some() {
        return Some("This key was revoked; create a new one.".to_owned());
    }
    let ends = rfc3339(key.expires_at?);
    Some(format!("This key was rotated before and ends at {ends}; rotate the one that took its place."))
}

fn shown(key: NewKey) -> CreateKeyResponse {
    CreateKeyResponse { api_key: key.text, key: view(key.record) }
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
        expires_at: record.expires_at.map(rfc3339),
    }
}
