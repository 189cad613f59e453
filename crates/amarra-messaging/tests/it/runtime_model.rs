//! Random and exhaustive schedules of members, rebalances and faults against the runtime's laws.

use std::time::Duration;

use amarra_messaging::runtime::Event;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::runtime_world::{Effect, Rec, World};
use crate::tape::{Tape, explore};

const PARTITIONS: usize = 3;
const MEMBERS: usize = 2;
const KEYS: [&str; 3] = ["a", "b", "c"];

fn happen(world: &mut World, tape: &mut Tape) {
    let member = tape.pick(MEMBERS);
    match tape.pick(16) {
        0..4 => {
            let rec = Rec { key: KEYS[tape.pick(KEYS.len())], poison: tape.pick(10) == 9 };
            world.logs[tape.pick(PARTITIONS)].push(rec);
        }
        4 => {
            if tape.pick(3) == 2 {
                let partition = u32::try_from(tape.pick(PARTITIONS)).unwrap();
                world.assign(partition, member);
            }
        }
        5 if tape.pick(4) == 3 => world.crash(member, tape),
        6 if tape.pick(4) == 3 => world.tell(member, Event::Fenced),
        7 => world.pass(Duration::from_millis(u64::try_from(tape.pick(60)).unwrap())),
        8..11 => world.poll(member, tape),
        11 | 12 => world.finish_commit(member, tape),
        _ => world.finish_call(member, tape),
    }
}

fn heal_and_check(mut world: World) {
    world.heal();
    for (partition, log) in (0_u32..).zip(&world.logs) {
        let mut parked = Vec::new();
        for (offset, rec) in (0_u64..).zip(log) {
            if rec.poison {
                parked.push(rec.key);
            }
            let expect = if parked.contains(&rec.key) { Effect::Parked } else { Effect::Applied };
            let effect = world.effects.get(&(partition, offset));
            assert_eq!(effect, Some(&expect), "{rec:?} at {partition}/{offset}");
        }
        let committed = world.committed[usize::try_from(partition).unwrap()];
        assert_eq!(committed, u64::try_from(log.len()).unwrap(), "{partition} is not committed");
    }
    for member in &world.members {
        assert_eq!(member.engine.rows(), 0);
        assert_eq!(member.engine.wake_at(), None, "an idle engine wants no timer");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_the_laws(tape in vec(any::<u16>(), 0..900)) {
        let mut world = World::new(PARTITIONS, MEMBERS);
        for partition in 0..PARTITIONS {
            world.assign(u32::try_from(partition).unwrap(), partition % MEMBERS);
        }
        let mut tape = Tape::new(tape);
        while tape.goes_on() {
            happen(&mut world, &mut tape);
        }
        heal_and_check(world);
    }
}

/// Every way the first calls can end, around a poison message and a rebalance.
#[test]
fn every_short_schedule_around_a_poison_message_keeps_the_laws() {
    let runs = explore(9, |tape| {
        let mut world = World::new(1, 2);
        let rec = |key, poison| Rec { key, poison };
        world.logs[0].extend([rec("a", false), rec("b", true), rec("b", false), rec("a", false)]);
        world.assign(0, 0);
        world.poll(0, tape);
        world.poll(0, &mut Tape::default());
        for step in 0..4 {
            if step == 2 {
                world.assign(0, tape.pick(2));
            }
            world.finish_call(0, tape);
            world.pass(Duration::from_millis(100));
            world.poll(1, &mut Tape::default());
        }
        heal_and_check(world);
    });
    assert!(runs > 1_000, "only {runs} schedules");
}
