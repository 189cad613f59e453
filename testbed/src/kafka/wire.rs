//! As much of the Kafka protocol as asking a broker whether it serves needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a broker may take to answer.
const PROBE: Duration = Duration::from_secs(2);
const METADATA: u16 = 3;
const METADATA_VERSION: u16 = 1;
/// The longest answer taken, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// How many brokers the one at `addr` knows of; 0 while it has no controller.
pub(super) fn brokers(addr: SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&addr, PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    let mut request = Vec::new();
    request.extend(METADATA.to_be_bytes());
    request.extend(METADATA_VERSION.to_be_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    // No topics.
    request.extend(0_u32.to_be_bytes());
    let length = u32::try_from(request.len()).unwrap_or(0);
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    count(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads a metadata answer: correlation id, brokers (id, host, port, rack), controller.
fn count(answer: &[u8]) -> Option<usize> {
    let rest = answer.get(4..)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    for _ in 0..count {
        rest = text(rest.get(4..)?)?;
        rest = text(rest.get(4..)?)?;
    }
    let (controller, _) = rest.split_first_chunk::<4>()?;
    Some(if i32::from_be_bytes(*controller) < 0 { 0 } else { count })
}

/// Skips a string, which may be null.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.get(usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0)..)
}
