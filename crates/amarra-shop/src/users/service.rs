//! The service: registration, logins, roles.

use std::sync::Arc;

use amarra_core::{Actor, Cause, Environment, TraceParent};
use amarra_store::{Attempts, Command, DueHandler, Handler, Session, Store, execute};

use super::commands::{self, Begun, Granted};
use super::config::Config;
use super::model::{Credential, EmailClaim, User, normalise};
use super::password::Passwords;
use super::tokens::{TokenKeys, key_bytes};
use super::verification::{Deliveries, VerificationSender, guarded};
use super::view::user_view;
use crate::auth::{Jwks, Subject, TokenSigner};
use crate::callee::{Callee, Guard};
use crate::contract::users::{
    ChangeRole, Login, Refresh, Register, Registered, Secret, Tokens, UserView, VerifyEmail,
};
use crate::contract::{ApiError, Caller, Role, UserId};
use crate::keyed::{Keyed, key_of};
use crate::ports::{ConfigError, ServicePorts};

/// The context of a request by nobody known.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The trace the request belongs to.
    pub traceparent: TraceParent,
    /// The idempotency key, where the operation takes one.
    pub idempotency_key: Option<Arc<str>>,
}

/// The service of accounts, authentication and roles.
#[derive(Debug)]
pub struct Users {
    ports: ServicePorts,
    config: Config,
    keys: TokenKeys,
    passwords: Passwords,
    signer: TokenSigner,
    sender: Option<Callee<dyn VerificationSender>>,
}

/// An account as a login reads it.
struct Known {
    user_id: UserId,
    phc: String,
}

impl Users {
    /// The service's name in envelopes.
    pub const SOURCE: &'static str = "/amarra/users";

    /// Makes the service. `sender` is needed unless users are verified at once.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(
        ports: ServicePorts,
        config: Config,
        sender: Option<Arc<dyn VerificationSender>>,
    ) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        if sender.is_none() && !config.auto_verify {
            let why = "needs a sender of verification tokens unless it is set".into();
            return Err(ConfigError { field: "users.auto_verify", why });
        }
        let keys = TokenKeys::new(&key_bytes(&config.hash_key).unwrap_or_default());
        let passwords = Passwords::new(config.password)?;
        let signer = TokenSigner::new(config.token.clone())?;
        let sender = sender.map(|sender| guarded(sender, &ports.env, &config)).transpose()?;
        Ok(Arc::new(Self { ports, config, keys, passwords, signer, sender }))
    }

    /// Makes the configured first administrator, unless the address has an account.
    ///
    /// # Errors
    /// [`ApiError`]; call it again, it is idempotent.
    pub async fn bootstrap(&self) -> Result<(), ApiError> {
        let Some(admin) = &self.config.bootstrap_admin else { return Ok(()) };
        let command = self.register_command(&admin.email, &admin.password, true)?;
        let cause = Cause {
            correlation: command.user_id.as_uuid().into(),
            causation: None,
            actor: Actor::Service("users".into()),
            traceparent: TraceParent::root(self.env().entropy.as_ref()),
        };
        self.execute(&cause, &command).await.map(drop)
    }

    /// Makes an account; the answer is the same when the address has one.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for the address or password, and any of the store's.
    pub async fn register(&self, guest: &Guest, request: Register) -> Result<Registered, ApiError> {
        let command = self.register_command(&request.email, &request.password, false)?;
        let cause = self.cause(guest, command.user_id);
        // The password stays out of the request's hash: a stored hash of it would be a weak one.
        let named = self.keys.email_hash(&command.email);
        let key = guest.idempotency_key.as_deref();
        let key = key.map(|key| key_of("guest", "register", key, &named)).transpose()?;
        self.execute(&cause, &Keyed { key, command }).await
    }

    /// Proves an address.
    ///
    /// # Errors
    /// [`ApiError::Unprocessable`], the same for an unknown user and a wrong token.
    pub async fn verify(&self, guest: &Guest, request: VerifyEmail) -> Result<(), ApiError> {
        let cause = self.cause(guest, request.user_id);
        let command = commands::Verify { user_id: request.user_id, token: request.token };
        self.execute(&cause, &command).await
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`], the same for an unknown address, a wrong password and a user
    /// who is locked out; [`ApiError::Forbidden`] when the password is right and the address is not
    /// proved.
    pub async fn login(&self, guest: &Guest, request: Login) -> Result<Tokens, ApiError> {
        let refused = ApiError::Unauthenticated("the address or the password is wrong");
        // Another login may store a new hash of the same password meanwhile, once.
        for _ in 0..2 {
            match self.try_login(guest, &request).await? {
                Begun::Granted(granted) => return Ok(self.tokens(*granted)),
                Begun::Unverified => return Err(ApiError::Forbidden),
                Begun::Refused => return Err(refused),
                Begun::Changed => {}
            }
        }
        Err(refused)
    }

    async fn try_login(&self, guest: &Guest, request: &Login) -> Result<Begun, ApiError> {
        let known = match normalise(&request.email) {
            Ok(email) => self.find(guest, &self.keys.email_hash(&email)).await?,
            Err(_) => None,
        };
        let stored = known.as_ref().map(|known| known.phc.as_str());
        let verdict = self.passwords.verify(&request.password, stored)?;
        let Some(known) = known else { return Ok(Begun::Refused) };
        let cause = self.cause(guest, known.user_id);
        if !verdict.right {
            let command = commands::Fail { config: &self.config, user_id: known.user_id };
            // A count is not idempotent: after an unknown commit it is not repeated.
            let once = Attempts { idempotent: false, ..self.config.attempts };
            let how = (&cause, once);
            execute(self.store(), self.env(), Self::SOURCE, how, &command).await?;
            return Ok(Begun::Refused);
        }
        let rehashed = if verdict.outdated {
            Some(self.passwords.hash(&request.password, self.env().entropy.as_ref())?)
        } else {
            None
        };
        let command = commands::Begin {
            config: &self.config,
            keys: &self.keys,
            user_id: known.user_id,
            phc: known.phc,
            rehashed,
            family_id: self.env().new_id(),
        };
        self.execute(&cause, &command).await
    }

    /// Gives new tokens for a refresh token, which is then used up.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`], the same for a token that is unknown, used up or expired.
    pub async fn refresh(&self, guest: &Guest, request: Refresh) -> Result<Tokens, ApiError> {
        let refused = ApiError::Unauthenticated("the refresh token is not valid");
        let presented = TokenKeys::read(&request.refresh_token).ok_or_else(|| refused.clone())?;
        let cause = self.cause(guest, presented.user_id);
        let command = commands::Refresh { config: &self.config, keys: &self.keys, presented };
        let granted = self.execute(&cause, &command).await?;
        granted.map(|granted| self.tokens(*granted)).ok_or(refused)
    }

    /// Ends the login of a refresh token; a token that is no longer good ends nothing.
    ///
    /// # Errors
    /// Any of the store's.
    pub async fn logout(&self, guest: &Guest, request: Refresh) -> Result<(), ApiError> {
        let Some(presented) = TokenKeys::read(&request.refresh_token) else { return Ok(()) };
        let cause = self.cause(guest, presented.user_id);
        self.execute(&cause, &commands::End::One { keys: &self.keys, presented }).await
    }

    /// Ends every login of the caller, access tokens included.
    ///
    /// # Errors
    /// Any of the store's.
    pub async fn logout_all(&self, caller: &Caller) -> Result<(), ApiError> {
        let user_id = caller.principal.user_id;
        let cause = caller.cause(user_id.as_uuid().into());
        self.execute(&cause, &commands::End::All { user_id }).await
    }

    /// Shows the caller.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] and any of the store's.
    pub async fn me(&self, caller: &Caller) -> Result<UserView, ApiError> {
        self.get(caller, caller.principal.user_id).await
    }

    /// Shows a user to that user and to support; to others there is none.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] and any of the store's.
    pub async fn get(&self, caller: &Caller, user_id: UserId) -> Result<UserView, ApiError> {
        let own = caller.principal.user_id == user_id;
        if !own && !caller.principal.has(Role::Support) {
            return Err(ApiError::NotFound);
        }
        let mut unit = self.store().begin().await?;
        let cause = caller.cause(user_id.as_uuid().into());
        let mut session = Session::new(unit.as_mut(), self.env(), Self::SOURCE, cause);
        let user = session.load::<User>(&user_id.to_string()).await?;
        let user = user.state.ok_or(ApiError::NotFound)?;
        Ok(user_view(&user, session.now()))
    }

    /// Gives or takes a role.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] for who is no administrator, or would give a role to themselves;
    /// [`ApiError::Conflict`] for the last administrator and an unverified user.
    pub async fn change_role(
        &self,
        caller: &Caller,
        user_id: UserId,
        change: ChangeRole,
    ) -> Result<UserView, ApiError> {
        caller.principal.require(Role::Admin)?;
        let cause = caller.cause(user_id.as_uuid().into());
        let command = commands::SetRole { by: caller.principal.user_id, user_id, change };
        self.execute(&cause, &command).await
    }

    /// Publishes the keys that verify access tokens.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        self.signer.key_set().to_jwks()
    }

    /// Returns the consumers: Users consumes nothing.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        Vec::new()
    }

    /// Returns the durable timers: the delivery of verification tokens.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        let deliver = || -> Arc<dyn DueHandler> { Arc::new(Deliveries(Arc::clone(self))) };
        self.sender.iter().map(|_| deliver()).collect()
    }

    /// Returns the guards of this service's calls, to be looked at.
    #[must_use]
    pub fn guards(&self) -> Vec<Arc<Guard>> {
        self.sender.iter().map(|sender| Arc::clone(sender.guard())).collect()
    }

    pub(super) fn sender(&self) -> Option<&Callee<dyn VerificationSender>> {
        self.sender.as_ref()
    }

    pub(super) fn env(&self) -> &Environment {
        &self.ports.env
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.ports.store.as_ref()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn keys(&self) -> &TokenKeys {
        &self.keys
    }

    async fn execute<C>(&self, cause: &Cause, command: &C) -> Result<C::Output, ApiError>
    where
        C: Command<Error = ApiError>,
    {
        let how = (cause, self.config.attempts);
        execute(self.store(), self.env(), Self::SOURCE, how, command).await
    }

    fn cause(&self, guest: &Guest, user_id: UserId) -> Cause {
        Cause {
            correlation: user_id.as_uuid().into(),
            causation: None,
            actor: Actor::User(user_id.to_string().into()),
            traceparent: guest.traceparent.clone(),
        }
    }

    /// Hashes the password whether or not the address is free, so that both take equally long.
    fn register_command(
        &self,
        email: &str,
        password: &Secret,
        admin: bool,
    ) -> Result<commands::Register<'_>, ApiError> {
        let email = normalise(email).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        if !(10..=128).contains(&password.expose().chars().count()) {
            let why = "password must have 10 to 128 characters".to_owned();
            return Err(ApiError::BadRequest(why));
        }
        let phc = self.passwords.hash(password, self.env().entropy.as_ref())?;
        let user_id = self.env().new_id();
        Ok(commands::Register {
            config: &self.config,
            keys: &self.keys,
            user_id,
            email,
            phc,
            admin,
        })
    }

    async fn find(&self, guest: &Guest, email_hash: &str) -> Result<Option<Known>, ApiError> {
        let mut unit = self.store().begin().await?;
        let cause = self.cause(guest, uuid::Uuid::nil().into());
        let mut session = Session::new(unit.as_mut(), self.env(), Self::SOURCE, cause);
        let claim = session.load::<EmailClaim>(email_hash).await?;
        let Some(EmailClaim { user_id }) = claim.state else { return Ok(None) };
        let credential = session.load::<Credential>(&user_id.to_string()).await?;
        Ok(credential.state.map(|credential| Known { user_id, phc: credential.phc }))
    }

    fn tokens(&self, granted: Granted) -> Tokens {
        let subject = Subject {
            user_id: granted.user.user_id,
            roles: granted.user.roles,
            version: granted.version.get(),
        };
        let entropy = self.env().entropy.as_ref();
        Tokens {
            access_token: self.signer.issue(&subject, granted.at, entropy),
            refresh_token: granted.refresh_token,
            expires_in: self.signer.ttl().as_secs(),
            token_type: "Bearer".into(),
        }
    }
}
