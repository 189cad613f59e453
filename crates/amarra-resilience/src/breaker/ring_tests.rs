//! The ring alone, and with threads on it.

use super::ring::Ring;
use super::state::Counts;
use super::window::Record;

#[test]
fn it_is_exactly_the_last_calls() {
    let ring = Ring::new(3);
    for failed in [true, true, false, false, true] {
        ring.push(Record { failed, slow: !failed });
    }
    assert_eq!(ring.counts(), Counts { calls: 3, failed: 1, slow: 2 });
    ring.clear();
    assert_eq!(ring.counts(), Counts::default());
    for n in 1..=4 {
        ring.push(Record { failed: true, slow: false });
        assert_eq!(ring.counts().calls, n.min(3));
    }
    let place = ring.push(Record { failed: false, slow: true });
    ring.take_back(place);
    assert_eq!(ring.counts(), Counts { calls: 2, failed: 2, slow: 0 });
}

#[test]
fn threads_lose_nothing() {
    let ring = Ring::new(100);
    std::thread::scope(|scope| {
        for failed in [true, false] {
            let ring = &ring;
            scope.spawn(move || {
                (0..1000).for_each(|_| _ = ring.push(Record { failed, slow: failed }));
            });
        }
    });
    let counts = ring.counts();
    assert_eq!((counts.calls, counts.failed), (100, counts.slow));
}
