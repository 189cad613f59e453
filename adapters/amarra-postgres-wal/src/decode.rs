//! Decodes the inserts of the outbox table out of the messages of `pgoutput`.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Timestamp;
use amarra_messaging::Headers;
use amarra_messaging::message::{Record, Seq, Shard, Topic};
use amarra_messaging::outbox::Row;
use bytes::{Buf as _, Bytes};

use crate::error::WalError;

/// From 1970 to the beginning of the server's times, the year 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

const TABLE: &[u8] = b"outbox";

/// The columns a row is made of, in the order of [`Relation::columns`].
const COLUMNS: [&str; 8] = ["seq", "xid", "shard", "topic", "key", "headers", "payload", "at"];

/// One committed, or soon committed, row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inserted {
    pub(crate) shard: Shard,
    pub(crate) xid: u64,
    pub(crate) row: Row,
    /// Bytes of the message it lies in.
    pub(crate) bytes: usize,
}

/// Where the columns of the outbox table are.
#[derive(Debug)]
struct Relation {
    id: u32,
    columns: [usize; COLUMNS.len()],
    width: usize,
}

/// What was said of the table so far.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    relation: Option<Relation>,
    topics: BTreeMap<Arc<str>, Topic>,
}

impl Decoder {
    /// Takes a message; returns the row if it is an insert.
    pub(crate) fn take(&mut self, mut message: Bytes) -> Result<Option<Inserted>, WalError> {
        let bytes = message.len();
        match byte(&mut message)? {
            b'R' => {
                // The server describes each partition too, and then names the table in its rows.
                if let Some(relation) = relation(&mut message)? {
                    self.relation = Some(relation);
                }
                Ok(None)
            }
            b'I' => self.insert(&mut message, bytes).map(Some),
            // Types, origins, truncations: nothing of a row.
            _ => Ok(None),
        }
    }

    fn insert(&mut self, message: &mut Bytes, bytes: usize) -> Result<Inserted, WalError> {
        let id = u32_of(message)?;
        let relation = self.relation.as_ref().filter(|r| r.id == id);
        let relation = relation.ok_or_else(|| corrupt("a row of an unknown table"))?;
        if byte(message)? != b'N' {
            return Err(corrupt("an insert without a new row"));
        }
        let width = usize::from(u16_of(message)?);
        if width != relation.width {
            return Err(corrupt("a row of another width than its table"));
        }
        let mut found: [Option<Bytes>; COLUMNS.len()] = Default::default();
        for column in 0..width {
            let value = match byte(message)? {
                b'n' => None,
                b'b' => Some(counted(message)?),
                _ => return Err(corrupt("a value that is not binary")),
            };
            if let Some(at) = relation.columns.iter().position(|c| *c == column)
                && let Some(place) = found.get_mut(at)
            {
                *place = value;
            }
        }
        let [
            Some(seq),
            Some(xid),
            Some(shard),
            Some(topic),
            Some(key),
            Some(headers),
            Some(value),
            Some(at),
        ] = found
        else {
            return Err(corrupt("a column of the outbox is null"));
        };
        let headers = Headers::from_bytes(headers).map_err(|_| corrupt("the headers of a row"))?;
        let at = i64::from_be_bytes(fixed(&at)?).saturating_add(EPOCH_MICROS);
        let topic = self.topic(&topic)?;
        Ok(Inserted {
            shard: Shard(u16::from_be_bytes(fixed(&shard)?)),
            xid: u64::from_be_bytes(fixed(&xid)?),
            row: Row {
                seq: Seq(u64::from_be_bytes(fixed(&seq)?)),
                topic,
                record: Record { key, headers, value },
                at: Timestamp::from_micros(at),
            },
            bytes,
        })
    }

    /// Returns the one topic of a name.
    fn topic(&mut self, name: &[u8]) -> Result<Topic, WalError> {
        let name = std::str::from_utf8(name).map_err(|_| corrupt("a topic is not UTF-8"))?;
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic.clone());
        }
        let topic = Topic::from(name);
        self.topics.insert(name.into(), topic.clone());
        Ok(topic)
    }
}

/// Reads the description of a table; none when it is not the outbox.
fn relation(message: &mut Bytes) -> Result<Option<Relation>, WalError> {
    let id = u32_of(message)?;
    text(message)?;
    if text(message)?.as_ref() != TABLE {
        return Ok(None);
    }
    byte(message)?;
    let width = usize::from(u16_of(message)?);
    let mut columns: [Option<usize>; COLUMNS.len()] = Default::default();
    for column in 0..width {
        byte(message)?;
        let name = text(message)?;
        u32_of(message)?;
        u32_of(message)?;
        if let Some(at) = COLUMNS.iter().position(|c| c.as_bytes() == name.as_ref())
            && let Some(place) = columns.get_mut(at)
        {
            *place = Some(column);
        }
    }
    let [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h)] = columns else {
        return Err(corrupt("the published table is not the outbox"));
    };
    Ok(Some(Relation { id, columns: [a, b, c, d, e, f, g, h], width }))
}

fn byte(message: &mut Bytes) -> Result<u8, WalError> {
    message.try_get_u8().map_err(|_| short())
}

fn u16_of(message: &mut Bytes) -> Result<u16, WalError> {
    message.try_get_u16().map_err(|_| short())
}

fn u32_of(message: &mut Bytes) -> Result<u32, WalError> {
    message.try_get_u32().map_err(|_| short())
}

fn counted(message: &mut Bytes) -> Result<Bytes, WalError> {
    let len = usize::try_from(u32_of(message)?).map_err(|_| short())?;
    if len > message.len() {
        return Err(short());
    }
    Ok(message.split_to(len))
}

/// Takes a text that ends with a zero.
fn text(message: &mut Bytes) -> Result<Bytes, WalError> {
    let end = message.iter().position(|b| *b == 0).ok_or_else(short)?;
    let text = message.split_to(end);
    byte(message)?;
    Ok(text)
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], WalError> {
    value.try_into().map_err(|_| corrupt("a number of another width"))
}

fn short() -> WalError {
    corrupt("it is cut off")
}

fn corrupt(why: &'static str) -> WalError {
    WalError::Corrupt { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(out: &mut Vec<u8>, name: &str) {
        out.push(0);
        out.extend(name.as_bytes());
        out.extend([0; 9]);
    }

    fn table(name: &str, id: u32, columns: &[&str]) -> Bytes {
        let mut out = [b"R".as_slice(), &id.to_be_bytes(), b"public\0"].concat();
        out.extend(name.as_bytes());
        out.extend(b"\0d");
        out.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
        columns.iter().for_each(|name| column(&mut out, name));
        out.into()
    }

    fn value(out: &mut Vec<u8>, bytes: &[u8]) {
        out.push(b'b');
        out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }

    fn row() -> Vec<u8> {
        let mut out = b"I\0\0\0\x07N\0\x09".to_vec();
        value(&mut out, &9_u64.to_be_bytes());
        value(&mut out, &8_u64.to_be_bytes());
        value(&mut out, &3_u16.to_be_bytes());
        value(&mut out, b"things");
        value(&mut out, b"k");
        out.push(b'n');
        value(&mut out, &Headers::default().into_bytes());
        value(&mut out, b"payload");
        value(&mut out, &5_i64.to_be_bytes());
        out
    }

    const LAID_OUT: [&str; 9] =
        ["seq", "xid", "shard", "topic", "key", "ce_id", "headers", "payload", "at"];

    #[test]
    fn an_insert_becomes_a_row() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(table("outbox", 7, &LAID_OUT)), Ok(None));
        assert_eq!(decoder.take(table("outbox_1", 8, &LAID_OUT)), Ok(None));
        let got = decoder.take(row().into()).unwrap().unwrap();
        assert_eq!((got.shard, got.xid, got.row.seq), (Shard(3), 8, Seq(9)));
        assert_eq!(got.row.topic, Topic::from("things"));
        assert_eq!(
            (&got.row.record.key[..], &got.row.record.value[..]),
            (&b"k"[..], &b"payload"[..])
        );
        assert_eq!(got.row.at, Timestamp::from_micros(EPOCH_MICROS + 5));
    }

    #[test]
    fn another_table_is_refused() {
        let mut decoder = Decoder::default();
        assert!(decoder.take(table("outbox", 7, &["id", "seq"])).is_err());
        assert!(decoder.take(row().into()).is_err());
    }

    #[test]
    fn a_message_cut_off_anywhere_is_refused() {
        let (table, row) = (table("outbox", 7, &LAID_OUT), row());
        for end in 0..table.len() {
            assert!(Decoder::default().take(table.slice(..end)).is_err(), "{end} of a table");
        }
        for end in 1..row.len() {
            let mut decoder = Decoder::default();
            decoder.take(table.clone()).unwrap();
            assert!(decoder.take(Bytes::copy_from_slice(&row[..end])).is_err(), "{end} of a row");
        }
    }
}
