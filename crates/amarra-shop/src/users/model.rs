//! The aggregates of Users as pure state machines.

use std::collections::BTreeSet;

use amarra_core::Timestamp;
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use crate::contract::users::ChangeRole;
use crate::contract::{Role, UserId};

/// Whether a user may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The address is not proved yet.
    Pending,
    /// Yes.
    Active,
    /// Not before then: too many wrong passwords.
    Locked {
        /// When the lock ends by itself.
        until: Timestamp,
    },
}

/// An account. The address is personal: it is stored here and nowhere else, and no event has it.
///
/// # State
/// `Pending -verify-> Active -lock-> Locked`; a lock that is over counts as `Active`. Every saved
/// version emits exactly one event, so the versions in the topic are dense.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub user_id: UserId,
    /// The address, normalised.
    pub email: String,
    /// Its keyed hash.
    pub email_hash: String,
    /// Whether the user may log in.
    pub status: Status,
    /// What the user may do.
    pub roles: BTreeSet<Role>,
    /// How many logins were ended before their time.
    pub revocations: u64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("User");
        debug.field("user_id", &self.user_id).field("status", &self.status);
        debug.field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Aggregate for User {
    const KIND: &'static str = "user";
}

impl User {
    /// Makes a new account.
    #[must_use]
    pub fn register(user_id: UserId, email: &str, email_hash: &str) -> Self {
        Self {
            user_id,
            email: email.to_owned(),
            email_hash: email_hash.to_owned(),
            status: Status::Pending,
            roles: [Role::Customer].into(),
            revocations: 0,
        }
    }

    /// Proves the address; none when it was proved before.
    #[must_use]
    pub fn verify(&self) -> Option<Self> {
        match self.status {
            Status::Pending => Some(Self { status: Status::Active, ..self.clone() }),
            Status::Active | Status::Locked { .. } => None,
        }
    }

    /// Locks the user out; none when that changes nothing.
    #[must_use]
    pub fn lock(&self, until: Timestamp, now: Timestamp) -> Option<Self> {
        if !self.may_log_in(now) {
            return None;
        }
        Some(Self { status: Status::Locked { until }, ..self.clone() })
    }

    /// Tells whether the user may log in.
    #[must_use]
    pub fn may_log_in(&self, now: Timestamp) -> bool {
        match self.status {
            Status::Pending => false,
            Status::Active => true,
            Status::Locked { until } => now >= until,
        }
    }

    /// Counts a login that was ended.
    #[must_use]
    pub fn revoke(&self) -> Self {
        Self { revocations: self.revocations.saturating_add(1), ..self.clone() }
    }

    /// Gives or takes a role; none when the user has it, or not, already.
    #[must_use]
    pub fn change_role(&self, change: &ChangeRole) -> Option<Self> {
        let mut roles = self.roles.clone();
        let changed =
            if change.grant { roles.insert(change.role) } else { roles.remove(&change.role) };
        changed.then(|| Self { roles, ..self.clone() })
    }
}

/// A password, apart from the account: what it counts changes at every failed login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The hash, a PHC string.
    pub phc: String,
    /// Wrong passwords since the last right one or lock.
    pub failures: u32,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl Aggregate for Credential {
    const KIND: &'static str = "credential";
}

impl Credential {
    /// Counts a wrong password; tells whether the user is to be locked out, and starts over then.
    #[must_use]
    pub fn fail(&self, failures_max: u32) -> (Self, bool) {
        let failures = self.failures.saturating_add(1);
        let lock = failures >= failures_max;
        (Self { failures: if lock { 0 } else { failures }, ..self.clone() }, lock)
    }
}

/// Makes an address unique: its id is the keyed hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailClaim {
    /// Who has it.
    pub user_id: UserId,
}

impl Aggregate for EmailClaim {
    const KIND: &'static str = "email";
}

/// Who is an administrator, in one place, so that the last one cannot be lost to a race.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Admins {
    /// The users.
    pub users: BTreeSet<UserId>,
}

impl Aggregate for Admins {
    const KIND: &'static str = "admins";
}

impl Admins {
    /// The id of the only one.
    pub const ID: &'static str = "all";

    /// Decides whether `by` may change a role of `target`, and returns the administrators after it.
    ///
    /// # Errors
    /// [`RoleRefused`].
    pub fn change(
        &self,
        by: UserId,
        target: &User,
        change: &ChangeRole,
    ) -> Result<Self, RoleRefused> {
        if !self.users.contains(&by) {
            return Err(RoleRefused::NotAdmin);
        }
        if change.grant && by == target.user_id {
            return Err(RoleRefused::SelfGrant);
        }
        if change.grant && target.status == Status::Pending {
            return Err(RoleRefused::Unverified);
        }
        let mut users = self.users.clone();
        if change.role == Role::Admin {
            if change.grant {
                users.insert(target.user_id);
            } else {
                users.remove(&target.user_id);
            }
        }
        if users.is_empty() {
            return Err(RoleRefused::LastAdmin);
        }
        Ok(Self { users })
    }
}

/// Why roles stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleRefused {
    /// The caller is no administrator any more, whatever the token says.
    #[error("only an administrator changes roles")]
    NotAdmin,
    /// The caller would give a role to herself.
    #[error("nobody gives a role to themselves")]
    SelfGrant,
    /// The user's address is not proved.
    #[error("the user is not verified")]
    Unverified,
    /// Nobody could give roles any more.
    #[error("the last administrator cannot be removed")]
    LastAdmin,
}

/// Text that is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("email must be an address of at most 254 characters, such as name@shop.example")]
pub struct BadEmail;

/// Normalises an address: letters to lower case, nothing else, since providers differ in the rest.
///
/// # Errors
/// [`BadEmail`]; it does not repeat the text, which is personal.
pub fn normalise(email: &str) -> Result<String, BadEmail> {
    let (local, domain) = email.rsplit_once('@').ok_or(BadEmail)?;
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'@' | b'"' | b'<' | b'>' | b',');
    let labels = domain.split('.').filter(|label| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    let dots = domain.bytes().filter(|b| *b == b'.').count();
    let fits = (1..=64).contains(&local.len())
        && email.len() <= 254
        && local.bytes().all(plain)
        && dots > 0
        && labels.count() == dots.saturating_add(1);
    if fits { Ok(email.to_ascii_lowercase()) } else { Err(BadEmail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(n: u128) -> User {
        User::register(uuid::Uuid::from_u128(n).into(), "a@b.example", "hash")
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn only_a_verified_user_logs_in_and_a_lock_ends_by_itself() {
        let pending = user(1);
        assert!(!pending.may_log_in(at(0)));
        assert_eq!(pending.lock(at(9), at(0)), None, "nothing to lock out of");
        let active = pending.verify().unwrap();
        assert!(active.may_log_in(at(0)));
        assert_eq!(active.verify(), None);
        let locked = active.lock(at(9), at(0)).unwrap();
        assert!(!locked.may_log_in(at(8)) && locked.may_log_in(at(9)));
        assert_eq!(locked.lock(at(20), at(8)), None, "a lock is not prolonged while it lasts");
        assert!(locked.lock(at(20), at(9)).is_some());
        assert_eq!(locked.verify(), None, "a verification does not unlock");
    }

    #[test]
    fn the_nth_failure_locks_and_starts_over() {
        let mut credential = Credential { phc: String::new(), failures: 0 };
        let locks: Vec<_> = (0..7)
            .map(|_| {
                let (next, lock) = credential.fail(3);
                credential = next;
                lock
            })
            .collect();
        assert_eq!(locks, [false, false, true, false, false, true, false]);
    }

    #[test]
    fn roles_change_by_an_administrator_who_is_not_the_last() {
        let (root, other) = (user(1).verify().unwrap(), user(2).verify().unwrap());
        let admins = Admins { users: [root.user_id].into() };
        let change = |role, grant| ChangeRole { role, grant };
        let check = |by: &User, target: &User, what: ChangeRole, expect: Result<usize, _>| {
            let got = admins.change(by.user_id, target, &what);
            assert_eq!(got.map(|a| a.users.len()), expect, "{what:?}");
        };
        check(&other, &root, change(Role::Support, true), Err(RoleRefused::NotAdmin));
        check(&root, &root, change(Role::Support, true), Err(RoleRefused::SelfGrant));
        check(&root, &root, change(Role::Admin, true), Err(RoleRefused::SelfGrant));
        check(&root, &root, change(Role::Admin, false), Err(RoleRefused::LastAdmin));
        check(&root, &user(3), change(Role::Support, true), Err(RoleRefused::Unverified));
        check(&root, &other, change(Role::Support, true), Ok(1));
        check(&root, &other, change(Role::Admin, true), Ok(2));
        check(&root, &root, change(Role::Customer, false), Ok(1));
    }

    #[test]
    fn addresses_are_checked_and_normalised() {
        assert_eq!(normalise("Ann.Lee+x@Shop.Example").as_deref(), Ok("ann.lee+x@shop.example"));
        let long = format!("{}@b.example", "a".repeat(65));
        let bad = [
            "",
            "@",
            "a@",
            "@b.example",
            "a@b",
            "a@.example",
            "a@b.",
            "a b@c.example",
            "a@b..example",
            "a@b@c.example",
            "a@b.exa mple",
            "a\n@b.example",
            "<a@b.example>",
            "ä@b.example",
            &long,
        ];
        for text in bad {
            assert_eq!(normalise(text), Err(BadEmail), "{text:?}");
        }
    }

    #[test]
    fn nothing_personal_is_in_the_debug_output() {
        assert!(!format!("{:?}", user(1)).contains("b.example"));
        let credential = Credential { phc: "$argon2id$secret".into(), failures: 1 };
        assert!(!format!("{credential:?}").contains("secret"));
    }

    proptest! {
        /// Whatever the administrators do, one is left, and the set equals who has the role.
        #[test]
        fn an_administrator_is_always_left(
            moves in proptest::collection::vec((0_usize..3, 0_usize..3, any::<bool>()), 0..30),
        ) {
            let mut users: Vec<_> = (0..3).map(|n| user(n).verify().unwrap()).collect();
            users[0].roles.insert(Role::Admin);
            let mut admins = Admins { users: [users[0].user_id].into() };
            for (by, target, grant) in moves {
                let change = ChangeRole { role: Role::Admin, grant };
                if let Ok(after) = admins.change(users[by].user_id, &users[target], &change) {
                    prop_assert!(!(grant && by == target));
                    admins = after;
                    if let Some(changed) = users[target].change_role(&change) {
                        users[target] = changed;
                    }
                }
                let with_role: BTreeSet<_> = users
                    .iter()
                    .filter(|u| u.roles.contains(&Role::Admin))
                    .map(|u| u.user_id)
                    .collect();
                prop_assert!(!admins.users.is_empty());
                prop_assert_eq!(&admins.users, &with_role);
            }
        }
    }
}
