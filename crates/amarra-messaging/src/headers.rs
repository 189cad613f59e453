//! The headers of a record as one run of bytes, so that a relay moves them without looking.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Names and values, in order; names may repeat.
///
/// # State
/// One buffer of entries, each the length of the name (two bytes, little-endian), the name, the
/// length of the value (four bytes, little-endian) and the value. Equal headers are equal bytes, so
/// a store keeps the buffer as it is and a clone costs a count.
///
/// # Example
/// ```
/// use amarra_messaging::Headers;
///
/// let mut headers = Headers::new();
/// headers.push("ce_id", b"1");
/// headers.push("tag", b"a");
/// assert_eq!(headers.get("tag"), Some(b"a".as_slice()));
/// let stored = headers.clone().into_bytes();
/// assert_eq!(Headers::from_bytes(stored), Ok(headers));
/// ```
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Headers(Bytes);

/// Bytes that are no headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("headers are malformed at byte {at}")]
pub struct MalformedHeaders {
    /// Where the entry begins that does not parse.
    pub at: usize,
}

impl Headers {
    /// Makes empty headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// Appends one; a name past 65,535 bytes or a value past 4 GiB is cut there.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let mut buffer = Vec::from(std::mem::take(&mut self.0));
        write(&mut buffer, name, |buffer| buffer.extend_from_slice(value));
        self.0 = Bytes::from(buffer);
    }

    /// Visits them, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// Returns the first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Returns the first value of a name, sharing the buffer.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        self.get(name).map(|value| self.0.slice_ref(value))
    }

    /// Counts them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the buffer.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Takes a buffer that [`into_bytes`](Self::into_bytes) returned once.
    ///
    /// # Errors
    /// [`MalformedHeaders`] for any other.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, MalformedHeaders> {
        let mut rest = Iter(&bytes);
        while !rest.0.is_empty() {
            let at = bytes.len().saturating_sub(rest.0.len());
            rest.next().ok_or(MalformedHeaders { at })?;
        }
        Ok(Self(bytes))
    }

    /// Takes a buffer written by [`write`] alone.
    pub(crate) fn from_written(buffer: Vec<u8>) -> Self {
        Self(Bytes::from(buffer))
    }
}

/// Cuts a buffer written by [`write`] alone into headers that share it.
pub(crate) fn cut(buffer: Vec<u8>, ends: &[usize]) -> Vec<Headers> {
    let mut rest = Bytes::from(buffer);
    let mut begin = 0_usize;
    let cut = |end: &usize| {
        let len = end.saturating_sub(std::mem::replace(&mut begin, *end));
        Headers(rest.split_to(len.min(rest.len())))
    };
    ends.iter().map(cut).collect()
}

/// Appends an entry whose value `value` writes.
pub(crate) fn write(buffer: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    let name = name.as_bytes().get(..usize::from(name_len)).unwrap_or_default();
    buffer.extend_from_slice(&name_len.to_le_bytes());
    buffer.extend_from_slice(name);
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    let begin = buffer.len();
    value(buffer);
    let len = u32::try_from(buffer.len().saturating_sub(begin)).unwrap_or(u32::MAX);
    buffer.truncate(begin.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)));
    if let Some(prefix) = buffer.get_mut(at..begin) {
        prefix.copy_from_slice(&len.to_le_bytes());
    }
}

/// Visits headers; see [`Headers::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (value, rest) = rest.split_at_checked(len)?;
        let name = std::str::from_utf8(name).ok()?;
        self.0 = rest;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut buffer = Vec::new();
        for (name, value) in entries {
            write(&mut buffer, name.as_ref(), |b| b.extend_from_slice(value.as_ref()));
        }
        Self::from_written(buffer)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(name, value)| (name, String::from_utf8_lossy(value));
        f.debug_map().entries(self.iter().map(text)).finish()
    }
}

impl From<Headers> for Bytes {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

impl TryFrom<Bytes> for Headers {
    type Error = MalformedHeaders;

    fn try_from(bytes: Bytes) -> Result<Self, MalformedHeaders> {
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Headers {
        [("a", b"1".as_slice()), ("", b""), ("a", b"\xff\0")].into_iter().collect()
    }

    #[test]
    fn order_and_repeats_are_kept() {
        let all: Vec<_> = some().iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
        let expect = [("a", b"1".to_vec()), ("", vec![]), ("a", b"\xff\0".to_vec())];
        assert_eq!(all, expect.map(|(n, v)| (n.to_owned(), v)));
        assert_eq!((some().len(), some().get("a")), (3, Some(b"1".as_slice())));
    }

    #[test]
    fn every_cut_but_between_two_entries_is_malformed() {
        let whole = some().into_bytes();
        let whole_entries = [0, 8, 14];
        for cut in 0..whole.len() {
            let read = Headers::from_bytes(whole.slice(..cut));
            assert_eq!(read.is_ok(), whole_entries.contains(&cut), "cut at {cut}: {read:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_malformed() {
        let bytes = Bytes::from_static(&[1, 0, 0xff, 0, 0, 0, 0]);
        assert_eq!(Headers::from_bytes(bytes), Err(MalformedHeaders { at: 0 }));
    }
}
