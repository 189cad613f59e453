//! The laws of `Entropy`: repeatable where seeded, and never the same for two processes.

use std::collections::BTreeSet;

use amarra_core::Entropy;

use crate::backend::EntropyBackend;
use crate::check::Must;
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Entropy` for one `EntropyBackend`.
    entropy_laws in entropy for EntropyBackend {
        Entropy:
            "ENT-1" ent_1_the_same_seed_and_calls_give_the_same_bytes,
            "ENT-1" ent_1_another_seed_gives_other_bytes,
            "ENT-2" ent_2_every_byte_is_filled,
            "ENT-2" ent_2_draws_do_not_repeat,
            "ENT-2" ent_2_two_processes_draw_different_bytes,
            "ENT-2" ent_2_bits_are_balanced,
            "ENT-2" ent_2_numbers_stay_below_their_bound_and_reach_all_below_it;
    }
}

/// Calls of all kinds and sizes.
fn draw(entropy: &dyn Entropy) -> Vec<u8> {
    let mut drawn = Vec::new();
    for size in [0, 1, 7, 8, 9, 33] {
        let mut bytes = vec![0; size];
        entropy.fill(&mut bytes);
        drawn.extend(bytes);
        drawn.extend(entropy.next_u64().to_le_bytes());
        drawn.extend(entropy.below(1 << 40).to_le_bytes());
    }
    drawn
}

/// Twice the same; a source without seeds has nothing to repeat.
pub async fn ent_1_the_same_seed_and_calls_give_the_same_bytes<B: EntropyBackend>(b: B) {
    if let (Some(x), Some(y)) = (b.seeded(42), b.seeded(42)) {
        assert_eq!(draw(x.as_ref()), draw(y.as_ref()));
        assert_eq!(draw(x.as_ref()), draw(y.as_ref()), "after as many calls");
    }
}

/// Neighbouring seeds as well.
pub async fn ent_1_another_seed_gives_other_bytes<B: EntropyBackend>(b: B) {
    let mut drawn = BTreeSet::new();
    for seed in 0..100 {
        let Some(entropy) = b.seeded(seed) else { return };
        assert!(drawn.insert(draw(entropy.as_ref())), "seed {seed} repeats another");
    }
}

/// No byte is left as it was: in forty draws each changes at least once.
pub async fn ent_2_every_byte_is_filled<B: EntropyBackend>(b: B) {
    let entropy = b.other();
    for size in [1, 8, 13, 64] {
        let mut changed = vec![false; size];
        for _ in 0..40 {
            let mut bytes = vec![0; size];
            entropy.fill(&mut bytes);
            changed.iter_mut().zip(&bytes).for_each(|(c, byte)| *c |= *byte != 0);
        }
        assert!(changed.into_iter().all(|c| c), "a byte of {size} is never filled");
    }
}

/// Ten thousand draws of sixteen bytes are all different.
pub async fn ent_2_draws_do_not_repeat<B: EntropyBackend>(b: B) {
    let entropy = b.other();
    let mut seen = BTreeSet::new();
    for _ in 0..10_000 {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        assert!(seen.insert(bytes), "sixteen bytes were drawn twice");
    }
}

/// As two processes have it, two sources share nothing.
pub async fn ent_2_two_processes_draw_different_bytes<B: EntropyBackend>(b: B) {
    assert_ne!(draw(b.other().as_ref()), draw(b.other().as_ref()));
}

/// About half of the bits of 64 KiB are ones: within 1%, which is over ten standard deviations.
pub async fn ent_2_bits_are_balanced<B: EntropyBackend>(b: B) {
    let mut bytes = vec![0; 65_536];
    b.other().fill(&mut bytes);
    let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    let bits = u32::try_from(bytes.len() * 8).ok().must("64 KiB of bits fit");
    assert!(ones.abs_diff(bits / 2) < bits / 200, "{ones} of {bits} bits are ones");
}

/// For bounds of all sizes; nothing is below zero but zero.
pub async fn ent_2_numbers_stay_below_their_bound_and_reach_all_below_it<B: EntropyBackend>(b: B) {
    let entropy = b.other();
    for bound in [1, 2, 3, 10] {
        let drawn: BTreeSet<_> = (0..500).map(|_| entropy.below(bound)).collect();
        assert_eq!(drawn, (0..bound).collect(), "below {bound}");
    }
    assert_eq!(entropy.below(0), 0);
    assert!((0..100).all(|_| entropy.below(u64::MAX) < u64::MAX));
}
