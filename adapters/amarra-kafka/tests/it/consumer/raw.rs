//! As much of the Kafka protocol as publishing a record that no client library would needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::bed::PATIENCE;

/// A record as foreign as the protocol allows.
#[derive(Default)]
pub(crate) struct RawRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Publishes a record to partition 0 by a Produce request of version 3.
pub(crate) fn publish(broker: SocketAddr, topic: &str, record: &RawRecord<'_>) {
    let batch = batch(record);
    let mut body = Vec::new();
    body.extend(0_i16.to_be_bytes());
    body.extend(3_i16.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend(i32::try_from(batch.len()).unwrap().to_be_bytes());
    body.extend(batch);

    let mut stream = TcpStream::connect(broker).expect("the broker");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).expect("sent");
    stream.write_all(&body).expect("sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).expect("an answer");
    // Correlation, one topic with its name, one partition with its number, and then the error.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "the broker refused: {answer:?}");
}

fn batch(record: &RawRecord<'_>) -> Vec<u8> {
    let mut inner = vec![0];
    inner.extend(varint(0));
    inner.extend(varint(0));
    put(&mut inner, record.key);
    put(&mut inner, record.value);
    inner.extend(varint(i64::try_from(record.headers.len()).unwrap()));
    for (name, value) in record.headers {
        put(&mut inner, Some(name));
        put(&mut inner, *value);
    }
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes());
    checked.extend(0_i32.to_be_bytes());
    checked.extend(1_700_000_000_000_i64.to_be_bytes());
    checked.extend(1_700_000_000_000_i64.to_be_bytes());
    checked.extend((-1_i64).to_be_bytes());
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    checked.extend(varint(i64::try_from(inner.len()).unwrap()));
    checked.extend(inner);

    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    batch.extend(i32::try_from(checked.len() + 4 + 1 + 4).unwrap().to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

fn put(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    into.extend(varint(bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap())));
    into.extend(bytes.unwrap_or_default());
}

/// Zigzag, seven bits a byte.
fn varint(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let poly = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc = (crc >> 1) ^ poly;
        }
    }
    !crc
}
