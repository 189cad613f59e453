//! Turns a message of the client library into a delivery, whatever a foreign producer wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};

use amarra_messaging::message::{Delivery, Offset, Partition, Record};
use amarra_messaging::{Headers, Topic};
use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};

/// Stands for a header whose name is not UTF-8; its value is the header's number, from 0.
const UNREADABLE: &str = "amarra-unreadable-header";
/// What Debezium calls `ce_id`; the transport adds it behind all others for those who read it.
const ID: &str = "id";

/// Makes a delivery of a message of `topic`. What Kafka leaves out is empty: a key, a value, the
/// value of a header.
pub(super) fn delivery(message: &BorrowedMessage<'_>, topic: Topic) -> Delivery {
    let copy = |bytes: Option<&[u8]>| bytes.map_or_else(Bytes::new, Bytes::copy_from_slice);
    Delivery {
        topic,
        partition: Partition(u32::try_from(message.partition()).unwrap_or_default()),
        offset: Offset(u64::try_from(message.offset()).unwrap_or_default()),
        record: Record {
            key: copy(message.key()),
            headers: headers(message),
            value: copy(message.payload()),
        },
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let Some(native) = message.headers() else { return Headers::new() };
    let mut entries = Vec::with_capacity(native.count());
    let mut marks = Vec::new();
    for index in 0..native.count() {
        // The library panics on a name that is not UTF-8, and gives no other way to read it
        // without unsafe code. The headers themselves are left as they were.
        match catch_unwind(AssertUnwindSafe(|| native.try_get(index))) {
            Ok(header) => entries.extend(header.map(|h| (h.key, h.value.unwrap_or_default()))),
            Err(_) => marks.push(index.to_string()),
        }
    }
    strip_id(&mut entries);
    let marks = marks.iter().map(|index| (UNREADABLE, index.as_bytes()));
    entries.into_iter().chain(marks).collect()
}

/// Removes the `id` that the transport added, and no other.
fn strip_id(entries: &mut Vec<(&str, &[u8])>) {
    let ours = entries.iter().find(|(name, _)| *name == "ce_id").map(|(_, value)| *value);
    if let (Some((ID, value)), Some(ours)) = (entries.last(), ours)
        && *value == ours
    {
        entries.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_that_the_transport_added_is_removed() {
        let check = |mut entries: Vec<(&'static str, &'static [u8])>, left: usize| {
            strip_id(&mut entries);
            assert_eq!(entries.len(), left, "{entries:?}");
        };
        check(vec![("ce_id", b"1"), ("a", b""), ("id", b"1")], 2);
        check(vec![("ce_id", b"1"), ("id", b"2")], 2);
        check(vec![("id", b"1"), ("ce_id", b"1")], 2);
        check(vec![("id", b"1")], 1);
        check(vec![("id", b"1"), ("ce_id", b"1"), ("id", b"1")], 2);
        check(vec![], 0);
    }
}
