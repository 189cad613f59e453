//! Logins as families of refresh tokens: each token is good once, and a theft ends its family.

use std::time::Duration;

use amarra_core::Timestamp;
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tokens::Nonce;

/// One login: every refresh token that descends from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFamily {
    /// Its id.
    pub family_id: Uuid,
    /// What its tokens are derived from.
    pub nonce: Nonce,
    /// The generation whose token is good.
    pub generation: u32,
    /// When that generation began.
    pub rotated_at: Timestamp,
    /// When the login ends.
    pub expires_at: Timestamp,
}

/// What presenting a genuine token of a family does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The next generation begins.
    Rotated,
    /// The current token is given once more: the presented one was just rotated by its holder.
    Again,
    /// An old token came back: somebody else has it too, and the family ends.
    Reused,
    /// The login ended.
    Expired,
}

impl RefreshFamily {
    /// Presents a genuine token of `generation`.
    ///
    /// A later generation than the current one exists when the commit that began it was lost after
    /// its token was given; the holder of it is the holder of the login.
    pub fn present(&mut self, generation: u32, now: Timestamp, grace: Duration) -> Refreshed {
        if now >= self.expires_at {
            return Refreshed::Expired;
        }
        if generation >= self.generation {
            self.generation = generation.saturating_add(1);
            self.rotated_at = now;
            return Refreshed::Rotated;
        }
        let newest_old = generation.saturating_add(1) == self.generation;
        if newest_old && now < self.rotated_at.plus(grace) {
            return Refreshed::Again;
        }
        Refreshed::Reused
    }
}

/// The logins of one user.
///
/// # State
/// At most as many as configured; expired ones leave when the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sessions {
    /// The families, the oldest first.
    pub families: Vec<RefreshFamily>,
}

impl Aggregate for Sessions {
    const KIND: &'static str = "sessions";
}

impl Sessions {
    /// Begins a login, and returns the live ones it displaces.
    #[must_use]
    pub fn begin(&mut self, family: RefreshFamily, now: Timestamp, max: usize) -> Vec<Uuid> {
        self.families.retain(|known| now < known.expires_at);
        let surplus = self.families.len().saturating_add(1).saturating_sub(max);
        let evicted = self.families.drain(..surplus.min(self.families.len()));
        let evicted = evicted.map(|known| known.family_id).collect();
        self.families.push(family);
        evicted
    }

    /// Returns a login.
    pub fn find(&mut self, family_id: Uuid) -> Option<&mut RefreshFamily> {
        self.families.iter_mut().find(|family| family.family_id == family_id)
    }

    /// Ends a login; tells whether there was one.
    pub fn end(&mut self, family_id: Uuid) -> bool {
        let before = self.families.len();
        self.families.retain(|family| family.family_id != family_id);
        self.families.len() < before
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs.saturating_mul(1_000_000))
    }

    fn family(id: u128) -> RefreshFamily {
        RefreshFamily {
            family_id: Uuid::from_u128(id),
            nonce: [0; 16],
            generation: 1,
            rotated_at: at(0),
            expires_at: at(1_000),
        }
    }

    #[test]
    fn each_token_is_good_once_and_within_the_grace_window_once_more() {
        let mut family = family(1);
        assert_eq!(family.present(1, at(5), GRACE), Refreshed::Rotated);
        assert_eq!(family.present(1, at(14), GRACE), Refreshed::Again);
        assert_eq!(family.generation, 2, "a second answer begins no generation");
        assert_eq!(family.present(1, at(15), GRACE), Refreshed::Reused);
        assert_eq!(family.present(2, at(20), GRACE), Refreshed::Rotated);
        assert_eq!(family.present(1, at(20), GRACE), Refreshed::Reused, "two generations back");
        assert_eq!(family.present(3, at(999), GRACE), Refreshed::Rotated);
        assert_eq!(family.present(4, at(1_000), GRACE), Refreshed::Expired);
    }

    #[test]
    fn a_generation_whose_commit_was_lost_goes_on() {
        let mut family = family(1);
        assert_eq!(family.present(2, at(5), GRACE), Refreshed::Rotated);
        assert_eq!(family.generation, 3);
        assert_eq!(family.present(1, at(5), GRACE), Refreshed::Reused);
    }

    #[test]
    fn at_the_bound_the_oldest_login_is_displaced() {
        let mut sessions = Sessions::default();
        assert!(sessions.begin(family(1), at(0), 2).is_empty());
        assert!(sessions.begin(family(2), at(0), 2).is_empty());
        assert_eq!(sessions.begin(family(3), at(0), 2), [Uuid::from_u128(1)]);
        assert!(sessions.end(Uuid::from_u128(2)));
        assert!(!sessions.end(Uuid::from_u128(2)));
        let late = RefreshFamily { expires_at: at(5_000), ..family(4) };
        assert!(sessions.begin(late, at(1_000), 2).is_empty(), "expired ones are not displaced");
        assert_eq!(sessions.families.len(), 1);
    }

    proptest! {
        /// A thief and the owner each hold one token: whatever the order, at most one of them ever
        /// moves the family on, or it ends.
        #[test]
        fn a_generation_is_left_once(
            moves in proptest::collection::vec((0_u32..6, 0_i64..30), 1..40),
        ) {
            let mut family = family(1);
            let (mut now, mut left) = (0, std::collections::BTreeSet::new());
            for (generation, wait) in moves {
                now += wait;
                let before = family.generation;
                let generation = generation.clamp(1, before);
                match family.present(generation, at(now.min(999)), GRACE) {
                    Refreshed::Rotated => prop_assert!(left.insert(generation)),
                    Refreshed::Again => {
                        prop_assert_eq!(generation + 1, before);
                        prop_assert!(left.contains(&generation));
                    }
                    Refreshed::Reused => prop_assert!(generation < before),
                    Refreshed::Expired => prop_assert!(false, "not before its end"),
                }
            }
        }
    }
}
