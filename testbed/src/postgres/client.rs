//! As much of the PostgreSQL protocol as setting up a test needs: simple queries without a
//! password.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Error;

/// Rows of text columns; `None` is null.
pub type Rows = Vec<Vec<Option<String>>>;

/// How long a server may take to say that it accepts connections.
const PROBE: Duration = Duration::from_secs(2);
/// The longest message taken from a server, in bytes.
const MESSAGE_MAX: usize = 64 << 20;
const PROTOCOL_3: u32 = 196_608;

#[derive(Debug)]
pub(super) struct Client {
    server: String,
    stream: TcpStream,
}

impl Client {
    /// Tells whether the server accepts connections.
    pub(super) fn ready(addr: SocketAddr, role: &str, database: &str) -> bool {
        Self::connect("", addr, role, database, PROBE).is_ok()
    }

    pub(super) fn connect(
        server: &str,
        addr: SocketAddr,
        role: &str,
        database: &str,
        patience: Duration,
    ) -> Result<Self, Error> {
        let broke = |source| Error::Connection { server: server.to_owned(), source };
        let stream = TcpStream::connect_timeout(&addr, patience).map_err(broke)?;
        stream.set_read_timeout(Some(patience)).map_err(broke)?;
        let mut client = Self { server: server.to_owned(), stream };
        let mut body = PROTOCOL_3.to_be_bytes().to_vec();
        for word in ["user", role, "database", database, ""] {
            body.extend(word.as_bytes());
            body.push(0);
        }
        client.send(None, &body)?;
        client.until_ready()?;
        Ok(client)
    }

    pub(super) fn query(&mut self, sql: &str) -> Result<Rows, Error> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<Rows, Error> {
        let mut rows = Rows::new();
        let mut refusal = None;
        loop {
            let (kind, body) = self.receive()?;
            match kind {
                b'R' if body != 0_u32.to_be_bytes() => {
                    return Err(self.refused("it wants a password of the superuser".to_owned()));
                }
                b'T' => rows.clear(),
                b'D' => rows.push(columns(&body)),
                b'E' => {
                    let said = message(&body);
                    // While starting, the server closes the connection after it.
                    if said.starts_with("FATAL") {
                        return Err(self.refused(said));
                    }
                    refusal = refusal.or(Some(said));
                }
                b'Z' => return refusal.map_or(Ok(rows), |said| Err(self.refused(said))),
                _ => {}
            }
        }
    }

    fn refused(&self, message: String) -> Error {
        Error::Refused { server: self.server.clone(), message }
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
        let mut bytes: Vec<u8> = kind.into_iter().collect();
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        self.stream.write_all(&bytes).map_err(|e| self.broke(e))
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let mut head = [0_u8; 5];
        self.stream.read_exact(&mut head).map_err(|e| self.broke(e))?;
        let [kind, a, b, c, d] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0);
        if length > MESSAGE_MAX {
            return Err(self.broke(io::ErrorKind::InvalidData.into()));
        }
        let mut body = vec![0; length.saturating_sub(4)];
        self.stream.read_exact(&mut body).map_err(|e| self.broke(e))?;
        Ok((kind, body))
    }

    fn broke(&self, source: io::Error) -> Error {
        Error::Connection { server: self.server.clone(), source }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Else the server's log fills with lost connections.
        let _ = self.send(Some(b'X'), &[]);
    }
}

fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // A negative length is a null.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            found.push(None);
            rest = after;
            continue;
        };
        let Some((value, next)) = after.split_at_checked(length) else { break };
        found.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = next;
    }
    found
}

/// Severity, code and text of an error.
fn message(body: &[u8]) -> String {
    let field = |kind: u8| {
        let mut fields = body.split(|b| *b == 0);
        let found = fields.find_map(|f| f.split_first().filter(|(k, _)| **k == kind));
        found.map_or(String::new(), |(_, text)| String::from_utf8_lossy(text).into_owned())
    };
    format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'))
}
