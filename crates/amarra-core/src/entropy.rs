//! Randomness as a port, and the seeded generator that tests and the simulator put behind it.

use std::fmt;
use std::sync::Mutex;

/// Gives random bytes.
///
/// # Laws
/// - ENT-1 a seeded implementation gives the same bytes for the same seed and the same calls.
/// - ENT-2 a production implementation is cryptographically strong: tokens and keys come from it.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// Returns a random number of the whole `u64` range.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns a number below `bound`, zero when `bound` is zero.
    ///
    /// The bias is below `bound / 2^64`, which no caller here can see.
    fn below(&self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()).saturating_mul(u128::from(bound));
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

/// A reproducible stream of random bytes (xoshiro256++ seeded by SplitMix64).
///
/// Not for keys or tokens outside tests and the simulator: it is predictable by design.
///
/// # Example
/// ```
/// use amarra_core::{Entropy, SeededEntropy};
/// let (a, b) = (SeededEntropy::new(7, "orders-1"), SeededEntropy::new(7, "orders-1"));
/// assert_eq!(a.next_u64(), b.next_u64());
/// let other = SeededEntropy::new(7, "orders-2");
/// assert_ne!(a.next_u64(), other.next_u64());
/// ```
///
/// # Source
/// Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
pub struct SeededEntropy {
    state: Mutex<[u64; 4]>,
}

impl SeededEntropy {
    /// Starts the stream of (`seed`, `purpose`): streams of other purposes are independent of it,
    /// so one more draw for one purpose shifts no other.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut mix = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in purpose.bytes() {
            mix = splitmix(&mut (mix ^ u64::from(byte)));
        }
        let state = std::array::from_fn(|_| splitmix(&mut mix));
        Self { state: Mutex::new(state) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            let bytes = xoshiro(&mut state).to_le_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededEntropy").finish_non_exhaustive()
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn xoshiro(s: &mut [u64; 4]) -> u64 {
    let [a, b, c, d] = *s;
    let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let (c, d) = (c ^ a, d ^ b);
    *s = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let entropy = SeededEntropy::new(1, "below");
        let mut seen = [false; 5];
        for _ in 0..200 {
            let n = usize::try_from(entropy.below(5)).unwrap();
            seen[n] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(entropy.below(0), 0);
    }
}
