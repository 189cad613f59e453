//! The changes that Users makes, each in one unit of work.

use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{AggregateId, PartitionKey, Version};
use amarra_store::{Aggregate, Command, Draft, Loaded, Session, TxError};
use async_trait::async_trait;
use uuid::Uuid;

use super::config::Config;
use super::model::{Admins, Credential, EmailClaim, RoleRefused, User};
use super::session::{RefreshFamily, Refreshed, Sessions};
use super::tokens::{Presented, TokenKeys, nonce, token_hash};
use super::verification::{Delivery, Verification};
use super::view::user_view;
use crate::contract::users::{
    ChangeRole, RefreshReuseDetected, Registered, RolesChanged, Secret, SessionRevoked, UserLocked,
    UserRegistered, UserVerified, UserView,
};
use crate::contract::{ApiError, Role, UserId, topics};

/// Emits an event about a user whose version was just saved.
async fn emit<M: Message>(
    session: &mut Session<'_>,
    user_id: UserId,
    (subject, version): (&AggregateId, Version),
    message: &M,
) -> Result<(), TxError> {
    let key = PartitionKey::new(user_id.to_string());
    session.emit(Draft { topic: topics::USERS, key, subject, version, message }).await.map(drop)
}

/// Saves a changed user and emits the one event of that version.
async fn save<M: Message>(
    session: &mut Session<'_>,
    user: &mut Loaded<User>,
    (state, action): (User, &str),
    message: &M,
) -> Result<(), TxError> {
    let user_id = state.user_id;
    let version = session.save(user, state, action).await?;
    emit(session, user_id, (&user.id, version), message).await
}

pub(super) fn ids<const N: usize>(kinds: [&'static str; N], id: &str) -> [AggregateId; N] {
    kinds.map(|kind| AggregateId::new(kind, id))
}

/// Makes an account, unless the address has one.
pub(super) struct Register<'a> {
    pub(super) config: &'a Config,
    pub(super) keys: &'a TokenKeys,
    pub(super) user_id: UserId,
    pub(super) email: String,
    pub(super) phc: String,
    /// Whether this is the first administrator, who needs no verification.
    pub(super) admin: bool,
}

#[async_trait]
impl Command for Register<'_> {
    type Output = Registered;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Registered, ApiError> {
        // The answer is the same for an address that is taken: nobody learns who has an account.
        let answer = Registered { user_id: self.user_id };
        let hash = self.keys.email_hash(&self.email);
        let id = self.user_id.to_string();
        let mut locks = ids([Credential::KIND, User::KIND, Verification::KIND], &id).to_vec();
        locks.push(EmailClaim::aggregate_id(&hash));
        if self.admin {
            locks.push(Admins::aggregate_id(Admins::ID));
        }
        session.lock(&locks).await?;
        let mut claim = session.load::<EmailClaim>(&hash).await?;
        if claim.state.is_some() {
            return Ok(answer);
        }
        session.save(&mut claim, EmailClaim { user_id: self.user_id }, "claim").await?;
        let mut credential = session.load::<Credential>(&id).await?;
        let secret = Credential { phc: self.phc.clone(), failures: 0 };
        session.save(&mut credential, secret, "set password").await?;
        let mut user = session.load::<User>(&id).await?;
        let mut state = User::register(self.user_id, &self.email, &hash);
        if self.admin {
            state.roles.insert(Role::Admin);
            let mut admins = session.load::<Admins>(Admins::ID).await?;
            let mut users = admins.state.clone().unwrap_or_default().users;
            users.insert(self.user_id);
            session.save(&mut admins, Admins { users }, "bootstrap").await?;
        }
        let event = UserRegistered { user_id: self.user_id, email_hash: hash };
        save(session, &mut user, (state.clone(), "register"), &event).await?;
        if self.config.auto_verify || self.admin {
            let verified = state.verify().unwrap_or(state);
            let event = UserVerified { user_id: self.user_id };
            save(session, &mut user, (verified, "verify"), &event).await?;
        } else {
            self.queue_verification(session, &id).await?;
        }
        Ok(answer)
    }
}

impl Register<'_> {
    async fn queue_verification(&self, session: &mut Session<'_>, id: &str) -> Result<(), TxError> {
        let nonce = nonce(session.env().entropy.as_ref());
        let token = self.keys.verification(self.user_id, &nonce);
        let mut loaded = session.load::<Verification>(id).await?;
        let verification = Verification {
            user_id: self.user_id,
            nonce,
            token_hash: token_hash(&token),
            expires_at: session.now().plus(self.config.verification_ttl),
            delivery: Delivery::Queued,
            attempts: 0,
        };
        session.save(&mut loaded, verification, "queue verification").await?;
        session.schedule(&loaded.id, Some(Duration::ZERO)).await
    }
}

/// Proves an address.
pub(super) struct Verify {
    pub(super) user_id: UserId,
    pub(super) token: Secret,
}

#[async_trait]
impl Command for Verify {
    type Output = ();
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<(), ApiError> {
        let id = self.user_id.to_string();
        session.lock(&ids([User::KIND, Verification::KIND], &id)).await?;
        let verification = session.load::<Verification>(&id).await?;
        let mut user = session.load::<User>(&id).await?;
        let now = session.now();
        let proved = verification.state.is_some_and(|v| v.proves(&self.token, now));
        let state = user.state.clone().filter(|_| proved).ok_or_else(|| {
            ApiError::Unprocessable("the verification token is not valid, or expired".into())
        })?;
        if let Some(verified) = state.verify() {
            let event = UserVerified { user_id: self.user_id };
            save(session, &mut user, (verified, "verify"), &event).await?;
        }
        session.schedule(&verification.id, None).await?;
        Ok(())
    }
}

/// A login or refresh that succeeded: what tokens are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) user: User,
    pub(super) version: Version,
    pub(super) refresh_token: Secret,
    pub(super) at: amarra_core::Timestamp,
}

/// Begins a login after the password was found right.
pub(super) struct Begin<'a> {
    pub(super) config: &'a Config,
    pub(super) keys: &'a TokenKeys,
    pub(super) user_id: UserId,
    /// The hash that the password was compared with.
    pub(super) phc: String,
    /// The hash to store instead, when the parameters changed.
    pub(super) rehashed: Option<String>,
    pub(super) family_id: Uuid,
}

/// What a login whose password was right comes to.
#[derive(Debug)]
pub(super) enum Begun {
    Granted(Box<Granted>),
    /// The address is not proved.
    Unverified,
    /// Locked out.
    Refused,
    /// The stored hash is another one by now: compare the password again.
    Changed,
}

#[async_trait]
impl Command for Begin<'_> {
    type Output = Begun;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Begun, ApiError> {
        let id = self.user_id.to_string();
        session.lock(&ids([Credential::KIND, Sessions::KIND, User::KIND], &id)).await?;
        let mut user = session.load::<User>(&id).await?;
        let mut credential = session.load::<Credential>(&id).await?;
        let now = session.now();
        let (Some(state), Some(secret)) = (user.state.clone(), credential.state.clone()) else {
            return Ok(Begun::Refused);
        };
        // A retry after an unknown commit finds the hash it stored itself.
        let stored = Some(&secret.phc);
        if secret.phc != self.phc && stored != self.rehashed.as_ref() {
            return Ok(Begun::Changed);
        }
        if state.status == super::model::Status::Pending {
            return Ok(Begun::Unverified);
        }
        if !state.may_log_in(now) {
            return Ok(Begun::Refused);
        }
        let phc = self.rehashed.clone().unwrap_or_else(|| secret.phc.clone());
        let clean = Credential { phc, failures: 0 };
        if clean != secret {
            session.save(&mut credential, clean, "log in").await?;
        }
        let mut sessions = session.load::<Sessions>(&id).await?;
        let mut logins = sessions.state.clone().unwrap_or_default();
        let family = match logins.find(self.family_id) {
            Some(family) => family.clone(),
            None => self.family(session, now),
        };
        let (family_id, nonce) = (*family.family_id.as_bytes(), family.nonce);
        let refresh_token =
            self.keys.refresh(self.user_id, (&family_id, &nonce), family.generation);
        if logins.find(self.family_id).is_none() {
            for evicted in logins.begin(family, now, self.config.sessions_max) {
                revoke(session, &mut user, evicted, "evicted").await?;
            }
            session.save(&mut sessions, logins, "log in").await?;
        }
        let user_state = user.state.clone().unwrap_or(state);
        let granted = Granted { user: user_state, version: user.version, refresh_token, at: now };
        Ok(Begun::Granted(Box::new(granted)))
    }
}

impl Begin<'_> {
    fn family(&self, session: &Session<'_>, now: amarra_core::Timestamp) -> RefreshFamily {
        RefreshFamily {
            family_id: self.family_id,
            nonce: nonce(session.env().entropy.as_ref()),
            generation: 1,
            rotated_at: now,
            expires_at: now.plus(self.config.refresh_ttl),
        }
    }
}

/// Counts a wrong password, and locks the user out at the last one.
pub(super) struct Fail<'a> {
    pub(super) config: &'a Config,
    pub(super) user_id: UserId,
}

#[async_trait]
impl Command for Fail<'_> {
    type Output = ();
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<(), ApiError> {
        let id = self.user_id.to_string();
        session.lock(&ids([Credential::KIND, User::KIND], &id)).await?;
        let mut user = session.load::<User>(&id).await?;
        let mut credential = session.load::<Credential>(&id).await?;
        let now = session.now();
        let (Some(state), Some(secret)) = (user.state.clone(), credential.state.clone()) else {
            return Ok(());
        };
        // While a lock lasts nothing is counted: it must not be prolonged by an attacker.
        let Some(locked) = state.lock(now.plus(self.config.lock_for), now) else { return Ok(()) };
        let (counted, lock) = secret.fail(self.config.login_failures_max);
        session.save(&mut credential, counted, "fail login").await?;
        if lock {
            let reason = "too many wrong passwords".to_owned();
            let event = UserLocked { user_id: self.user_id, reason };
            save(session, &mut user, (locked, "lock"), &event).await?;
        }
        Ok(())
    }
}

/// Ends one login in the record of its user.
async fn revoke(
    session: &mut Session<'_>,
    user: &mut Loaded<User>,
    family_id: Uuid,
    cause: &str,
) -> Result<(), TxError> {
    let Some(state) = user.state.as_ref().map(User::revoke) else { return Ok(()) };
    let event = SessionRevoked {
        user_id: state.user_id,
        family_id: family_id.to_string(),
        cause: cause.to_owned(),
    };
    save(session, user, (state, "revoke session"), &event).await
}

/// Uses a refresh token.
pub(super) struct Refresh<'a> {
    pub(super) config: &'a Config,
    pub(super) keys: &'a TokenKeys,
    pub(super) presented: Presented,
}

#[async_trait]
impl Command for Refresh<'_> {
    type Output = Option<Box<Granted>>;
    type Error = ApiError;

    /// Answers none where the login is refused: the unit commits all the same, since a theft that
    /// was found has to end the login.
    async fn run(&self, session: &mut Session<'_>) -> Result<Option<Box<Granted>>, ApiError> {
        let id = self.presented.user_id.to_string();
        session.lock(&ids([Sessions::KIND, User::KIND], &id)).await?;
        let mut user = session.load::<User>(&id).await?;
        let mut sessions = session.load::<Sessions>(&id).await?;
        let now = session.now();
        let Some(mut logins) = sessions.state.clone() else { return Ok(None) };
        let family_id = Uuid::from_bytes(self.presented.family);
        let Some(family) = logins.find(family_id) else { return Ok(None) };
        if !self.keys.is_ours(&self.presented, &family.nonce) {
            return Ok(None);
        }
        if !user.state.as_ref().is_some_and(|user| user.may_log_in(now)) {
            return Ok(None);
        }
        match family.present(self.presented.generation, now, self.config.refresh_grace) {
            Refreshed::Rotated => {}
            Refreshed::Again => return Ok(self.grant(&user, family, now)),
            Refreshed::Expired => return Ok(None),
            Refreshed::Reused => {
                logins.end(family_id);
                session.save(&mut sessions, logins, "detect reuse").await?;
                if let Some(state) = user.state.as_ref().map(User::revoke) {
                    let (user_id, family) = (state.user_id, family_id.to_string());
                    let event = RefreshReuseDetected { user_id, family_id: family };
                    save(session, &mut user, (state, "detect reuse"), &event).await?;
                }
                revoke(session, &mut user, family_id, "reuse").await?;
                return Ok(None);
            }
        }
        let granted = self.grant(&user, family, now);
        session.save(&mut sessions, logins, "refresh").await?;
        Ok(granted)
    }
}

impl Refresh<'_> {
    fn grant(
        &self,
        user: &Loaded<User>,
        family: &RefreshFamily,
        at: amarra_core::Timestamp,
    ) -> Option<Box<Granted>> {
        let state = user.state.clone()?;
        let named = (family.family_id.as_bytes(), &family.nonce);
        let refresh_token = self.keys.refresh(state.user_id, named, family.generation);
        Some(Box::new(Granted { user: state, version: user.version, refresh_token, at }))
    }
}

/// Ends one login, by any genuine token of it, or all of a user's.
pub(super) enum End<'a> {
    One { keys: &'a TokenKeys, presented: Presented },
    All { user_id: UserId },
}

#[async_trait]
impl Command for End<'_> {
    type Output = ();
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<(), ApiError> {
        let (user_id, cause) = match self {
            Self::One { presented, .. } => (presented.user_id, "logout"),
            Self::All { user_id } => (*user_id, "logout_all"),
        };
        let id = user_id.to_string();
        session.lock(&ids([Sessions::KIND, User::KIND], &id)).await?;
        let mut user = session.load::<User>(&id).await?;
        let mut sessions = session.load::<Sessions>(&id).await?;
        let Some(mut logins) = sessions.state.clone() else { return Ok(()) };
        let mut ended: Vec<Uuid> = logins.families.iter().map(|f| f.family_id).collect();
        if let Self::One { keys, presented } = self {
            let family_id = Uuid::from_bytes(presented.family);
            let genuine = logins.find(family_id).is_some_and(|f| keys.is_ours(presented, &f.nonce));
            ended.retain(|known| genuine && *known == family_id);
        }
        if ended.is_empty() {
            return Ok(());
        }
        logins.families.retain(|family| !ended.contains(&family.family_id));
        session.save(&mut sessions, logins, "log out").await?;
        for family_id in ended {
            revoke(session, &mut user, family_id, cause).await?;
        }
        Ok(())
    }
}

/// Gives or takes a role.
pub(super) struct SetRole {
    pub(super) by: UserId,
    pub(super) user_id: UserId,
    pub(super) change: ChangeRole,
}

#[async_trait]
impl Command for SetRole {
    type Output = UserView;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<UserView, ApiError> {
        let id = self.user_id.to_string();
        session.lock(&[Admins::aggregate_id(Admins::ID), User::aggregate_id(&id)]).await?;
        let mut admins = session.load::<Admins>(Admins::ID).await?;
        let mut user = session.load::<User>(&id).await?;
        let known = admins.state.clone().unwrap_or_default();
        if !known.users.contains(&self.by) {
            return Err(ApiError::Forbidden);
        }
        let state = user.state.clone().ok_or(ApiError::NotFound)?;
        let after = known.change(self.by, &state, &self.change).map_err(|why| match why {
            RoleRefused::NotAdmin | RoleRefused::SelfGrant => ApiError::Forbidden,
            RoleRefused::Unverified | RoleRefused::LastAdmin => ApiError::Conflict(why.to_string()),
        })?;
        let Some(changed) = state.change_role(&self.change) else {
            return Ok(user_view(&state, session.now()));
        };
        if after != known {
            session.save(&mut admins, after, "change role").await?;
        }
        let role = vec![self.change.role];
        let (added, removed) = if self.change.grant { (role, vec![]) } else { (vec![], role) };
        let event = RolesChanged { user_id: self.user_id, added, removed };
        let view = user_view(&changed, session.now());
        save(session, &mut user, (changed, "change role"), &event).await?;
        Ok(view)
    }
}
