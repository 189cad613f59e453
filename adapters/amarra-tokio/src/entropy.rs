//! Random bytes from the operating system.

use amarra_core::Entropy;

/// The operating system's cryptographically strong random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the operating system has no random numbers: every key and token drawn from then on
    /// would be guessable, so the process must not go on.
    #[expect(clippy::panic, reason = "no key or token may be drawn without randomness")]
    fn fill(&self, out: &mut [u8]) {
        if let Err(e) = getrandom::fill(out) {
            panic!("the operating system gives no random numbers: {e}");
        }
    }
}
