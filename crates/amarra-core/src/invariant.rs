//! The shop's invariants by number, shared by code, checks, planted bugs and documents.

use std::fmt;
use std::str::FromStr;

/// When an invariant has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At every step.
    Always,
    /// Once faults have healed and the system is quiet.
    Quiescence,
}

macro_rules! invariants {
    ($($name:ident $scope:ident $law:literal)+) => {
        /// One invariant of the shop, named as in `docs/invariants.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum InvariantId {
            $(#[doc = $law] $name,)+
        }

        impl InvariantId {
            /// Every invariant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the short name, `"I1"`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns the law in one sentence.
            #[must_use]
            pub fn law(self) -> &'static str {
                match self { $(Self::$name => $law,)+ }
            }

            /// Returns when it has to hold.
            #[must_use]
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)+ }
            }
        }
    };
}

invariants! {
    I1 Always "Stock is never negative and never reserved beyond what is on hand."
    I2 Always "Stock is conserved: each row equals the fold of its ledger."
    I3 Always "Nothing is oversold: committed and held stock never exceed what was available."
    I4 Quiescence "No reservation is held for an order that has ended."
    I5 Always "An order has at most one live reservation."
    I6 Always "The journal balances per currency; refunded <= captured <= authorized."
    I7 Quiescence "Our journal equals the payment provider's ledger."
    I8 Always "An order is captured at most once."
    I9 Always "A captured order has its stock committed, or is being refunded."
    I10 Quiescence "A captured order is confirmed or fully refunded."
    I11 Quiescence "A cancelled or rejected order moved no net money and no net stock."
    I12 Quiescence "Every order ends within a bound of fault-free time."
    I13 Always "An order makes only legal transitions and ends exactly once."
    I14 Always "An order's total equals its lines and the amount authorized."
    I15 Quiescence
        "Each (order, state, channel) is notified exactly once or suppressed with a reason."
    I16 Quiescence
        "Each committed change has one audit row with an actor; the hash chain is intact."
    I17 Quiescence "Read models equal the fold of the events; a reader sees its own writes."
    I18 Quiescence "Each outbox row is published; each (consumer, event) is applied exactly once."
    I19 Always "The events of one key are delivered in commit order."
    I20 Always "No answer shows one customer's order to another."
    I24 Always "The same idempotency key gets the same answer."
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no invariant's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no invariant is called {0:?}: they are I1 to I20 and I24")]
pub struct UnknownInvariant(String);

impl FromStr for InvariantId {
    type Err = UnknownInvariant;

    fn from_str(s: &str) -> Result<Self, UnknownInvariant> {
        let found = Self::ALL.iter().find(|id| id.name().eq_ignore_ascii_case(s));
        found.copied().ok_or_else(|| UnknownInvariant(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &id in InvariantId::ALL {
            assert_eq!(id.name().parse(), Ok(id));
        }
        assert!("I99".parse::<InvariantId>().is_err());
    }
}
