//! The hash by which Kafka's Java clients choose a partition.

const M: u32 = 0x5bd1_e995;
const SEED: u32 = 0x9747_b28c;

/// Hashes a key with murmur2 as Kafka does.
///
/// # Example
/// ```
/// use amarra_messaging::murmur2::murmur2;
/// assert_eq!(murmur2(b"21").cast_signed(), -973_932_308);
/// ```
///
/// # Source
/// Kafka, `org.apache.kafka.common.utils.Utils.murmur2`.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, tail) = key.as_chunks::<4>();
    let mut h = words.iter().fold(SEED ^ length, |h, word| {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M)
    });
    if !tail.is_empty() {
        for (byte, shift) in tail.iter().zip([0, 8, 16]) {
            h ^= u32::from(*byte) << shift;
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// Hashes a key and clears the sign, as Kafka does before it divides by the partitions.
#[must_use]
pub fn positive_murmur2(key: &[u8]) -> u32 {
    murmur2(key) & 0x7fff_ffff
}

/// Chooses one of `count` partitions or shards for a key, as Kafka chooses a partition; none of
/// none.
#[must_use]
pub fn choose(key: &[u8], count: u32) -> Option<u32> {
    positive_murmur2(key).checked_rem(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_kafka_does() {
        let check = |key: &str, expect: i32| {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expect, "{key}");
        };
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn a_partition_is_never_negative() {
        assert_eq!(
            positive_murmur2(b"21"),
            973_932_308_i32.wrapping_neg().cast_unsigned() & 0x7fff_ffff
        );
    }
}
