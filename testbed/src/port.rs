//! Loopback ports that no other test picks at the same time.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::home::Home;

/// The lowest port that is picked.
const LOWEST: u16 = 15_000;
/// Where the kernel's own picks begin when it does not say.
const EPHEMERAL: u16 = 32_768;
/// Ports that are tried before giving up.
const TRIES: usize = 500;

/// A port that is ours until this is dropped.
///
/// A server is stopped and started on the same port, so its port lies below the range from which
/// the kernel takes ports of outgoing connections: one of those could otherwise sit on it in
/// between. A lock file keeps other processes of the testbed off it meanwhile.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    path: PathBuf,
    _lock: File,
}

impl Port {
    /// Picks a free one.
    pub(crate) fn pick(home: &Home) -> Result<Self, Error> {
        let dir = home.folder("ports")?;
        let end = first_ephemeral().max(LOWEST.saturating_add(1_000));
        let width = u64::from(end.saturating_sub(LOWEST));
        for _ in 0..TRIES {
            let offset = u16::try_from(draw().checked_rem(width).unwrap_or(0)).unwrap_or(0);
            let number = LOWEST.saturating_add(offset);
            let path = dir.join(format!("{number}.lock"));
            let file = File::create(&path).map_err(|e| Error::file("create", &path, e))?;
            if file.try_lock().is_ok() && TcpListener::bind(loopback(number)).is_ok() {
                return Ok(Self { number, path, _lock: file });
            }
        }
        Err(Error::Misuse(format!("found no free port between {LOWEST} and {end}")))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        loopback(self.number)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn first_ephemeral() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(EPHEMERAL)
}

/// A number that differs between processes and calls.
pub(crate) fn draw() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut x = nanos ^ u64::from(std::process::id()).rotate_left(32) ^ call.rotate_left(48);
    // SplitMix64, so that neighbours in time are far apart.
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
