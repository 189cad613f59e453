//! The calls of one unit, each left out where it would wait for another unit of the run.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Version;
use amarra_messaging::{Group, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::{Idempotent, StoredResponse};
use bytes::Bytes;

use super::{GROUPS, HELD, LONG, MESSAGE_BYTES_MAX, Open, Run, VIEWS, Word, idempotency, oldest};
use crate::check::{audit, load, outgoing, thing};
use crate::ledger::{NOTED, delivery};

impl Run<'_> {
    pub(super) async fn change(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = word.key();
        if !self.hold(slot, format!("thing {key}")) {
            return Ok(HELD.to_owned());
        }
        let id = thing(key);
        let (version, body) = load(open.unit.as_mut(), &id).await?;
        let next = version.next();
        open.unit.save(&id, version, Bytes::from(format!("{next} {}", word.pick(9)))).await?;
        open.unit.enqueue(&[outgoing(&self.env, key, next.get())]).await?;
        for _ in 0..word.pick(3) {
            open.unit.audit(audit(&self.env, &id, next.get())).await?;
        }
        Ok(format!("changed {key} at {version} {body:?}"))
    }

    pub(super) async fn load(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let keys: Vec<_> = (0..1 + word.pick(4)).map(|_| word.key()).collect();
        for key in &keys {
            if !self.hold(slot, format!("thing {key}")) {
                return Ok(HELD.to_owned());
            }
        }
        let ids: Vec<_> = keys.iter().map(|key| thing(key)).collect();
        let found = open.unit.load(&ids).await?;
        Ok(format!("loaded {keys:?}: {found:?}"))
    }

    /// Saves at a version that may or may not be the stored one.
    pub(super) async fn save(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let (key, version) = (word.key(), Version::new(u64::try_from(word.pick(4)).unwrap_or(0)));
        if !self.hold(slot, format!("thing {key}")) {
            return Ok(HELD.to_owned());
        }
        if version == Version::ABSENT {
            // Else a database may tell at the commit only that it exists.
            load(open.unit.as_mut(), &thing(key)).await?;
        }
        open.unit.save(&thing(key), version, Bytes::from_static(b"blind")).await?;
        Ok(format!("saved {key} at {version}"))
    }

    pub(super) async fn enqueue(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = word.key();
        if !self.hold(slot, format!("thing {key}")) {
            return Ok(HELD.to_owned());
        }
        let count = word.pick(4);
        let mut messages: Vec<_> = (0..count).map(|_| outgoing(&self.env, key, 0)).collect();
        if word.pick(8) == 7
            && let Some(last) = messages.last_mut()
        {
            last.envelope.data = Bytes::from(vec![b'x'; MESSAGE_BYTES_MAX + (64 << 10)]);
        }
        open.unit.enqueue(&messages).await?;
        Ok(format!("appended {count} of {key}"))
    }

    pub(super) async fn admit(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let message = self.messages[word.pick(self.messages.len())].clone();
        let group = GROUPS[word.pick(GROUPS.len())];
        if !self.hold(slot, format!("inbox {group}")) {
            return Ok(HELD.to_owned());
        }
        let admit = open.unit.admit(&Group::from(group), &message).await?;
        Ok(format!("{group} admits {}: {admit:?}", message.offset))
    }

    pub(super) async fn idempotent(
        &mut self,
        begin: bool,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = idempotency(word.pick(2), word.pick(2));
        let mut said = "responds".to_owned();
        if begin {
            let answer = open.unit.begin_idempotent(&key).await?;
            said = format!("begins: {answer:?}");
            open.begun.push(key.clone());
            if answer != Idempotent::Fresh || word.pick(2) == 0 {
                return Ok(said);
            }
        }
        let body = Bytes::from(format!("answer {}", word.pick(5)));
        open.unit.record_response(&key, &StoredResponse { status: 201, body }).await?;
        Ok(said)
    }

    pub(super) async fn view(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let (view, key) = (VIEWS[word.pick(VIEWS.len())], word.key());
        if !self.hold(slot, format!("view {view} {key}")) {
            return Ok(HELD.to_owned());
        }
        Ok(format!("{view} {key}: {:?}", open.unit.load_view(view, key).await?))
    }

    pub(super) async fn write_view(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let (view, key) = (VIEWS[word.pick(VIEWS.len())], word.key());
        if !self.hold(slot, format!("view {view} {key}")) {
            return Ok(HELD.to_owned());
        }
        let body = (word.pick(4) > 0).then(|| Bytes::from(format!("row {}", word.pick(5))));
        let position = Version::new(u64::try_from(word.pick(5)).unwrap_or(0));
        let (view, key) = (Arc::from(view), Arc::from(key));
        open.unit.write_view(ViewWrite { view, key, position, body }).await?;
        Ok("wrote a view".to_owned())
    }

    pub(super) async fn schedule(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = word.key();
        if !self.hold(slot, format!("timer {key}")) {
            return Ok(HELD.to_owned());
        }
        let after = [Some(Duration::ZERO), Some(LONG), None][word.pick(3)];
        open.unit.schedule(&thing(key), after).await?;
        Ok(format!("scheduled {key} {after:?}"))
    }

    pub(super) async fn verify(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let Some(claim) = self.claims.get(word.pick(self.claims.len())).cloned() else {
            return Ok("has no claim".to_owned());
        };
        if !self.hold(slot, format!("timer {}", claim.id.id)) {
            return Ok(HELD.to_owned());
        }
        open.verified.push(claim.clone());
        open.unit.verify(&claim).await?;
        Ok(format!("verified {}", claim.id))
    }

    pub(super) async fn park(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = word.key();
        if !self.hold(slot, format!("parked {key}")) {
            return Ok(HELD.to_owned());
        }
        let offset = u64::try_from(word.pick(9)).unwrap_or(0);
        let message = delivery(&self.env, NOTED, key, offset);
        open.unit.park(&Group::from("readers"), &message, "poison").await?;
        Ok(format!("parked {key}"))
    }

    /// Looks at the oldest parked message of a key, and may take it.
    pub(super) async fn unpark(
        &mut self,
        slot: usize,
        open: &mut Open,
        mut word: Word,
    ) -> Result<String, TxError> {
        let key = word.key();
        if !self.hold(slot, format!("parked {key}")) {
            return Ok(HELD.to_owned());
        }
        let (said, ticket) = oldest(open.unit.as_mut(), key).await?;
        if let Some(ticket) = ticket.filter(|_| word.pick(3) > 0) {
            open.unit.unpark(&Group::from("readers"), ticket).await?;
        }
        Ok(said)
    }
}
