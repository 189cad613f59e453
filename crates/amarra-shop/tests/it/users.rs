//! Users: registration, logins, refresh families, roles and the delivery of verifications.

mod bench;
mod logins;
mod registration;
mod roles;
