//! API keys where they are kept, for operators who have AWS's credentials for the table and no API key yet.

use std::sync::Arc;

use api::keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse, RotateKeyRequest};
use domain::Tenant;
use service::{Keys, SystemWorld};
use store::{Environment, Resource};

use crate::failure::Failure;

/// The keys of a DynamoDB table of the environment.
pub(crate) struct KeyTable {
    environment: Environment,
    name: String,
    keys: Keys,
}

impl KeyTable {
    pub(crate) async fn open(name: &str) -> Result<Self, Failure> {
        let environment = Environment::load().await.map_err(Failure::Environment)?;
        let keys = Keys::new(environment.keys(name), Arc::new(SystemWorld));
        Ok(Self { environment, name: name.to_owned(), keys })
    }

    /// The new key is of the tenant `default` unless the request says otherwise: there is no creating key here.
    pub(crate) async fn create(&self, request: &CreateKeyRequest) -> Result<CreateKeyResponse, Failure> {
        let tenant: Tenant =
            "default".parse().map_err(|error: domain::InvalidValue| Failure::Local(error.0))?;
        self.told(self.keys.create(&tenant, request).await)
    }

    pub(crate) async fn list(&self) -> Result<ListKeysResponse, Failure> {
        self.told(self.keys.list().await)
    }

    pub(crate) async fn rotate(
        &self,
        id: &str,
        request: &RotateKeyRequest,
    ) -> Result<CreateKeyResponse, Failure> {
        self.told(self.keys.rotate(id, request).await)
    }

    pub(crate) async fn revoke(&self, id: &str) -> Result<KeyView, Failure> {
        self.told(self.keys.revoke(id).await)
    }

    /// What went wrong, for a person at this command: the server's texts speak of the server.
    fn told<T>(&self, done: Result<T, service::Error>) -> Result<T, Failure> {
        done.map_err(|error| match error {
            service::Error::Store(error) => {
                Failure::Environment(self.environment.explain(Resource::Table(self.name.clone()), error))
            }
            error => Failure::Refused(Box::new(error.problem())),
        })
    }
}
