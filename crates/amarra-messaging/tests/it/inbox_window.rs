//! The window and the offset mark against naive models that remember everything.

use std::collections::BTreeSet;

use amarra_messaging::Offset;
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Admit, Gaps};
use amarra_messaging::message::Pos;
use proptest::prelude::*;

/// Positions near each other, with a leap now and then.
fn positions() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![8 => -40_i64..40, 2 => -200_i64..300, 1 => 0_i64..5_000];
    prop::collection::vec(step, 1..300).prop_map(|steps| {
        let walk = steps.into_iter().scan(0_i64, |at, step| {
            *at = (*at + step).max(0);
            Some(u64::try_from(*at).unwrap())
        });
        walk.collect()
    })
}

proptest! {
    #[test]
    fn inb_5_a_window_answers_as_a_set_that_forgets_what_is_below_it(
        positions in positions(),
        bits in prop::sample::select(vec![64_u32, 128, 256]),
        store in any::<bool>(),
    ) {
        let (mut window, mut seen, mut next) = (Window::new(bits), BTreeSet::new(), 0);
        for pos in positions {
            let below = pos + u64::from(bits) < next;
            let known = below || seen.contains(&pos);
            prop_assert_eq!(window.saw(Pos(pos)), (!below).then(|| seen.contains(&pos)));
            let expect = if known { Admit::Duplicate } else { Admit::Fresh };
            prop_assert_eq!(window.admit(Pos(pos), Gaps::Normal), expect, "position {}", pos);
            seen.insert(pos);
            next = next.max(pos + 1);
            if store {
                window = Window::from_bytes(&window.to_bytes(), bits).unwrap();
            }
        }
    }

    #[test]
    fn inb_5_a_window_of_another_size_forgets_nothing_and_invents_nothing(
        positions in positions(),
        more in positions(),
    ) {
        let (mut window, mut seen) = (Window::new(128), BTreeSet::new());
        for pos in positions {
            window.mark(Pos(pos));
            seen.insert(pos);
        }
        for bits in [64, 128, 512] {
            let other = Window::from_bytes(&window.to_bytes(), bits).unwrap();
            prop_assert_eq!(other.bits(), u64::from(bits));
            for pos in more.iter().chain(&seen) {
                match (window.saw(Pos(*pos)), other.saw(Pos(*pos))) {
                    (Some(is), Some(other)) => prop_assert_eq!(is, other),
                    (None, found) => prop_assert_ne!(found, Some(false)),
                    (Some(_), None) => prop_assert!(bits < 128),
                }
            }
        }
    }

    #[test]
    fn inb_7_only_positions_that_were_passed_over_are_a_gap(positions in positions()) {
        let (mut window, mut next) = (Window::new(64), 0);
        for pos in positions {
            let admit = window.admit(Pos(pos), Gaps::Reported);
            let gap = matches!(admit, Admit::Gap { .. });
            prop_assert_eq!(gap, next > 0 && pos > next);
            if let Admit::Gap { expected } = admit {
                prop_assert_eq!(expected, next);
            }
            next = next.max(pos + 1);
        }
    }

    #[test]
    fn inb_6_a_mark_admits_every_offset_at_most_once_and_ascending(offsets in positions()) {
        let (mut mark, mut admitted) = (Mark::default(), Vec::new());
        for offset in offsets {
            if mark.admit(Offset(offset), Gaps::Normal).applies() {
                admitted.push(offset);
            }
        }
        prop_assert!(admitted.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn bytes_that_are_no_window_are_refused() {
    for bytes in [&[][..], &[0; 7], &[0; 8], &[0; 15], &[0; 17]] {
        assert_eq!(Window::from_bytes(bytes, 64), None);
    }
}
