use api::keys::{
    CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse, RotateKeyRequest, ScopeName,
};
use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use client::{Client, retrying};

use super::{Session, TRIES};
use crate::{age, failure::Failure, key_table::KeyTable, seconds, table::Table};

#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    /// The DynamoDB table that the keys are in, with AWS's own environment: AWS_REGION, AWS_PROFILE and the like. Without
    /// it, the server at --api-url is asked, which only the gateway of one machine answers
    // Not also by MORAG_TABLE, which a gateway of one machine reads: what is set for it must not send its keys to AWS.
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    table: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key and write it to standard output; it is shown this once
    Create(CreateArgs),
    /// List the keys, without their secrets
    ///
    /// With --table, the whole table is read.
    List,
    /// Put a new key in the place of another, and write it to standard output; it is shown this once
    ///
    /// The new key has the name, scopes and tenant of the old one. Both work until the overlap is over.
    Rotate(RotateArgs),
    /// Revoke a key; it stops working within a minute
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// What to call it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// What it may do; may be given several times
    #[arg(long = "scope", required = true)]
    scopes: Vec<Scope>,
    /// Whose jobs it sees; by default the creating key's tenant, with --table the tenant `default`
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// The old key's id, the part before the dot
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old key goes on working: a number of seconds, or one like 15m, 24h or 7d, at most 90d; 0 for no
    /// longer
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = overlap)]
    overlap: u64,
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

/// The longest that a rotated key may go on working, in seconds.
const LONGEST_OVERLAP: u64 = 90 * 24 * 3600;

/// What the keys are reached through.
enum Keyring {
    Server(Client),
    Table(Box<KeyTable>),
}

pub(crate) async fn run(session: &Session<'_>, args: &KeysArgs) -> Result<(), Failure> {
    let keyring = match args.table.as_deref() {
        Some(name) => Keyring::Table(Box::new(KeyTable::open(name).await?)),
        None => Keyring::Server(session.client()?),
    };
    match &args.command {
        KeysCommand::Create(args) => create(session, &keyring, args).await,
        KeysCommand::List => list(session, &keyring).await,
        KeysCommand::Rotate(args) => rotate(session, &keyring, args).await,
        KeysCommand::Revoke(args) => revoke(session, &keyring, args).await,
    }
}

async fn create(session: &Session<'_>, keyring: &Keyring, args: &CreateArgs) -> Result<(), Failure> {
    let scopes = args.scopes.iter().copied().map(ScopeName::from).collect();
    let request = CreateKeyRequest { name: args.name.clone(), scopes, tenant: args.tenant.clone() };
    // Tried once: a lost answer would leave a key behind that nobody knows.
    let created = match keyring {
        Keyring::Server(client) => client.create_key(&request).await?,
        Keyring::Table(table) => table.create(&request).await?,
    };
    show(session, &created)
}

/// Writes a new key to standard output, and what it is beside that.
fn show(session: &Session<'_>, created: &CreateKeyResponse) -> Result<(), Failure> {
    session.output.value(created)?;
    let key = &created.key;
    let scopes = key.scopes.join(", ");
    session.output.note(&format!("Key {} of tenant {} may {scopes}. Store it now:", key.key_id, key.tenant));
    session.output.line(&created.api_key)
}

async fn list(session: &Session<'_>, keyring: &Keyring) -> Result<(), Failure> {
    let listed: ListKeysResponse = match keyring {
        Keyring::Server(client) => retrying(&TRIES, || client.list_keys()).await?,
        Keyring::Table(table) => table.list().await?,
    };
    session.output.value(&listed)?;
    if listed.keys.is_empty() {
        session.output.note("There is no key yet.");
        return Ok(());
    }
    session.output.line(&table(&listed.keys))
}

async fn rotate(session: &Session<'_>, keyring: &Keyring, args: &RotateArgs) -> Result<(), Failure> {
    let id = id(&args.id)?;
    let request = RotateKeyRequest { overlap_seconds: Some(args.overlap) };
    // Tried once, as a creation.
    let created = match keyring {
        Keyring::Server(client) => client.rotate_key(id, &request).await?,
        Keyring::Table(table) => table.rotate(id, &request).await?,
    };
    let until = if args.overlap == 0 { "a minute".to_owned() } else { age::words(args.overlap) };
    session.output.note(&format!("Key {id} works for {until} more."));
    show(session, &created)
}

fn table(keys: &[KeyView]) -> String {
    let mut table = Table::new(["ID", "NAME", "SCOPES", "TENANT", "CREATED", "ENDS", "REVOKED"]);
    for key in keys {
        table.row([
            &key.key_id,
            &key.name,
            &key.scopes.join(","),
            &key.tenant,
            &key.created_at,
            key.expires_at.as_deref().unwrap_or_default(),
            key.revoked_at.as_deref().unwrap_or_default(),
        ]);
    }
    table.render()
}

async fn revoke(session: &Session<'_>, keyring: &Keyring, args: &RevokeArgs) -> Result<(), Failure> {
    let id = id(&args.id)?;
    let key = match keyring {
        Keyring::Server(client) => retrying(&TRIES, || client.revoke_key(id)).await?,
        Keyring::Table(table) => table.revoke(id).await?,
    };
    session.output.value(&key)?;
    session.output.line(&format!("{}  {}  revoked", key.key_id, key.name))
}

/// A key's id, and not a whole key, whose secret would be in a log.
fn id(given: &str) -> Result<&str, Failure> {
    if given.contains('.') {
        return Err(Failure::Usage(
            "Give the key's id, the part before the dot, without the secret.".to_owned(),
        ));
    }
    Ok(given)
}

/// A length of time as [`seconds::parse`] takes it, or none, up to what a rotation may ask for.
fn overlap(text: &str) -> Result<u64, String> {
    let seconds = if text == "0" { 0 } else { seconds::parse(text)? };
    if seconds > LONGEST_OVERLAP {
        return Err("--overlap may be at most 90d".to_owned());
    }
    Ok(seconds)
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
            expires_at: Some("e".into()),
        };
        assert_eq!(
            table(&[key]),
            "ID  NAME     SCOPES         TENANT   CREATED  ENDS  REVOKED\n\
             k1  gpu box  ingest,worker  default  c        e     -"
        );
    }
}
