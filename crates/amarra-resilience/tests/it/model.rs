//! The breaker against a naive reference that keeps every call for ever, by random sequences.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use amarra_core::Monotonic;
use amarra_resilience::breaker::{Breaker, Config, Lost, Mode, Outcome, Permit, SlowCalls, Window};
use amarra_resilience::{Now, PerMille};
use futures_util::FutureExt;
use proptest::prelude::*;

use crate::reference::Model;
use crate::support::{Log, ms};

#[derive(Debug, Clone)]
pub enum Op {
    Admit,
    Finish(usize, Outcome),
    Drop(usize),
    /// A panic drops a permit.
    Panic(usize),
    /// A call that was admitted is about to be sent.
    Begin(usize),
    /// A whole call: how long it takes, and what it answers, or that it panics; awaited or not.
    Call(u64, Option<Outcome>, bool),
    Advance(u64),
    /// The next call passes a time this much too early.
    Back(u64),
    SetMode(Mode),
}

pub fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Ok),
        4 => Just(Outcome::Fail),
        1 => Just(Outcome::Slow),
        1 => Just(Outcome::Ignore),
    ];
    // The last are whole turns of the tags that the cells of a window carry.
    let pause = prop_oneof![
        6 => 0..50_u64,
        6 => 0..2000_u64,
        6 => Just(100),
        6 => Just(400),
        1 => (1..120_u64).prop_map(|turns| turns << 16),
    ];
    let took = prop_oneof![4 => Just(0), 1 => 0..400_u64];
    let call = (took, prop::option::weighted(0.8, outcome.clone()), any::<bool>());
    let mode = prop_oneof![
        4 => Just(Mode::Automatic),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::Disabled),
        1 => Just(Mode::MetricsOnly),
    ];
    prop_oneof![
        20 => Just(Op::Admit),
        20 => (any::<usize>(), outcome).prop_map(|(i, o)| Op::Finish(i, o)),
        3 => any::<usize>().prop_map(Op::Drop),
        1 => any::<usize>().prop_map(Op::Panic),
        2 => any::<usize>().prop_map(Op::Begin),
        4 => call.prop_map(|(took, outcome, run)| Op::Call(took, outcome, run)),
        6 => pause.prop_map(Op::Advance),
        1 => (0..5000_u64).prop_map(Op::Back),
        1 => mode.prop_map(Op::SetMode),
    ]
}

pub fn config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        (1..6_u16, 1..100_u64)
            .prop_map(|(slices, w)| Window::Time { span: ms(w * u64::from(slices)), slices }),
        (6..20_u16).prop_map(|calls| Window::Count { calls }),
    ];
    let slow = prop::option::of(
        (1..300_u64, 1..=1000_u16)
            .prop_map(|(a, r)| SlowCalls { after: ms(a), rate: PerMille::new(r) }),
    );
    let ramp =
        prop_oneof![Just((0, 1)), (1..5_u16, 1..200_u64).prop_map(|(s, w)| (w * u64::from(s), s))];
    let cancelled = prop_oneof![4 => Just(Lost::Ignored), 1 => Just(Lost::Failed)];
    let panicked = prop_oneof![1 => Just(Lost::Ignored), 4 => Just(Lost::Failed)];
    let permits = prop_oneof![4 => 1..4_u16, 1 => 4..12_u16, 1 => Just(1023_u16)];
    let jitter = prop_oneof![2 => Just(0), 1 => 0..=1000_u16];
    let calls = (window, 1..6_u32, 1..=1000_u16, slow);
    (calls, cancelled, panicked, permits, jitter, ramp).prop_map(
        |(calls, cancelled, panicked, half_open_permits, jitter, (ramp, ramp_steps))| Config {
            window: calls.0,
            calls_min: calls.1,
            failure_rate: PerMille::new(calls.2),
            slow_calls: calls.3,
            cancelled,
            panicked,
            half_open_permits,
            half_open_wait: ms(100),
            open_wait: ms(100),
            open_wait_max: ms(400),
            open_jitter: PerMille::new(jitter),
            ramp: ms(ramp),
            ramp_steps,
        },
    )
}

const MS: u64 = 1_000_000;

fn nanos_at(nanos: u64) -> Monotonic {
    Monotonic::from_nanos(nanos)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// All but whole calls, which read the clock where they must and so pass no time that is known.
    #[test]
    fn the_breaker_is_its_reference(
        config in config(),
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let ops = ops.into_iter().filter(|op| !matches!(op, Op::Call(..))).collect();
        compare((config, seed), ops, nanos_at)?;
    }

    /// A clock that is read only when it is needed makes no difference to calls this few: all but
    /// jumps back, which nobody sees who does not look, and drops, which have no clock.
    #[test]
    fn so_it_is_with_a_clock_that_is_read_on_demand(
        config in config(),
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let config = Config { cancelled: Lost::Ignored, ..config };
        let ops = ops.into_iter().filter(|op| !matches!(op, Op::Back(_) | Op::Panic(_))).collect();
        compare((config, seed), ops, |nanos| move || nanos_at(nanos))?;
    }
}

/// Drops `permit` as a panic of its call does.
fn lose_by_panic(permit: Permit<'_>) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _permit = permit;
        // Without the message that `panic!` prints.
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
}

/// Makes a whole call that begins at `now` and takes `took`; returns how long to wait when it is
/// refused.
fn whole_call(
    breaker: &Breaker,
    now: u64,
    (took, outcome, run): (u64, Option<Outcome>, bool),
) -> Result<(), u64> {
    let time = Cell::new(now);
    let clock = || nanos_at(time.get());
    let work = || {
        time.set(now + took);
        outcome.unwrap_or_else(|| resume_unwind(Box::new(())))
    };
    let called = catch_unwind(AssertUnwindSafe(|| {
        if run {
            breaker.run(clock, |outcome| *outcome, async { work() }).now_or_never().unwrap()
        } else {
            breaker.call(clock, |outcome| *outcome, work)
        }
    }));
    match called {
        Ok(Err(refused)) => Err(u64::try_from(refused.retry_after.as_nanos()).unwrap()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Makes the same call of the reference.
fn whole_call_of(
    model: &mut Model,
    now: u64,
    (took, outcome): (u64, Option<Outcome>),
    panicked: Lost,
) -> Result<(), u64> {
    let epoch = model.admit(now)?;
    let panicked = if panicked == Lost::Failed { Outcome::Fail } else { Outcome::Ignore };
    model.finish(now + took, (epoch, now), outcome.unwrap_or(panicked));
    Ok(())
}

/// Runs `ops` on a breaker and on its reference; `now` is how the breaker is told the time.
fn compare<N: Now>(
    (config, seed): (Config, u64),
    ops: Vec<Op>,
    now_at: impl Fn(u64) -> N,
) -> Result<(), TestCaseError> {
    let log = Arc::new(Log::default());
    let breaker = Breaker::new("b", config, seed).unwrap().observed(log.clone());
    let mut model = Model::new(config, seed);
    let mut now = 0_u64;
    let mut skew = 0_u64;
    let mut permits: Vec<(Permit<'_>, (u64, u64))> = Vec::new();
    for op in ops {
        let told = now.saturating_sub(std::mem::take(&mut skew));
        let seen = now_at(told);
        match op {
            Op::Admit => match (breaker.admit(seen), model.admit(told)) {
                (Ok(permit), Ok(epoch)) => {
                    prop_assert_eq!(permit.epoch(), epoch);
                    permits.push((permit, (epoch, told)));
                }
                (Err(refused), Err(wait)) => {
                    prop_assert_eq!(refused.retry_after.as_nanos(), u128::from(wait));
                }
                (got, expect) => prop_assert!(false, "{:?} {:?}", got, expect),
            },
            Op::Finish(i, outcome) if !permits.is_empty() => {
                let (permit, of) = permits.swap_remove(i % permits.len());
                let got = permit.finish(seen, outcome);
                prop_assert_eq!(got, model.finish(told, of, outcome));
            }
            Op::Drop(i) if !permits.is_empty() => {
                let (permit, (epoch, _)) = permits.swap_remove(i % permits.len());
                drop(permit);
                model.lose(epoch, config.cancelled);
            }
            Op::Panic(i) if !permits.is_empty() => {
                let (permit, (epoch, _)) = permits.swap_remove(i % permits.len());
                lose_by_panic(permit);
                model.lose(epoch, config.panicked);
            }
            Op::Begin(i) if !permits.is_empty() => {
                let index = i % permits.len();
                let (permit, (epoch, started)) = &mut permits[index];
                let got = permit.begin(seen).map_err(|e| e.retry_after.as_nanos());
                let expect = model.begin(told, *epoch);
                if expect.is_ok() {
                    *started = told;
                }
                prop_assert_eq!(got, expect.map_err(u128::from));
            }
            Op::Call(took, outcome, run) => {
                let got = whole_call(&breaker, told, (took * MS, outcome, run));
                let expect = whole_call_of(&mut model, told, (took * MS, outcome), config.panicked);
                prop_assert_eq!(got, expect);
                now += if got.is_ok() { took * MS } else { 0 };
            }
            Op::Finish(..) | Op::Drop(_) | Op::Panic(_) | Op::Begin(_) => {}
            Op::Advance(by) => now += by * MS,
            Op::Back(by) => skew = by * MS,
            Op::SetMode(mode) => {
                breaker.set_mode(seen, mode);
                model.set_mode(told, mode);
            }
        }
        prop_assert_eq!(breaker.snapshot(), model.snapshot());
        prop_assert_eq!(&log.path(), &model.path);
    }
    Ok(())
}
