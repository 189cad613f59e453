//! Users: accounts, passwords, sessions and roles.

pub mod commands;
pub mod config;
pub mod model;
pub mod password;
pub mod service;
pub mod session;
pub mod tokens;
pub mod verification;
pub mod view;

pub use config::{BootstrapAdmin, Config};
pub use model::{Admins, Credential, EmailClaim, Status, User};
pub use password::{PasswordConfig, Passwords};
pub use service::{Guest, Users};
pub use session::{RefreshFamily, Sessions};
pub use verification::{SendError, Verification, VerificationSender};
