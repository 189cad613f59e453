//! Leases and records that the tests publish, and what they say of what was read.

use amarra_messaging::message::{Delivery, Epoch, Owner, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Record, Topic};

/// Makes the lease of a shard.
pub(crate) fn lease(shard: u16, epoch: u64) -> Lease {
    Lease { shard: Shard(shard), epoch: Epoch(epoch), owner: Owner::from("relay") }
}

/// Makes a record of a key whose value is a number, padded to `bytes`.
pub(crate) fn record(topic: &Topic, key: &str, number: u32, bytes: usize) -> Publish {
    let value = format!("{number:0bytes$}");
    Publish {
        topic: topic.clone(),
        record: Record {
            key: key.to_owned().into_bytes().into(),
            headers: [("number", number.to_string())].into_iter().collect(),
            value: value.into_bytes().into(),
        },
    }
}

/// Returns the numbers of one key's records, in the order read.
pub(crate) fn numbers(read: &[Delivery], key: &str) -> Vec<u32> {
    let of_key = read.iter().filter(|delivery| delivery.record.key == key.as_bytes());
    let number = |delivery: &Delivery| {
        std::str::from_utf8(&delivery.record.value).unwrap().parse::<u32>().unwrap()
    };
    of_key.map(number).collect()
}

/// Asserts that each number of `0..count` is there, and that whoever keeps the first record of each
/// reads them in order.
#[track_caller]
pub(crate) fn assert_complete(read: &[u32], count: u32) {
    let mut first = Vec::new();
    for number in read {
        if !first.contains(number) {
            first.push(*number);
        }
    }
    assert_eq!(first, (0..count).collect::<Vec<_>>(), "as read: {read:?}");
}
