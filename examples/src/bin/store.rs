//! amarra-store: a deposit whose commit is answered by nobody, asked for again under its key.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amarra_core::PartitionKey;
use amarra_core::codec::Message;
use amarra_memory::{Effect, Faults, Hooks, Operation, Site, Verdict};
use amarra_messaging::TxError;
use amarra_store::audit::verify_chain;
use amarra_store::{
    Aggregate, Attempts, Command, Draft, IdempotencyKey, Idempotent, Session, StoredResponse,
    execute,
};
use async_trait::async_trait;
use examples::{Fallible, Process};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    cents: i64,
}

impl Aggregate for Account {
    const KIND: &'static str = "account";
}

#[derive(Debug, Serialize, Deserialize)]
struct Deposited {
    cents: i64,
}

impl Message for Deposited {
    const KIND: &'static str = "Deposited";
}

struct Deposit {
    key: &'static str,
    cents: i64,
}

#[async_trait]
impl Command for Deposit {
    type Output = String;
    type Error = TxError;

    /// State, event, answer and audit row: committed as one, or none of them.
    async fn run(&self, session: &mut Session<'_>) -> Result<String, TxError> {
        let key = IdempotencyKey {
            principal: "ada".into(),
            route: "deposit".into(),
            key: self.key.into(),
            request_hash: [0; 32],
        };
        if let Idempotent::Replay(stored) = session.unit().begin_idempotent(&key).await? {
            return Ok(format!("{} (as answered before)", String::from_utf8_lossy(&stored.body)));
        }
        let mut loaded = session.load::<Account>("ada").await?;
        let cents = loaded.state.as_ref().map_or(0, |a| a.cents).saturating_add(self.cents);
        let version = session.save(&mut loaded, Account { cents }, "deposit").await?;
        let (key_of, message) = (PartitionKey::new("ada"), &Deposited { cents: self.cents });
        let subject = &loaded.id;
        let draft = Draft { topic: "accounts", key: key_of, subject, version, message };
        session.emit(draft).await?;
        let answer = format!("balance {cents} at version {version}");
        let response = StoredResponse { status: 200, body: answer.clone().into() };
        session.unit().record_response(&key, &response).await?;
        Ok(answer)
    }
}

/// Loses the answer to the first commit.
#[derive(Debug, Default)]
struct Network {
    has_lost: AtomicBool,
}

impl Faults for Network {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let is_commit = matches!(site.operation, Operation::Commit { .. });
        if !is_commit || self.has_lost.swap(true, Ordering::Relaxed) {
            return Verdict::PROCEED;
        }
        println!("network: the answer to a commit is lost");
        Verdict::of(Effect::LoseReply)
    }
}

fn main() -> Fallible {
    let process = Process::new(&[], Hooks::default().with_faults(Arc::new(Network::default())))?;
    let bank = process.service("bank")?;
    process.block_on(async {
        for (key, cents) in [("k-1", 1000), ("k-1", 1000), ("k-2", 500)] {
            let (deposit, cause) = (Deposit { key, cents }, bank.cause("ada"));
            let attempts = Attempts { idempotent: true, ..Attempts::default() };
            let (store, how) = (bank.store.as_ref(), (&cause, attempts));
            let answer = execute(store, &bank.env, "/example/bank", how, &deposit).await?;
            println!("{key}: deposit {cents}: {answer}");
        }
        Ok::<_, TxError>(())
    })?;
    bank.database.inspect(|db| {
        println!("{} events in the outbox", db.outbox().count());
        let (number, _) = verify_chain(0, [0; 32], db.audit())?;
        println!("{number} audit rows, each chained to the one before");
        Ok(())
    })
}
