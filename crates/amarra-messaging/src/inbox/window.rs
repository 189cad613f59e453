//! The bounded bitmap of positions that an inbox by position keeps per partition and source shard.

use super::{Admit, Gaps};
use crate::message::Pos;

/// Remembers which of the last `bits` positions were admitted; everything below counts as admitted.
///
/// The relay publishes a shard in ascending order and each partition keeps that order, so within
/// one partition only a re-publish goes back, and never further than what was in flight. Positions
/// in between that go to other partitions or topics stay unset; they are never asked for here.
/// That is why a window is kept per partition: across two, the slower one's backlog would lie below
/// the window of the faster one and be taken for duplicates.
///
/// # State
/// `next` is one more than the highest position admitted, 0 when there is none. Bit `p % bits` is
/// that of position `p`, for the positions from `next - bits` to `next - 1`.
///
/// # Example
/// ```
/// use amarra_messaging::inbox::window::Window;
/// use amarra_messaging::inbox::{Admit, Gaps};
/// use amarra_messaging::message::Pos;
///
/// let mut window = Window::new(64);
/// assert_eq!(window.admit(Pos(5), Gaps::Normal), Admit::Fresh);
/// assert_eq!(window.admit(Pos(5), Gaps::Normal), Admit::Duplicate);
/// assert_eq!(window.admit(Pos(3), Gaps::Normal), Admit::Fresh, "passed over before");
/// assert_eq!(window.admit(Pos(900), Gaps::Normal), Admit::Fresh);
/// assert_eq!(window.admit(Pos(4), Gaps::Normal), Admit::Duplicate, "below the window");
/// let stored = window.to_bytes();
/// assert_eq!(Window::from_bytes(&stored, 64), Some(window));
/// ```
///
/// # Source
/// The anti-replay window of IPsec, RFC 4303 section 3.4.3 and RFC 6479.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    next: u64,
    words: Box<[u64]>,
}

/// Bits of a word.
const WORD: u64 = 64;

impl Window {
    /// Makes a window of at least `bits` positions that has seen nothing.
    #[must_use]
    pub fn new(bits: u32) -> Self {
        let words = usize::try_from(bits.div_ceil(64).max(1)).unwrap_or(1);
        Self { next: 0, words: vec![0; words].into() }
    }

    /// Returns how many positions it remembers.
    #[must_use]
    pub fn bits(&self) -> u64 {
        u64::try_from(self.words.len()).unwrap_or(u64::MAX).saturating_mul(WORD)
    }

    /// Admits a position.
    pub fn admit(&mut self, pos: Pos, gaps: Gaps) -> Admit {
        let expected = self.next;
        match self.saw(pos) {
            Some(false) => {
                self.mark(pos);
                if gaps == Gaps::Reported && expected > 0 && pos.0 > expected {
                    return Admit::Gap { expected };
                }
                Admit::Fresh
            }
            Some(true) | None => Admit::Duplicate,
        }
    }

    /// Tells whether a position was admitted, none when the window does not reach back to it.
    #[must_use]
    pub fn saw(&self, pos: Pos) -> Option<bool> {
        if pos.0 >= self.next {
            return Some(false);
        }
        let reach = self.next.saturating_sub(self.bits());
        (pos.0 >= reach).then(|| self.bit(pos.0))
    }

    /// Notes a position as admitted; one that the window does not reach back to is ignored.
    pub fn mark(&mut self, pos: Pos) {
        if pos.0 >= self.next {
            self.advance(pos.0.saturating_add(1));
        }
        if self.saw(pos).is_some() {
            self.set(pos.0, true);
        }
    }

    /// Encodes the window: `next`, then the words, all little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.words.iter().flat_map(|word| word.to_le_bytes());
        self.next.to_le_bytes().into_iter().chain(words).collect()
    }

    /// Decodes a window and gives it `bits` positions; none when the bytes are no window.
    ///
    /// A window that grows takes what it did not remember for admitted, as it did before.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], bits: u32) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (next, words) = words.split_first()?;
        if !rest.is_empty() || words.is_empty() {
            return None;
        }
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let stored = Self { next: u64::from_le_bytes(*next), words };
        let mut window = Self::new(bits);
        if window.words.len() == stored.words.len() {
            return Some(stored);
        }
        window.next = stored.next;
        let reach = stored.next.saturating_sub(window.bits());
        for pos in reach..stored.next {
            window.set(pos, stored.saw(Pos(pos)).unwrap_or(true));
        }
        Some(window)
    }

    /// Moves the window up to `next` and forgets what was at the places it reuses.
    fn advance(&mut self, next: u64) {
        if next.saturating_sub(self.next) >= self.bits() {
            self.words.fill(0);
        } else {
            (self.next..next).for_each(|pos| self.set(pos, false));
        }
        self.next = next;
    }

    fn place(&self, pos: u64) -> (usize, u64) {
        let at = pos.checked_rem(self.bits()).unwrap_or(0);
        (usize::try_from(at >> 6).unwrap_or(0), 1 << (at & 63))
    }

    fn bit(&self, pos: u64) -> bool {
        let (word, bit) = self.place(pos);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, pos: u64, value: bool) {
        let (word, bit) = self.place(pos);
        if let Some(word) = self.words.get_mut(word) {
            *word = if value { *word | bit } else { *word & !bit };
        }
    }
}
