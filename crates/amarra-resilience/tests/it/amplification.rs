//! The load that retries add in a full outage is bounded, through several tiers too.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::retry::{Budget, BudgetConfig};
use amarra_resilience::{CallOptions, Pipeline, Policy};
use proptest::prelude::*;

use crate::support::{Says, World, breaker, exact, ms};

fn tier(name: &'static str, config: BudgetConfig, attempts_max: u32) -> Pipeline {
    Pipeline::builder(name)
        .deadline(ms(60_000))
        .retry(Policy { attempts_max, ..Policy::default() }, Arc::new(Budget::new(config).unwrap()))
        .timeout(ms(10_000))
        .unwrap()
}

/// Sends `requests` through three tiers to a backend that is down; returns the calls each tier
/// made to the one below it.
fn outage(config: BudgetConfig, requests: u64) -> [u64; 3] {
    let (world, env) = World::env(7);
    let tiers = ["front", "middle", "back"].map(|name| tier(name, config, 3));
    let sent = RefCell::new([0_u64; 3]);
    for _ in 0..requests {
        let down = world.run(through(&env, &tiers, &sent));
        assert_eq!(down, Err(Says(Class::Transient)));
    }
    sent.into_inner()
}

type Answer<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Says>> + 'a>>;

fn through<'a>(
    env: &'a Environment,
    tiers: &'a [Pipeline],
    sent: &'a RefCell<[u64; 3]>,
) -> Answer<'a> {
    Box::pin(async move {
        let Some((tier, below)) = tiers.split_first() else { return Err(Says(Class::Transient)) };
        let call = |_| {
            sent.borrow_mut()[2 - below.len()] += 1;
            through(env, below, sent)
        };
        let answer = tier.call(env, CallOptions::idempotent(), call).await;
        answer.map_err(|failed| Says(failed.class()))
    })
}

/// I23, BUD-1: retries stay within the policy's bound.
#[test]
fn three_tiers_amplify_by_the_budget_and_not_by_the_attempts() {
    let per_call = amarra_resilience::PerMille::percent(10);
    let config = BudgetConfig { per_call, per_second_milli: 0, tokens_max: 10 };
    let requests = 2000;
    let mut first_tries = requests;
    for (tier, sent) in outage(config, requests).into_iter().enumerate() {
        let most = first_tries + first_tries / 10 + 10;
        assert!(sent <= most, "tier {tier}: {sent} calls for {first_tries}");
        assert!(sent >= first_tries + first_tries / 10, "tier {tier} does not use its budget");
        first_tries = sent;
    }
    // Three attempts in each of three tiers make 27; three budgets of a tenth make 1.331.
    assert!(first_tries < requests * 14 / 10, "{first_tries} calls for {requests} requests");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn no_policy_exceeds_its_budget(
        per_call in 0..=1000_u16,
        tokens_max in 1..20_u32,
        attempts_max in 1..6_u32,
        requests in 1..200_u64,
    ) {
        let per_call = amarra_resilience::PerMille::new(per_call);
        let config = BudgetConfig { per_call, per_second_milli: 0, tokens_max };
        let (world, env) = World::env(3);
        let tier = tier("only", config, attempts_max);
        let sent = Cell::new(0);
        for _ in 0..requests {
            let call = |_| {
                sent.set(sent.get() + 1);
                async { Err::<(), _>(Says(Class::Transient)) }
            };
            let _ = world.run(tier.call(&env, CallOptions::default(), call));
        }
        let retries = sent.get() - requests;
        prop_assert!(retries <= u64::from(tokens_max) + per_call.of(requests));
        prop_assert!(retries <= requests * u64::from(attempts_max - 1));
    }
}

/// BUD-2: while the breaker is open nothing is sent, and what is refused pays nothing.
#[test]
fn an_open_breaker_sends_nothing_and_costs_no_budget() {
    let (world, env) = World::env(1);
    let budget = Arc::new(Budget::new(BudgetConfig::default()).unwrap());
    let (breaker, _) = breaker(exact());
    let pipeline = Pipeline::builder("callee")
        .deadline(ms(900))
        .retry(Policy::once(), budget.clone())
        .breaker(Arc::new(breaker))
        .timeout(ms(100))
        .unwrap();
    let sent = Cell::new(0);
    let before = budget.tokens(env.monotonic());
    for _ in 0..100 {
        let call = |_| {
            sent.set(sent.get() + 1);
            async { Err::<(), _>(Says(Class::Transient)) }
        };
        let _ = world.run(pipeline.call(&env, CallOptions::default(), call));
    }
    assert_eq!((sent.get(), budget.tokens(env.monotonic())), (1, before));
}
