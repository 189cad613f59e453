//! The retry budget against its laws in fractions that are never rounded, by random sequences.

use amarra_core::Monotonic;
use amarra_resilience::PerMille;
use amarra_resilience::retry::{Budget, BudgetConfig, Reserved};
use proptest::prelude::*;

/// A thousandth of a thousandth of a token a second, times a nanosecond: nothing is less.
const MILLI: u128 = 1_000_000_000;
const RETRY: u128 = 1000 * MILLI;

/// A purse that is told of everything at once, and never rounds.
struct Purse {
    config: BudgetConfig,
    there: u128,
    now: u64,
}

impl Purse {
    fn new(config: BudgetConfig) -> Self {
        Self { config, there: u128::from(config.tokens_max) * RETRY, now: 0 }
    }

    fn earn(&mut self, earned: u128) {
        self.there = (self.there + earned).min(u128::from(self.config.tokens_max) * RETRY);
    }

    fn at(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        self.earn(u128::from(passed) * u128::from(self.config.per_second_milli));
    }

    fn reserve(&mut self, now: u64) -> bool {
        self.at(now);
        let enough = self.there >= RETRY;
        self.there -= if enough { RETRY } else { 0 };
        enough
    }
}

#[derive(Debug, Clone)]
enum Op {
    Deposit(u8),
    Reserve,
    Spend(usize),
    Drop(usize),
    Advance(u64),
    Back(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let pause = prop_oneof![0..1_000_u64, 0..2_000_000_000_u64, Just(1_000_000_000), Just(1 << 60)];
    prop_oneof![
        6 => (1..20_u8).prop_map(Op::Deposit),
        8 => Just(Op::Reserve),
        4 => any::<usize>().prop_map(Op::Spend),
        3 => any::<usize>().prop_map(Op::Drop),
        4 => pause.prop_map(Op::Advance),
        1 => (0..3_000_000_000_u64).prop_map(Op::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// BUD-1, BUD-2, BUD-3.
    #[test]
    fn the_budget_is_its_reference(
        per_call in 0..=1000_u16,
        per_second_milli in prop_oneof![Just(0), 0..3000_u32, Just(u32::MAX)],
        tokens_max in 1..12_u32,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let per_call = PerMille::new(per_call);
        let config = BudgetConfig { per_call, per_second_milli, tokens_max };
        let (budget, mut purse) = (Budget::new(config).unwrap(), Purse::new(config));
        let (mut now, mut skew) = (0_u64, 0);
        let mut reserved: Vec<Reserved<'_>> = Vec::new();
        for op in ops {
            let told = now.saturating_sub(std::mem::take(&mut skew));
            match op {
                Op::Deposit(calls) => {
                    (0..calls).for_each(|_| budget.deposit());
                    purse.earn(u128::from(calls) * u128::from(per_call.get()) * MILLI);
                }
                Op::Reserve => {
                    let got = budget.reserve(Monotonic::from_nanos(told));
                    prop_assert_eq!(got.is_some(), purse.reserve(told));
                    reserved.extend(got);
                }
                Op::Spend(i) if !reserved.is_empty() => {
                    reserved.swap_remove(i % reserved.len()).spend();
                }
                Op::Drop(i) if !reserved.is_empty() => {
                    drop(reserved.swap_remove(i % reserved.len()));
                    purse.earn(RETRY);
                }
                Op::Spend(_) | Op::Drop(_) => {}
                Op::Advance(by) => now = now.saturating_add(by),
                Op::Back(by) => skew = by,
            }
            let seen = purse.now.max(now);
            purse.at(seen);
            let tokens = budget.tokens(Monotonic::from_nanos(seen));
            prop_assert_eq!(u128::from(tokens), purse.there / RETRY);
        }
    }
}
