//! Makes a shop on two servers: secrets, configuration, databases, roles, schemas and topics.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::event;
use crate::admin::servers::{migrate_one, provision_one};
use crate::admin::url::PgUrl;
use crate::args::Supervise;
use crate::config;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};
use crate::secrets::{Vault, make_folder};
use crate::storage::make_topics;

/// What a shop's databases and roles are called before the service's own name.
const PREFIX: &str = "amarra";

/// Makes the shop, or brings the one that is there up to date; returns its configuration's path.
pub(super) async fn shop(args: &Supervise, data: &Path) -> Result<PathBuf, Failure> {
    let missing = |what| Failure::refused(format!("--data needs {what} as well"));
    let admin = args.postgres.as_deref().ok_or_else(|| missing("--postgres"))?;
    let bootstrap = args.kafka.as_deref().ok_or_else(|| missing("--kafka"))?;
    make_folder(data)?;
    let data = data.canonicalize().refuse_for(data.display())?;
    let vault = Vault::open(&data)?;
    let env = amarra_tokio::environment();
    vault.fill(env.entropy.as_ref())?;
    vault.secret("internal.token", env.entropy.as_ref())?;
    let server = PgUrl::parse(admin).map_err(|e| Failure::refused(format!("--postgres {e}")))?;
    for name in Name::WITH_DATABASE {
        for (role, file) in [("", "url"), ("_owner", "owner.url"), ("_wal", "wal.url")] {
            let password = vault.secret(&format!("{name}{role}.password"), env.entropy.as_ref())?;
            let (place, password) = (&server.place, password.expose());
            let database = format!("{PREFIX}_{name}");
            let url = format!("postgres://{database}{role}:{password}@{place}/{database}");
            vault.keep(&format!("{name}.{file}"), &url)?;
        }
    }
    let base = match &args.config {
        None => Table::new(),
        Some(path) => {
            // Refused here, where the line numbers are those of the file that was written by hand.
            config::load(path)?;
            std::fs::read_to_string(path).refuse()?.parse::<Table>().refuse()?
        }
    };
    let path = data.join("amarra.toml");
    let text = toml::to_string(&complete(base, args.listen, bootstrap)?).refuse()?;
    std::fs::write(&path, text).refuse_for(path.display())?;
    let config = config::load(&path)?;
    for name in Name::WITH_DATABASE {
        provision_one(&config, admin, name).await?;
        migrate_one(&config, name).await?;
        event::made("migrated", name.as_str());
    }
    make_topics(&config).await?;
    event::made("migrated", "topics");
    Ok(path)
}

/// Adds to a configuration what this shop's folder and servers decide.
fn complete(mut base: Table, listen: SocketAddr, bootstrap: &str) -> Result<Table, Failure> {
    let file = |name: &str| {
        Value::Table(Table::from_iter([("file".to_owned(), format!("keys/{name}").into())]))
    };
    let with_tls = base.get("http").is_some_and(|http| http.get("tls").is_some());
    let mut put = into(&mut base);
    for (key, name) in [
        ("token_seed", "token.seed"),
        ("token_public", "token.public"),
        ("quote_seed", "quote.seed"),
        ("quote_public", "quote.public"),
        ("users_hash", "users.hash"),
        ("webhook", "webhook"),
        ("admin_password", "admin.password"),
    ] {
        put("keys", key, file(name), true);
    }
    if !with_tls {
        put("http", "internal_token", file("internal.token"), true);
    }
    put("kafka", "bootstrap", bootstrap.into(), true);
    put("users", "auto_verify", true.into(), false);
    put("notifications", "sent_log", "sent".into(), false);
    put("provider", "journal", "provider.journal".into(), false);
    let (listens, admins) = (free_ports(Name::ALL.len())?, free_ports(Name::ALL.len())?);
    for (name, (port, admin)) in Name::ALL.into_iter().zip(listens.into_iter().zip(admins)) {
        let own = |port| SocketAddr::new(listen.ip(), port);
        let at = if name == Name::Gateway && listen.port() != 0 { listen } else { own(port) };
        let mut service = Table::new();
        service.insert("listen".to_owned(), at.to_string().into());
        if name.has_database() {
            service.insert("database".to_owned(), file(&format!("{name}.url")));
            service.insert("owner".to_owned(), file(&format!("{name}.owner.url")));
            service.insert("wal".to_owned(), file(&format!("{name}.wal.url")));
            // A listener that asks for certificates is of no use to a probe.
            if with_tls {
                service.insert("admin".to_owned(), own(admin).to_string().into());
            }
        }
        put("services", name.as_str(), Value::Table(service), true);
    }
    drop(put);
    Ok(base)
}

/// Sets keys of sections; one that is not `always` is left as it is where it is set.
fn into(base: &mut Table) -> impl FnMut(&str, &str, Value, bool) + use<'_> {
    |section, key, value, always| {
        let section = base.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section
            && (always || !section.contains_key(key))
        {
            section.insert(key.to_owned(), value);
        }
    }
}

/// Draws ports that are free now.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let held: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let held = held.refuse_for("no free port")?;
    let ports = held.iter().map(|l| l.local_addr().map(|a| a.port()));
    ports.collect::<std::io::Result<Vec<_>>>().refuse_for("no free port")
}
