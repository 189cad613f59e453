//! Verbs for operators.

pub(crate) mod audit;
pub(crate) mod inbox;
pub(crate) mod ledger;
pub(crate) mod outbox;
pub(crate) mod servers;
pub(crate) mod url;

use crate::args::{Look, Place};
use crate::config::{self, Config};
use crate::embedded;
use crate::name::Name;
use crate::refusal::Failure;
use crate::serve;
use crate::storage::Storage;

/// Opens the databases a verb is about, in order.
async fn storages(look: &Look) -> Result<Vec<(Name, Storage)>, Failure> {
    let names = match look.service {
        None => Name::WITH_DATABASE.to_vec(),
        Some(name) if name.has_database() => vec![name],
        Some(name) => return Err(Failure::refused(format!("{name} has no database"))),
    };
    let mut opened = Vec::new();
    for name in names {
        opened.push((name, storage(&look.place, name).await?));
    }
    Ok(opened)
}

async fn storage(place: &Place, name: Name) -> Result<Storage, Failure> {
    if let Some(data) = &place.data {
        if !data.join(format!("{name}.sqlite")).exists() {
            let data = data.display();
            return Err(Failure::refused(format!("{data} is not the folder of a shop")));
        }
        let opened = embedded::open(data, &Config::default(), name).await;
        return opened.map(Storage::Sqlite).map_err(|e| {
            let stop = "this verb needs an embedded shop that does not run; of one that runs see \
                        /readyz and /metrics";
            Failure::refused(format!("{e} ({stop})"))
        });
    }
    let path = place.config.as_deref();
    let config = config::load(path.ok_or_else(|| Failure::refused("name --data or --config"))?)?;
    let database = serve::database(&config, name, &config.service(name)).await?;
    Ok(Storage::Postgres(database))
}
