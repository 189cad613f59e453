//! The parts of a database's URL.

/// `postgres://role:password@host:port/database`, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PgUrl {
    /// The role.
    pub(crate) role: String,
    /// Its password; empty when there is none.
    pub(crate) password: String,
    /// `host:port`.
    pub(crate) place: String,
    /// The database.
    pub(crate) database: String,
}

/// The port of a place that names none.
const PORT: u16 = 5432;

impl std::fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:***@{}/{}", self.role, self.place, self.database)
    }
}

impl PgUrl {
    /// Takes a URL apart; parameters after a question mark are left out.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        let form = "must look like postgres://role:password@host:port/database";
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.and_then(|rest| rest.split('?').next()).ok_or(form)?;
        let (who, rest) = rest.rsplit_once('@').ok_or(form)?;
        let (place, database) = rest.split_once('/').ok_or(form)?;
        let (role, password) = who.split_once(':').unwrap_or((who, ""));
        if role.is_empty() || place.is_empty() || database.is_empty() {
            return Err(form);
        }
        Ok(Self {
            role: decoded(role).ok_or(form)?,
            password: decoded(password).ok_or(form)?,
            place: place.to_owned(),
            database: decoded(database).ok_or(form)?,
        })
    }
}

impl PgUrl {
    /// Returns the host, without the brackets of an address of IPv6, and the port; none when that
    /// is no number.
    pub(crate) fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = match self.place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (self.place.as_str(), PORT),
        };
        Some((host.trim_start_matches('[').trim_end_matches(']'), port))
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_password() {
        let url = PgUrl::parse("postgres://orders:p%40ss@db:5432/shop?sslmode=require").unwrap();
        let shown = format!("{url:?}");
        assert_eq!((url.role.as_str(), url.password.as_str()), ("orders", "p@ss"));
        assert_eq!((url.place.as_str(), url.database.as_str()), ("db:5432", "shop"));
        assert!(!shown.contains("p@ss"), "{shown}");
        let place = |place: &str| {
            let url = PgUrl::parse(&format!("postgres://a:b@{place}/c")).unwrap();
            url.host_and_port().map(|(host, port)| (host.to_owned(), port))
        };
        assert_eq!(url.host_and_port(), Some(("db", 5432)));
        assert_eq!(place("db"), Some(("db".to_owned(), 5432)));
        assert_eq!(place("[::1]:1"), Some(("::1".to_owned(), 1)));
        assert_eq!(place("[::1]"), Some(("::1".to_owned(), 5432)));
        assert_eq!(place("db:x"), None);
        for wrong in
            ["", "mysql://a@b/c", "postgres://a@b", "postgres://@b/c", "postgres://a%4@b/c"]
        {
            assert!(PgUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
