use api::{Access, Scope};
use domain::{Credential, KeyId, Tenant, TokenHash};
use sha2::{Digest, Sha256};

/// Who makes a call, as the API key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose jobs it sees.
    pub tenant: Tenant,
    /// The key it came with.
    pub key: KeyId,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// Whether the caller may make a call with this access.
    #[must_use]
    pub fn may(&self, access: Access) -> bool {
        match access {
            Access::Public | Access::Tenant => true,
            Access::Scope(scope) => self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin),
        }
    }

    /// What proves a lease in a call that came with this `Lease-Token`, if it came with any.
    #[must_use]
    pub fn credential(&self, lease_token: Option<&str>) -> Credential {
        Credential { token: lease_token.map(token_hash), key: self.key.clone() }
    }
}

/// The hash under which a lease token is stored.
pub(crate) fn token_hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}
