//! The transition table against the specification, pair by pair, and walks through it.

use proptest::prelude::*;

use super::*;
use crate::contract::money::Currency;
use OrderStatus as S;
use Trigger as T;

const STATES: [S; 12] = [
    S::Pending,
    S::Reserved,
    S::Committing,
    S::Capturing,
    S::Compensating,
    S::Refunding,
    S::Confirmed,
    S::Fulfilling,
    S::Completed,
    S::Cancelled,
    S::Rejected,
    S::Refunded,
];

fn order(status: S) -> Order {
    let total = Money::new(700, Currency::EUR);
    Order {
        order_id: OrderId::from(uuid::Uuid::from_u128(7)),
        user_id: UserId::from(uuid::Uuid::from_u128(8)),
        lines: vec![Line {
            sku: "A".parse().unwrap(),
            name: "A".into(),
            unit_price: total,
            qty: 1,
        }],
        total,
        quote_id: QuoteId::from(uuid::Uuid::from_u128(9)),
        payment_token: "tok".into(),
        policy: Policy {
            reserve_ttl: std::time::Duration::from_secs(2),
            deadline: std::time::Duration::from_secs(1),
        },
        placed_at: Timestamp::EPOCH,
        status,
        cancel_requested: false,
        end_reason: None,
        committed: false,
        tracking: None,
        published: 1,
    }
}

fn moved(order: &Order, trigger: T) -> (Order, Option<Emit>, Option<Duty>) {
    match order.decide(trigger) {
        Ok(Decision::Move { next, emit, duty }) => (*next, emit, duty),
        other => panic!("{trigger:?} of {:?} gives {other:?}", order.status),
    }
}

type Row = (S, T, S, Option<Emit>, Option<Duty>);

/// The rows of the specification: from, trigger, to, what is published, what the sagas do. Every
/// pair that is not here moves nothing.
const ROWS: &[Row] = &[
    (S::Pending, T::StockReserved, S::Reserved, None, None),
    (S::Pending, T::Shortage, S::Rejected, Some(Emit::Rejected), None),
    (S::Pending, T::Cancel, S::Compensating, Some(Emit::CancelRequested), COMPENSATE),
    (S::Pending, T::Deadline, S::Compensating, None, COMPENSATE),
    (S::Reserved, T::PaymentAuthorized, S::Committing, None, None),
    (S::Reserved, T::PaymentFailed, S::Compensating, None, COMPENSATE),
    (S::Reserved, T::ReservationExpired, S::Compensating, None, COMPENSATE),
    (S::Reserved, T::Cancel, S::Compensating, Some(Emit::CancelRequested), COMPENSATE),
    (S::Reserved, T::Deadline, S::Compensating, None, COMPENSATE),
    (S::Committing, T::ReservationCommitted, S::Capturing, None, None),
    (S::Committing, T::ReservationExpired, S::Compensating, None, COMPENSATE),
    (S::Committing, T::Cancel, S::Compensating, Some(Emit::CancelRequested), COMPENSATE),
    (S::Committing, T::Deadline, S::Compensating, None, COMPENSATE),
    (S::Capturing, T::PaymentSucceeded, S::Confirmed, Some(Emit::Confirmed), None),
    (S::Capturing, T::PaymentFailed, S::Compensating, None, COMPENSATE),
    (S::Capturing, T::Cancel, S::Capturing, Some(Emit::CancelRequested), None),
    (S::Compensating, T::Compensated, S::Rejected, Some(Emit::Rejected), None),
    (S::Compensating, T::PaymentSucceeded, S::Refunding, None, REFUND),
    (S::Cancelled, T::PaymentSucceeded, S::Refunding, None, REFUND),
    (S::Rejected, T::PaymentSucceeded, S::Refunding, None, REFUND),
    (S::Refunding, T::RefundDone, S::Refunded, Some(Emit::Refunded), None),
    (S::Confirmed, T::Cancel, S::Refunding, Some(Emit::CancelRequested), REFUND),
    (S::Confirmed, T::Shipped, S::Fulfilling, Some(Emit::Fulfilled), None),
    (S::Fulfilling, T::Delivered, S::Completed, Some(Emit::Completed), None),
];

const COMPENSATE: Option<Duty> = Some(Duty::Compensate);
const REFUND: Option<Duty> = Some(Duty::Refund);

/// The pairs that cannot happen when the other services keep their word.
const ILLEGAL: &[(T, &[S])] = &[
    (T::StockReserved, &[]),
    (
        T::Shortage,
        &[S::Reserved, S::Committing, S::Capturing, S::Confirmed, S::Fulfilling, S::Completed],
    ),
    (T::PaymentAuthorized, &[S::Pending]),
    (T::PaymentFailed, &[S::Pending, S::Committing, S::Confirmed, S::Fulfilling, S::Completed]),
    (T::ReservationCommitted, &[S::Pending, S::Reserved]),
    (T::ReservationExpired, &[S::Pending, S::Capturing, S::Confirmed, S::Fulfilling, S::Completed]),
    (T::PaymentSucceeded, &[S::Pending, S::Reserved, S::Committing]),
    (T::Cancel, &[S::Fulfilling, S::Completed, S::Rejected]),
    (T::Deadline, &[]),
    (
        T::Compensated,
        &[
            S::Pending,
            S::Reserved,
            S::Committing,
            S::Capturing,
            S::Confirmed,
            S::Fulfilling,
            S::Completed,
        ],
    ),
    (
        T::RefundDone,
        &[
            S::Pending,
            S::Reserved,
            S::Committing,
            S::Capturing,
            S::Compensating,
            S::Confirmed,
            S::Fulfilling,
            S::Completed,
            S::Cancelled,
            S::Rejected,
        ],
    ),
    (
        T::Shipped,
        &[
            S::Pending,
            S::Reserved,
            S::Committing,
            S::Capturing,
            S::Compensating,
            S::Refunding,
            S::Cancelled,
            S::Rejected,
            S::Refunded,
        ],
    ),
    (
        T::Delivered,
        &[
            S::Pending,
            S::Reserved,
            S::Committing,
            S::Capturing,
            S::Compensating,
            S::Refunding,
            S::Confirmed,
            S::Cancelled,
            S::Rejected,
            S::Refunded,
        ],
    ),
];

#[test]
fn the_table_is_exactly_the_specification() {
    for status in STATES {
        for trigger in T::ALL {
            let row = ROWS.iter().find(|row| (row.0, row.1) == (status, trigger));
            let illegal = ILLEGAL.iter().any(|(t, from)| *t == trigger && from.contains(&status));
            let expect = match row {
                Some(&(_, _, status, emit, duty)) => Entry::To { status, emit, duty },
                None if illegal => Entry::Illegal,
                None => Entry::Ignore,
            };
            assert_eq!(entry(status, false, trigger), expect, "{trigger:?} of {status:?}");
            assert!(!(illegal && row.is_some()), "{trigger:?} of {status:?} is in both lists");
        }
    }
}

#[test]
fn a_requested_cancellation_turns_the_capture_into_a_refund() {
    let (asked, emit, duty) = moved(&order(S::Capturing), T::Cancel);
    assert_eq!((asked.status, emit), (S::Capturing, Some(Emit::CancelRequested)));
    assert!(asked.cancel_requested && duty.is_none());
    assert_eq!(asked.decide(T::Cancel), Ok(Decision::Ignore));

    let (refunding, emit, duty) = moved(&asked, T::PaymentSucceeded);
    assert_eq!((refunding.status, emit, duty), (S::Refunding, None, REFUND));
    let (declined, _, duty) = moved(&asked, T::PaymentFailed);
    assert_eq!((declined.status, duty), (S::Compensating, COMPENSATE));
    assert_eq!(declined.end_reason, Some(EndReason::Cancelled));
}

#[test]
fn the_reason_decides_between_cancelled_and_rejected() {
    let check = |from, trigger, reason, end, emit| {
        let (undoing, _, _) = moved(&order(from), trigger);
        assert_eq!(undoing.end_reason, Some(reason));
        let (ended, emitted, duty) = moved(&undoing, T::Compensated);
        assert_eq!((ended.status, emitted, duty), (end, Some(emit), None), "{trigger:?}");
        assert_eq!(ended.end_reason, Some(reason));
    };
    check(S::Reserved, T::Cancel, EndReason::Cancelled, S::Cancelled, Emit::Cancelled);
    check(S::Reserved, T::Deadline, EndReason::Deadline, S::Cancelled, Emit::Cancelled);
    check(S::Reserved, T::PaymentFailed, EndReason::PaymentFailed, S::Rejected, Emit::Rejected);
    let expired = EndReason::ReservationExpired;
    check(S::Committing, T::ReservationExpired, expired, S::Rejected, Emit::Rejected);
    let (short, emit, _) = moved(&order(S::Pending), T::Shortage);
    assert_eq!((short.end_reason, emit), (Some(EndReason::Shortage), Some(Emit::Rejected)));
}

#[test]
fn the_first_reason_stays() {
    let (declined, _, _) = moved(&order(S::Reserved), T::PaymentFailed);
    let (paid_late, _, _) = moved(&declined, T::PaymentSucceeded);
    assert_eq!(paid_late.status, S::Refunding);
    assert_eq!(paid_late.end_reason, Some(EndReason::PaymentFailed));
}

#[test]
fn stock_goes_back_for_the_reason_it_has() {
    let check = |from, trigger, committed, expect| {
        let order = Order { committed, ..order(from) };
        assert_eq!(moved(&order, trigger).0.compensation_cause(), expect, "{trigger:?}");
    };
    check(S::Reserved, T::PaymentFailed, false, CompensationCause::PaymentFailed);
    check(S::Reserved, T::Cancel, false, CompensationCause::OrderCancelled);
    check(S::Pending, T::Deadline, false, CompensationCause::OrderCancelled);
    check(S::Committing, T::ReservationExpired, false, CompensationCause::Expired);
    check(S::Capturing, T::PaymentFailed, true, CompensationCause::Restock);
    assert!(moved(&order(S::Committing), T::ReservationCommitted).0.committed);
}

#[test]
fn every_state_has_a_driver_exactly_until_it_ends() {
    for status in STATES {
        assert_eq!(Driver::of(status) == Driver::Nobody, status.is_terminal(), "{status:?}");
        // What a saga drives is also moved by time alone, or by the end of that saga.
        let ends = [T::Deadline, T::Compensated, T::RefundDone, T::PaymentSucceeded];
        let moves = |t: &T| matches!(entry(status, false, *t), Entry::To { .. });
        let by_saga = matches!(Driver::of(status), Driver::OrderSaga | Driver::RefundSaga);
        assert!(!by_saga || ends.iter().any(moves), "nothing moves {status:?}");
    }
}

proptest! {
    /// Whatever arrives in whatever order: terminal events are published at most once each, money
    /// that was captured confirms or is refunded, and no state is entered that the table does not
    /// lead to.
    #[test]
    fn any_walk_keeps_the_laws(
        triggers in proptest::collection::vec(proptest::sample::select(&T::ALL[..]), 0..40),
    ) {
        let mut now = order(S::Pending);
        let (mut captured, mut emitted) = (false, Vec::new());
        for trigger in triggers {
            let again = now.decide(trigger);
            prop_assert_eq!(&again, &now.decide(trigger), "not deterministic");
            let Ok(Decision::Move { next, emit, duty }) = again else { continue };
            prop_assert!(ROWS.iter().any(|row| (row.0, row.1) == (now.status, trigger)));
            prop_assert_eq!(duty == REFUND, next.status == S::Refunding);
            captured |= trigger == T::PaymentSucceeded;
            emitted.extend(emit);
            now = *next;
            if captured {
                let kept = [S::Confirmed, S::Fulfilling, S::Completed, S::Refunding, S::Refunded];
                prop_assert!(kept.contains(&now.status), "captured, and yet {:?}", now.status);
            }
            let again = now.decide(trigger);
            prop_assert_eq!(again, Ok(Decision::Ignore), "{:?} {:?} twice", trigger, now.status);
        }
        for once in [Emit::Confirmed, Emit::Refunded, Emit::Completed, Emit::Fulfilled] {
            prop_assert!(emitted.iter().filter(|e| **e == once).count() <= 1, "{:?} twice", once);
        }
        let ends = [Emit::Cancelled, Emit::Rejected];
        prop_assert!(emitted.iter().filter(|e| ends.contains(e)).count() <= 1);
    }
}
