//! Where Kafka puts a key: murmur2, written down again so that no adapter checks itself.

/// Returns the partition of `key` among `partitions`, as Kafka's default partitioner chooses it.
pub(crate) fn partition_of(key: &[u8], partitions: u32) -> u32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    positive.checked_rem(partitions).unwrap_or(0)
}

/// Finds a key that goes to `partition` of `partitions`.
pub(crate) fn key_for(partition: u32, partitions: u32) -> String {
    (0_u32..)
        .map(|n| format!("key-{n}"))
        .find(|key| partition_of(key.as_bytes(), partitions) == partition)
        .unwrap_or_default()
}

/// Austin Appleby's MurmurHash2 with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = 0;
        for (byte, shift) in chunk.iter().zip([0, 8, 16, 24]) {
            k |= u32::from(*byte) << shift;
        }
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (byte, shift) in rest.iter().zip([0, 8, 16]) {
        hash ^= u32::from(*byte) << shift;
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Keys with their hash as Kafka's own test has them.
///
/// # Source
/// Kafka, `org.apache.kafka.common.utils.UtilsTest.testMurmur2`.
pub(crate) const GOLDEN: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafka() {
        for (key, hash) in GOLDEN {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "of {key}");
        }
    }

    #[test]
    fn every_partition_has_a_key() {
        for partition in 0..7 {
            assert_eq!(partition_of(key_for(partition, 7).as_bytes(), 7), partition);
        }
    }
}
