//! The table of a reservation, pair by pair, and random sequences against a naive model.
#![allow(clippy::arithmetic_side_effects, reason = "tests")]

use super::*;
use amarra_core::{Actor, SeededEntropy, TraceParent};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(60);

fn order_id() -> OrderId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn origin() -> Cause {
    Cause {
        correlation: order_id().as_uuid().into(),
        causation: None,
        actor: Actor::Service("orders".into()),
        traceparent: TraceParent::root(&SeededEntropy::new(1, "origin")),
    }
}

fn lines() -> Vec<StockLine> {
    vec![line("A", 2), line("B", 1)]
}

fn line(sku: &str, qty: u32) -> StockLine {
    StockLine { sku: sku.parse().unwrap(), qty }
}

fn reserve(shortages: Vec<StockLine>) -> Ask {
    let reservation_id = "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap();
    Ask::Reserve { reservation_id, lines: lines(), shortages, ttl: TTL }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(secs))
}

/// Asks at `now` seconds and returns what came of it.
fn ask(state: Option<&Reservation>, ask: Ask, now: u64) -> Decision {
    decide(state, order_id(), ask, ("r", &origin(), at(now)))
}

fn in_state(status: ReservationStatus) -> Reservation {
    let held = ask(None, reserve(Vec::new()), 0).next.unwrap();
    let compensate = || Ask::Compensate(CompensationCause::OrderCancelled);
    match status {
        ReservationStatus::Held => held,
        ReservationStatus::Committed => ask(Some(&held), Ask::Commit, 1).next.unwrap(),
        ReservationStatus::Released => ask(Some(&held), compensate(), 1).next.unwrap(),
        ReservationStatus::Expired => expire(&held, at(60)).next.unwrap(),
        ReservationStatus::Returned => {
            let committed = in_state(ReservationStatus::Committed);
            ask(Some(&committed), compensate(), 2).next.unwrap()
        }
        ReservationStatus::Tombstoned => ask(None, compensate(), 0).next.unwrap(),
    }
}

/// What a decision did, in short: the new state, the kind of movement, the answer and its cause.
fn summary(decision: &Decision) -> String {
    let next = decision.next.as_ref().map_or("-".to_owned(), |n| format!("{:?}", n.status));
    let moved = decision.movements.first().map_or("-", |(_, m)| m.action());
    let reply = match &decision.reply {
        Some(Reply::Reserved(e)) => format!("reserved {}", e.request),
        Some(Reply::Committed(e)) => format!("committed {}", e.request),
        Some(Reply::Compensated(e)) => format!("{:?} {}x {}", e.cause, e.lines.len(), e.request),
        None => "-".to_owned(),
    };
    format!("{next} {moved} {reply}")
}

#[test]
fn the_first_command_makes_the_state() {
    let check = |a, expect: &str| assert_eq!(summary(&ask(None, a, 0)), expect);
    check(reserve(Vec::new()), "Held hold reserved r");
    check(reserve(vec![line("A", 1)]), "Tombstoned - Shortage 0x r");
    check(Ask::Commit, "Tombstoned - Expired 0x r");
    let cause = CompensationCause::OrderCancelled;
    check(Ask::Compensate(cause), "Tombstoned - OrderCancelled 0x r");
}

#[test]
fn the_table_pair_by_pair() {
    use ReservationStatus as S;
    let check = |status, commit: &str, compensate: &str, reserved: &str| {
        let state = in_state(status);
        let to = |a| summary(&ask(Some(&state), a, 5));
        assert_eq!(to(Ask::Commit), commit, "{status:?} commit");
        let cause = CompensationCause::PaymentFailed;
        assert_eq!(to(Ask::Compensate(cause)), compensate, "{status:?} compensate");
        assert_eq!(to(reserve(Vec::new())), reserved, "{status:?} reserve");
    };
    check(
        S::Held,
        "Committed commit committed r",
        "Released release PaymentFailed 2x r",
        "- - reserved r",
    );
    check(S::Committed, "- - committed r", "Returned return Restock 2x r", "- - reserved r");
    check(S::Released, "- - Expired 2x r", "- - OrderCancelled 2x r", "- - OrderCancelled 2x r");
    check(S::Expired, "- - Expired 2x r", "- - Expired 2x r", "- - Expired 2x r");
    check(S::Returned, "- - Restock 2x r", "- - Restock 2x r", "- - Restock 2x r");
    check(S::Tombstoned, "- - Expired 0x r", "- - OrderCancelled 0x r", "- - OrderCancelled 0x r");
}

#[test]
fn a_shortage_is_answered_again_with_what_was_missing() {
    let short = ask(None, reserve(vec![line("A", 1)]), 0).next.unwrap();
    let again = ask(Some(&short), reserve(Vec::new()), 5);
    let Some(Reply::Compensated(event)) = again.reply else { panic!("{again:?}") };
    assert_eq!((event.cause, event.shortages), (CompensationCause::Shortage, vec![line("A", 1)]));
    assert_eq!((again.next, again.movements), (None, Vec::new()));
}

#[test]
fn commit_and_expiry_have_one_winner_at_every_moment() {
    let held = in_state(ReservationStatus::Held);
    let check = |now, commit: &str, time: &str| {
        assert_eq!(summary(&ask(Some(&held), Ask::Commit, now)), commit, "commit at {now}");
        assert_eq!(summary(&expire(&held, at(now))), time, "time at {now}");
    };
    check(59, "Committed commit committed r", "- - -");
    check(60, "Expired expire Expired 2x r", "Expired expire Expired 2x ");
    check(61, "Expired expire Expired 2x r", "Expired expire Expired 2x ");
    for status in [ReservationStatus::Committed, ReservationStatus::Released] {
        assert_eq!(summary(&expire(&in_state(status), at(99))), "- - -");
    }
}

#[test]
fn lines_of_one_product_are_summed() {
    let sum =
        |lines: &[(&str, u32)]| summed(lines.iter().map(|(sku, qty)| (sku.parse().unwrap(), *qty)));
    assert_eq!(sum(&[("B", 1), ("A", 1), ("A", 1)]), Some(lines()));
    assert_eq!(sum(&[("A", u32::MAX), ("A", 1)]), Some(vec![line("A", u32::MAX)]));
    assert_eq!(sum(&[("A", 0)]), None);
    assert_eq!(sum(&[]), None);
}

/// The naive model: what the order has from the shelf and as a hold, by name.
fn naive(state: &str, command: u8, due: bool) -> &'static str {
    match (state, command) {
        ("none", 0) => "held",
        ("none", 3) => "none",
        ("none" | "tombstone", _) => "tombstone",
        ("held", 1 | 3) if due => "over",
        ("held", 1) => "sold",
        ("held", 2) => "over",
        ("held", _) => "held",
        ("sold", 2) => "over",
        ("sold", _) => "sold",
        _ => "over",
    }
}

proptest! {
    #[test]
    fn any_sequence_agrees_with_the_naive_model(
        commands in prop::collection::vec((0_u8..4, 0_u64..30), 0..20),
    ) {
        let (mut state, mut model) = (None::<Reservation>, "none");
        let (mut now, mut moves) = (0, Vec::new());
        for (command, wait) in commands {
            now += wait;
            let due = state.as_ref().is_some_and(|s| at(now) >= s.expires_at);
            let decision = match command {
                0 => ask(state.as_ref(), reserve(Vec::new()), now),
                1 => ask(state.as_ref(), Ask::Commit, now),
                2 => ask(state.as_ref(), Ask::Compensate(CompensationCause::Manual), now),
                _ => match &state {
                    Some(s) => expire(s, at(now)),
                    None => Decision::answer(None),
                },
            };
            prop_assert_eq!(decision.reply.is_some(), command != 3 || decision.next.is_some());
            prop_assert_eq!(decision.next.is_none(), decision.movements.is_empty()
                && naive(model, command, due) == model);
            model = naive(model, command, due);
            moves.extend(decision.movements.iter().map(|(_, m)| m.deltas()));
            state = decision.next.or(state);
        }
        let status = state.as_ref().map(|s| s.status);
        let expect = match status {
            None => "none",
            Some(ReservationStatus::Held) => "held",
            Some(ReservationStatus::Committed) => "sold",
            Some(ReservationStatus::Tombstoned) => "tombstone",
            Some(_) => "over",
        };
        prop_assert_eq!(expect, model);
        let net = moves.iter().fold((0, 0), |sum, m| (sum.0 + m.0, sum.1 + m.1));
        let (sold, held) = (3 * i64::from(model == "sold"), 3 * i64::from(model == "held"));
        prop_assert_eq!(net, (-sold, held));
    }
}
