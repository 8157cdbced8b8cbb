use api::keys::{CreateKeyRequest, KeyView, ScopeName};
use clap::{Args, Subcommand, ValueEnum};
use client::retrying;

use super::{Session, TRIES};
use crate::{failure::Failure, table::Table};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key and write it to standard output; it is shown this once
    Create(CreateArgs),
    /// List the keys, without their secrets
    List,
    /// Revoke a key; it stops working within a minute
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// What to call it
    name: String,
    /// What it may do; may be given several times
    #[arg(long = "scope", required = true)]
    scopes: Vec<Scope>,
    /// Whose jobs it sees; by default the creating key's tenant
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// The key's id, the part before the dot
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    /// Upload, create, read and end jobs
    Ingest,
    /// Take and run jobs
    Worker,
    /// Everything, keys included
    Admin,
}

impl From<Scope> for ScopeName {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Ingest => Self::Ingest,
            Scope::Worker => Self::Worker,
            Scope::Admin => Self::Admin,
        }
    }
}

pub(crate) async fn run(session: &Session<'_>, command: &KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create(args) => create(session, args).await,
        KeysCommand::List => list(session).await,
        KeysCommand::Revoke(args) => revoke(session, args).await,
    }
}

async fn create(session: &Session<'_>, args: &CreateArgs) -> Result<(), Failure> {
    let scopes = args.scopes.iter().copied().map(ScopeName::from).collect();
    let request = CreateKeyRequest { name: args.name.clone(), scopes, tenant: args.tenant.clone() };
    // Tried once: a lost answer would leave a key behind that nobody knows.
    let created = session.client()?.create_key(&request).await?;
    session.output.value(&created)?;
    let key = &created.key;
    let scopes = key.scopes.join(", ");
    session.output.note(&format!("Key {} of tenant {} may {scopes}. Store it now:", key.key_id, key.tenant));
    session.output.line(&created.api_key)
}

async fn list(session: &Session<'_>) -> Result<(), Failure> {
    let client = session.client()?;
    let listed = retrying(&TRIES, || client.list_keys()).await?;
    session.output.value(&listed)?;
    session.output.line(&table(&listed.keys))
}

fn table(keys: &[KeyView]) -> String {
    let mut table = Table::new(["ID", "NAME", "SCOPES", "TENANT", "CREATED", "REVOKED"]);
    for key in keys {
        table.row([
            &key.key_id,
            &key.name,
            &key.scopes.join(","),
            &key.tenant,
            &key.created_at,
            key.revoked_at.as_deref().unwrap_or_default(),
        ]);
    }
    table.render()
}

async fn revoke(session: &Session<'_>, args: &RevokeArgs) -> Result<(), Failure> {
    if args.id.contains('.') {
        return Err(Failure::Usage(
            "Give the key's id, the part before the dot, without the secret.".to_owned(),
        ));
    }
    let client = session.client()?;
    let key = retrying(&TRIES, || client.revoke_key(&args.id)).await?;
    session.output.value(&key)?;
    session.output.line(&format!("{}  {}  revoked", key.key_id, key.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_a_table() {
        let key = KeyView {
            key_id: "k1".into(),
            name: "gpu box".into(),
            scopes: vec!["ingest".into(), "worker".into()],
            tenant: "default".into(),
            created_at: "c".into(),
            revoked_at: None,
        };
        assert_eq!(
            table(&[key]),
            "ID  NAME     SCOPES         TENANT   CREATED  REVOKED\n\
             k1  gpu box  ingest,worker  default  c        -"
        );
    }
}
