//! Random and exhaustive schedules of relays, transactions and faults against the laws.

use std::time::Duration;

use amarra_messaging::relay::Event;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::relay_world::{KEYS, World};
use crate::tape::{Tape, explore};

const NAMES: [&str; KEYS] = ["a", "b", "c"];

/// One thing happens, by choice of the tape.
fn happen(world: &mut World, tape: &mut Tape) {
    match tape.pick(12) {
        0 => drop(world.begin()),
        1 | 2 => {
            if let Some(xid) = pick(&world.active(), tape) {
                let seq = world.append(xid, NAMES[tape.pick(KEYS)]);
                if let Some(seq) = seq.filter(|_| tape.pick(8) == 7) {
                    world.poison.insert(seq);
                }
            }
        }
        3 => {
            if let Some(xid) = pick(&world.active(), tape) {
                let commit = tape.pick(4) != 3;
                world.end(xid, commit);
            }
        }
        4 => drop(world.commit_free(NAMES[tape.pick(KEYS)])),
        5 if tape.pick(4) == 3 => drop(world.take_over()),
        6 => {
            let ms = u64::try_from(tape.pick(500)).unwrap();
            world.pass(Duration::from_millis(ms));
            tell_all(world, &Event::Tick);
        }
        7 => tell_all(world, &Event::Changed),
        8 if tape.pick(4) == 3 => world.release_all(),
        _ => {
            let index = tape.pick(world.relays.len());
            world.perform(index, tape);
        }
    }
}

fn pick(from: &[u64], tape: &mut Tape) -> Option<u64> {
    if from.is_empty() { None } else { Some(from[tape.pick(from.len())]) }
}

fn tell_all(world: &mut World, event: &Event) {
    for index in 0..world.relays.len() {
        world.tell(index, event.clone());
    }
}

/// Faults end, transactions commit, operators mend: then everything must come out.
fn heal_and_check(mut world: World) {
    for xid in world.active() {
        world.end(xid, true);
    }
    let index = world.take_over();
    for _ in 0..20 {
        world.release_all();
        world.tell(index, Event::Changed);
        world.settle(index);
        world.pass(Duration::from_secs(2));
        world.tell(index, Event::Tick);
        world.settle(index);
    }
    assert_eq!(world.relays[index].stopped, None);
    assert!(world.parked.is_empty(), "released rows are left: {:?}", world.parked);
    let mut positions: Vec<_> = world.stored.iter().map(|&(seq, _, pos)| (pos, seq)).collect();
    positions.sort_unstable();
    positions.dedup();
    let mut committed: Vec<_> = world.committed.iter().map(|(_, row)| row.seq.0).collect();
    committed.sort_unstable();
    let mut stored: Vec<_> = positions.iter().map(|&(_, seq)| seq).collect();
    stored.sort_unstable();
    assert_eq!(stored, committed, "lost, or published without a commit");
    let dense: Vec<_> = (1..).take(positions.len()).collect();
    let positions: Vec<u64> = positions.iter().map(|&(pos, _)| pos).collect();
    assert_eq!(positions, dense, "RLY-2: the positions are not dense");
    assert_eq!(world.saved.pos.0, u64::try_from(committed.len()).unwrap(), "RLY-7: not saved");
    assert_eq!(world.saved.cur, None, "RLY-7: the batch was left open");
    let saves = world.saves;
    world.tell(index, Event::Changed);
    world.settle(index);
    assert_eq!(world.saves, saves, "RLY-7: an idle relay saved again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_the_laws(chunk in 1_usize..5, tape in vec(any::<u16>(), 0..600)) {
        let mut world = World::new(chunk);
        world.take_over();
        let mut tape = Tape::new(tape);
        while tape.goes_on() {
            happen(&mut world, &mut tape);
        }
        heal_and_check(world);
    }
}

/// Every way the calls of two relays can fail around a handover, over three rows in two chunks.
#[test]
fn every_short_schedule_around_a_handover_keeps_the_laws() {
    let runs = explore(8, |tape| {
        let mut world = World::new(2);
        let first = world.take_over();
        world.settle(first);
        let late = world.begin();
        world.append(late, "c").unwrap();
        world.commit(&["a", "b"]);
        world.commit(&["a"]);
        world.tell(first, Event::Changed);
        for _ in 0..tape.pick(8) {
            world.perform(first, tape);
            world.pass(Duration::from_millis(1_100));
            world.tell(first, Event::Tick);
        }
        let second = world.take_over();
        world.end(late, true);
        world.perform(second, tape);
        world.perform(first, tape);
        heal_and_check(world);
    });
    assert!(runs > 5_000, "only {runs} schedules");
}
