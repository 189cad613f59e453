//! The double-entry journal: one balanced entry for each capture and refund.

use std::collections::BTreeMap;

use amarra_core::Timestamp;
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use crate::contract::{Currency, Money, OrderId, RefundId};

/// Where money is or comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// What customers owe us.
    Customer,
    /// What the provider took for us and has not paid out.
    PspClearing,
    /// What we earned.
    Merchant,
    /// What we gave back of it.
    Refund,
}

/// What an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// The provider took the customer's money for us.
    Capture,
    /// The provider gave money back for us.
    Refund,
}

/// One side of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// How much: a debit is positive, a credit negative.
    pub amount: Money,
}

/// An entry, written once: an aggregate of its own, whose id says what it records, so that nothing
/// can be recorded twice.
///
/// # Laws
/// - Its postings sum to nothing in every currency (invariant I6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// `<order>/capture` or `<order>/refund/<refund>`.
    pub id: String,
    /// The order.
    pub order_id: OrderId,
    /// What it records.
    pub kind: EntryKind,
    /// How much moved.
    pub amount: Money,
    /// The postings.
    pub postings: Vec<Posting>,
    /// The provider's reference.
    pub psp_ref: String,
    /// When, by the database's clock.
    pub at: Timestamp,
}

impl Aggregate for JournalEntry {
    const KIND: &'static str = "journal";
}

impl JournalEntry {
    /// Records a capture: the sale is owed by the customer, whose debt the provider collected.
    #[must_use]
    pub fn capture(order_id: OrderId, amount: Money, psp_ref: &str, at: Timestamp) -> Self {
        let moves =
            [(Account::Customer, Account::Merchant), (Account::PspClearing, Account::Customer)];
        Self {
            id: format!("{order_id}/capture"),
            order_id,
            kind: EntryKind::Capture,
            amount,
            postings: postings(&moves, amount),
            psp_ref: psp_ref.to_owned(),
            at,
        }
    }

    /// Records a refund: it is owed to the customer, and the provider paid it.
    #[must_use]
    pub fn refund(
        (order_id, refund_id): (OrderId, RefundId),
        amount: Money,
        psp_ref: &str,
        at: Timestamp,
    ) -> Self {
        let moves =
            [(Account::Refund, Account::Customer), (Account::Customer, Account::PspClearing)];
        Self {
            id: format!("{order_id}/refund/{refund_id}"),
            order_id,
            kind: EntryKind::Refund,
            amount,
            postings: postings(&moves, amount),
            psp_ref: psp_ref.to_owned(),
            at,
        }
    }

    /// Tells whether the postings sum to nothing in every currency.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let mut sums = BTreeMap::<Currency, i128>::new();
        for posting in &self.postings {
            let sum = sums.entry(posting.amount.currency).or_default();
            *sum = sum.saturating_add(i128::from(posting.amount.minor));
        }
        sums.values().all(|&sum| sum == 0)
    }

    /// Returns what the entry does to an account, in minor units.
    #[must_use]
    pub fn effect_on(&self, account: Account) -> i64 {
        let touching = self.postings.iter().filter(|posting| posting.account == account);
        touching.fold(0, |sum, posting| sum.saturating_add(posting.amount.minor))
    }
}

/// Makes a debit and a credit of `amount` for each pair.
fn postings(moves: &[(Account, Account)], amount: Money) -> Vec<Posting> {
    let credit = Money { minor: amount.minor.saturating_neg(), ..amount };
    moves
        .iter()
        .flat_map(|&(to, from)| {
            [Posting { account: to, amount }, Posting { account: from, amount: credit }]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_and_refunds_balance_and_meet_in_clearing() {
        let order_id: OrderId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let refund_id: RefundId = "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap();
        let euro = |minor| Money::new(minor, Currency::EUR);
        let capture = JournalEntry::capture(order_id, euro(500), "p1", Timestamp::EPOCH);
        let refund = JournalEntry::refund((order_id, refund_id), euro(200), "p2", Timestamp::EPOCH);
        assert!(capture.is_balanced() && refund.is_balanced());
        let sum = |account| capture.effect_on(account) + refund.effect_on(account);
        assert_eq!(sum(Account::PspClearing), 300);
        assert_eq!(sum(Account::Customer), 0);
        assert_eq!((sum(Account::Merchant), sum(Account::Refund)), (-500, 200));
        let mut crooked = capture.clone();
        crooked.postings.pop();
        assert!(!crooked.is_balanced());
    }
}
