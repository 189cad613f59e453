//! The order saga and the refund saga, case by case: who is asked for what, and how orders end.

use amarra_saga::Status;
use amarra_shop::contract::api::{ApiError, Role};
use amarra_shop::contract::ids::OrderId;
use amarra_shop::contract::inventory::{CommitReservation, CompensateInventory, CompensationCause};
use amarra_shop::contract::orders::{
    CancelOrder, EndReason, OrderCancelled, OrderConfirmed, OrderCreated, OrderRefunded,
    OrderRejected, OrderStatus as S,
};
use amarra_shop::contract::payments::{
    AuthorizePayment, CapturePayment, RefundFailed, RefundPayment, VoidPayment,
};
use amarra_shop::contract::topics;
use amarra_shop::orders::Config;
use amarra_store::HandlerError;

use super::bench::{Bench, caller, config, customer, foreign, incoming, kinds_of, request_of};
use super::play;

/// The request of the step `step` of the order's saga.
pub(crate) fn action(order: OrderId, step: &str) -> String {
    format!("{order}:{step}:action")
}

pub(crate) fn compensation(order: OrderId, step: &str) -> String {
    format!("{order}:{step}:compensation")
}

/// Brings a new order to `status` on the way forward.
pub(crate) fn brought_to(bench: &Bench, status: S) -> OrderId {
    let id = bench.place();
    bring(bench, id, status);
    id
}

pub(crate) fn bring(bench: &Bench, id: OrderId, status: S) {
    let steps: [(S, &dyn Fn()); 4] = [
        (S::Pending, &|| bench.say(id, &play::reserved(id, &action(id, "reserve"))).unwrap()),
        (S::Reserved, &|| bench.say(id, &play::authorized(id, &action(id, "authorize"))).unwrap()),
        (S::Committing, &|| bench.say(id, &play::committed(id, &action(id, "commit"))).unwrap()),
        (S::Capturing, &|| bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap()),
    ];
    for (from, step) in steps {
        if from == status {
            break;
        }
        assert_eq!(bench.status(id), from);
        step();
    }
    assert_eq!(bench.status(id), status);
    bench.fresh();
}

pub(crate) fn cancel(bench: &Bench, id: OrderId) {
    let reason = CancelOrder { reason: "changed my mind".to_owned() };
    bench.run(bench.orders.cancel(&customer(), id, reason)).unwrap();
}

fn give_back(bench: &Bench, id: OrderId, cause: CompensationCause) {
    let answer = play::returned(id, cause, &compensation(id, "reserve"));
    bench.say(id, &answer).unwrap();
}

fn void(bench: &Bench, id: OrderId) {
    bench.say(id, &play::voided(id, &compensation(id, "authorize"))).unwrap();
}

#[test]
fn a_healthy_order_is_reserved_authorized_committed_captured_and_confirmed() {
    let bench = Bench::new();
    let id = bench.place_with("key");
    let created: OrderCreated = bench.one();
    assert_eq!((created.order_id, created.total.minor), (id, 600));
    assert_eq!(created.request, action(id, "reserve"));
    assert_eq!(bench.status(id), S::Pending);

    bench.say(id, &play::reserved(id, &created.request)).unwrap();
    assert_eq!(bench.status(id), S::Reserved);
    let authorize: AuthorizePayment = bench.one();
    assert_eq!((authorize.amount.minor, authorize.payment_token.as_str()), (600, "tok_visa"));
    assert_eq!(authorize.request, action(id, "authorize"));

    bench.say(id, &play::authorized(id, &authorize.request)).unwrap();
    assert_eq!(bench.status(id), S::Committing);
    let commit: CommitReservation = bench.one();
    assert_eq!(commit.request, action(id, "commit"));

    bench.say(id, &play::committed(id, &commit.request)).unwrap();
    assert_eq!(bench.status(id), S::Capturing);
    let capture: CapturePayment = bench.one();
    assert_eq!((capture.amount.minor, capture.request.clone()), (600, action(id, "capture")));

    bench.say(id, &play::captured(id, &capture.request)).unwrap();
    assert_eq!(bench.status(id), S::Confirmed);
    let confirmed: OrderConfirmed = bench.one();
    assert_eq!(confirmed.total.minor, 600);
    assert_eq!(bench.saga(&id.to_string()), Status::Completed);
    assert!(!bench.has_timer(&id.to_string()));
}

#[test]
fn commands_go_to_their_receiver_keyed_and_correlated_by_the_order() {
    let bench = Bench::new();
    let id = bench.place_with("key");
    bring_loudly(&bench, id);
    for message in bench.fresh() {
        let envelope = &message.envelope;
        let topic = match envelope.kind.as_ref() {
            "AuthorizePayment" | "CapturePayment" => topics::PAYMENTS_COMMANDS,
            "CommitReservation" => topics::INVENTORY_COMMANDS,
            _ => topics::ORDERS,
        };
        assert_eq!(message.topic.as_str(), topic, "{}", envelope.kind);
        assert_eq!(envelope.partition_key.as_str(), id.to_string());
        assert_eq!(envelope.correlation.as_uuid(), id.as_uuid());
    }
}

fn bring_loudly(bench: &Bench, id: OrderId) {
    bench.say(id, &play::reserved(id, &action(id, "reserve"))).unwrap();
    bench.say(id, &play::authorized(id, &action(id, "authorize"))).unwrap();
    bench.say(id, &play::committed(id, &action(id, "commit"))).unwrap();
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
}

#[test]
fn a_shortage_rejects_and_undoes_nothing() {
    let bench = Bench::new();
    let id = bench.place();
    let short = play::returned(id, CompensationCause::Shortage, &action(id, "reserve"));
    bench.say(id, &short).unwrap();
    assert_eq!(bench.status(id), S::Rejected);
    let fresh = bench.fresh();
    assert_eq!(kinds_of(&fresh), ["OrderRejected"]);
    assert_eq!(bench.order(id).end_reason, Some(EndReason::Shortage));
    assert_eq!(bench.saga(&id.to_string()), Status::Compensated);
}

#[test]
fn a_declined_authorization_gives_the_stock_back_and_voids_nothing() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    bench.say(id, &play::declined(id, &action(id, "authorize"))).unwrap();
    assert_eq!(bench.status(id), S::Compensating);
    let fresh = bench.fresh();
    assert_eq!(kinds_of(&fresh), ["CompensateInventory"]);
    let command: CompensateInventory =
        amarra_core::Codec::new().decode(&fresh[0].envelope).unwrap();
    assert_eq!(command.cause, CompensationCause::PaymentFailed);
    assert_eq!(command.request, compensation(id, "reserve"));
    assert_eq!(fresh[0].topic.as_str(), topics::INVENTORY_COMMANDS);
    assert_eq!(fresh[0].envelope.partition_key.as_str(), id.to_string());

    give_back(&bench, id, CompensationCause::PaymentFailed);
    assert_eq!(bench.status(id), S::Rejected);
    let rejected: OrderRejected = bench.one();
    assert_eq!(rejected.reason, EndReason::PaymentFailed);
    assert!(!bench.has_timer(&id.to_string()));
}

#[test]
fn a_hold_that_ended_before_its_commit_voids_and_rejects() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Committing);
    let expired = play::returned(id, CompensationCause::Expired, &action(id, "commit"));
    bench.say(id, &expired).unwrap();
    assert_eq!(bench.status(id), S::Compensating);
    let command: VoidPayment = bench.one();
    assert_eq!(command.request, compensation(id, "authorize"));
    void(&bench, id);
    let command: CompensateInventory = bench.one();
    assert_eq!(command.cause, CompensationCause::Expired);
    give_back(&bench, id, CompensationCause::Expired);
    let rejected: OrderRejected = bench.one();
    assert_eq!(rejected.reason, EndReason::ReservationExpired);
}

#[test]
fn a_hold_that_ends_by_itself_undoes_what_is_under_way() {
    for (from, first) in [(S::Reserved, "VoidPayment"), (S::Committing, "VoidPayment")] {
        let bench = Bench::new();
        let id = brought_to(&bench, from);
        bench.say(id, &play::returned(id, CompensationCause::Expired, "")).unwrap();
        assert_eq!(bench.status(id), S::Compensating, "{from:?}");
        assert_eq!(bench.kinds(), [first], "{from:?}");
        void(&bench, id);
        give_back(&bench, id, CompensationCause::Expired);
        assert_eq!(bench.status(id), S::Rejected, "{from:?}");
    }
}

#[test]
fn a_declined_capture_voids_and_restocks() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    bench.say(id, &play::declined(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.status(id), S::Compensating);
    bench.one::<VoidPayment>();
    void(&bench, id);
    let command: CompensateInventory = bench.one();
    assert_eq!(command.cause, CompensationCause::Restock);
    assert_eq!(bench.status(id), S::Compensating, "ended before the stock is back");
    give_back(&bench, id, CompensationCause::Restock);
    assert_eq!(bench.status(id), S::Rejected);
}

#[test]
fn a_cancellation_before_the_pivot_undoes_known_and_unknown_steps() {
    for from in [S::Pending, S::Reserved, S::Committing] {
        let bench = Bench::new();
        let id = brought_to(&bench, from);
        cancel(&bench, id);
        assert_eq!(bench.status(id), S::Compensating);
        let mut kinds = bench.kinds();
        assert_eq!(kinds.remove(0), "OrderCancelRequested");
        if from == S::Pending {
            assert_eq!(kinds, ["CompensateInventory"]);
        } else {
            assert_eq!(kinds, ["VoidPayment"], "{from:?}");
            void(&bench, id);
            let command: CompensateInventory = bench.one();
            assert_eq!(command.cause, CompensationCause::OrderCancelled);
        }
        give_back(&bench, id, CompensationCause::OrderCancelled);
        assert_eq!(bench.status(id), S::Cancelled, "{from:?}");
        let cancelled: OrderCancelled = bench.one();
        assert_eq!(cancelled.reason, EndReason::Cancelled);
    }
}

#[test]
fn answers_that_a_cancellation_overtook_change_nothing() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    cancel(&bench, id);
    let before = bench.order(id);
    bench.fresh();
    bench.say(id, &play::authorized(id, &action(id, "authorize"))).unwrap();
    bench.say(id, &play::declined(id, &action(id, "authorize"))).unwrap();
    assert_eq!(bench.order(id), before);
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn a_cancellation_after_the_pivot_waits_for_the_capture_and_refunds() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    cancel(&bench, id);
    assert_eq!(bench.kinds(), ["OrderCancelRequested"]);
    assert_eq!((bench.status(id), bench.order(id).cancel_requested), (S::Capturing, true));
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    refund_to_the_end(&bench, id);
}

#[test]
fn a_confirmed_order_that_is_cancelled_is_refunded_and_restocked() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    cancel(&bench, id);
    assert_eq!(bench.status(id), S::Refunding);
    refund_to_the_end(&bench, id);
}

/// Answers both commands of a refund and expects the order to end only after both.
fn refund_to_the_end(bench: &Bench, id: OrderId) {
    let fresh = bench.fresh();
    let decode = |kind: &str| {
        let found = fresh.iter().find(|m| *m.envelope.kind == *kind);
        found.unwrap_or_else(|| panic!("no {kind} in {:?}", kinds_of(&fresh))).envelope.clone()
    };
    let codec = amarra_core::Codec::new();
    let money: RefundPayment = codec.decode(&decode("RefundPayment")).unwrap();
    let stock: CompensateInventory = codec.decode(&decode("CompensateInventory")).unwrap();
    assert_eq!((money.amount.minor, stock.cause), (600, CompensationCause::Restock));
    assert_ne!(request_of(&money.request), request_of(&stock.request));
    let refund = format!("{id}/refund");
    assert!(bench.has_timer(&refund));

    bench.say(id, &play::refunded(id, &money.request)).unwrap();
    assert_eq!(bench.status(id), S::Refunding, "ended before the stock is back");
    bench.say(id, &play::returned(id, CompensationCause::Restock, &stock.request)).unwrap();
    assert_eq!(bench.status(id), S::Refunded);
    let event: OrderRefunded = bench.one();
    assert_eq!(event.amount.minor, 600);
    assert_eq!(bench.saga(&refund), Status::Completed);
    assert!(!bench.has_timer(&refund));
}

#[test]
fn a_capture_that_succeeds_after_all_is_refunded_whatever_the_order_is() {
    // While it is being undone.
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    bench.say(id, &play::declined(id, &action(id, "capture"))).unwrap();
    bench.fresh();
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    refund_to_the_end(&bench, id);
    // The order saga still ends, and no longer moves the order.
    void(&bench, id);
    give_back(&bench, id, CompensationCause::Restock);
    assert_eq!(bench.saga(&id.to_string()), Status::Compensated);
    assert_eq!(bench.status(id), S::Refunded);

    // After it was rejected.
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    bench.say(id, &play::declined(id, &action(id, "capture"))).unwrap();
    void(&bench, id);
    give_back(&bench, id, CompensationCause::Restock);
    assert_eq!(bench.status(id), S::Rejected);
    bench.fresh();
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    refund_to_the_end(&bench, id);
}

#[test]
fn a_capture_nobody_asked_for_after_a_cancellation_is_refunded() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    cancel(&bench, id);
    void(&bench, id);
    give_back(&bench, id, CompensationCause::OrderCancelled);
    assert_eq!(bench.status(id), S::Cancelled);
    bench.fresh();
    bench.say(id, &play::captured(id, "")).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    refund_to_the_end(&bench, id);
}

#[test]
fn stock_that_is_held_after_all_is_given_back_again() {
    let bench = Bench::new();
    let id = bench.place();
    let short = play::returned(id, CompensationCause::Shortage, &action(id, "reserve"));
    bench.say(id, &short).unwrap();
    bench.fresh();
    bench.say(id, &play::reserved(id, &action(id, "reserve"))).unwrap();
    let command: CompensateInventory = bench.one();
    assert_eq!(command.request, compensation(id, "reserve"));
    assert_eq!(bench.status(id), S::Rejected);
}

#[test]
fn a_void_that_comes_too_late_ends_in_a_refund() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    bench.say(id, &play::declined(id, &action(id, "capture"))).unwrap();
    bench.one::<VoidPayment>();
    bench.say(id, &play::captured(id, &compensation(id, "authorize"))).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    let fresh = bench.fresh();
    let mut kinds = kinds_of(&fresh);
    kinds.sort();
    // The order saga gives the stock back, and the refund saga asks for it once more.
    assert_eq!(kinds, ["CompensateInventory", "CompensateInventory", "RefundPayment"]);
    give_back(&bench, id, CompensationCause::Restock);
    assert_eq!(bench.saga(&id.to_string()), Status::Compensated);
    assert_eq!(bench.status(id), S::Refunding, "the order saga ended the refund");
    bench.say(id, &play::refunded(id, &format!("{id}/refund:refund:action"))).unwrap();
    let stock = format!("{id}/refund:restock:action");
    bench.say(id, &play::returned(id, CompensationCause::Restock, &stock)).unwrap();
    assert_eq!(bench.status(id), S::Refunded);
}

#[test]
fn a_capture_reported_by_the_provider_alone_confirms() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    bench.say(id, &play::captured(id, "")).unwrap();
    assert_eq!(bench.status(id), S::Confirmed);
    assert_eq!(bench.saga(&id.to_string()), Status::Completed);
    bench.fresh();
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn stock_that_is_committed_after_all_is_given_back_again() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Committing);
    let expired = play::returned(id, CompensationCause::Expired, &action(id, "commit"));
    bench.say(id, &expired).unwrap();
    bench.one::<VoidPayment>();
    bench.say(id, &play::committed(id, &action(id, "commit"))).unwrap();
    let command: CompensateInventory = bench.one();
    assert_eq!(command.request, compensation(id, "reserve"));
}

#[test]
fn stock_that_the_staff_takes_back_undoes_the_order() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Committing);
    bench.say(id, &play::returned(id, CompensationCause::Manual, "")).unwrap();
    assert_eq!(bench.status(id), S::Compensating);
    // Other news that nobody asked for is nobody's business.
    bench.fresh();
    bench.say(id, &play::voided(id, "")).unwrap();
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn a_batch_locks_an_order_and_both_its_sagas_first() {
    let bench = Bench::new();
    let id = bench.place();
    let reply = foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve")));
    let touched = bench.replies().touches(&incoming(&reply));
    let names: Vec<_> = touched.iter().map(ToString::to_string).collect();
    assert_eq!(names, [format!("order/{id}"), format!("saga/{id}"), format!("saga/{id}/refund")]);
}

#[test]
fn duplicates_change_nothing_and_publish_nothing() {
    let bench = Bench::new();
    let id = bench.place();
    let again = |answer: &dyn Fn()| {
        answer();
        let before = (bench.order(id), bench.db.inspect(|db| db.audit().len()));
        bench.fresh();
        answer();
        assert_eq!((bench.order(id), bench.db.inspect(|db| db.audit().len())), before);
        assert_eq!(bench.kinds(), Vec::<String>::new());
    };
    again(&|| bench.say(id, &play::reserved(id, &action(id, "reserve"))).unwrap());
    again(&|| bench.say(id, &play::authorized(id, &action(id, "authorize"))).unwrap());
    again(&|| bench.say(id, &play::committed(id, &action(id, "commit"))).unwrap());
    again(&|| bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap());
    again(&|| cancel(&bench, id));
    let money = format!("{id}/refund:refund:action");
    again(&|| bench.say(id, &play::refunded(id, &money)).unwrap());
    let stock = format!("{id}/refund:restock:action");
    let restocked = play::returned(id, CompensationCause::Restock, &stock);
    again(&|| bench.say(id, &restocked).unwrap());
    assert_eq!(bench.status(id), S::Refunded);
}

#[test]
fn an_answer_counts_only_for_the_request_it_echoes() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    let other = OrderId::from(uuid::Uuid::from_u128(99));
    let refused = |result: Result<(), HandlerError>| {
        assert!(matches!(result, Err(HandlerError::Refused(_))), "{result:?}");
        assert_eq!(bench.status(id), S::Reserved);
    };
    refused(bench.say(id, &play::authorized(id, &action(other, "authorize"))));
    refused(bench.say(id, &play::authorized(id, &action(id, "capture"))));
    refused(bench.say(id, &play::captured(id, &action(id, "authorize"))));
    refused(bench.say(id, &play::voided(id, &action(id, "authorize"))));
    refused(bench.say(id, &play::authorized(id, "nonsense")));
    refused(bench.say(id, &play::authorized(id, "a:b:c")));
    refused(bench.say(other, &play::authorized(other, &action(other, "authorize"))));
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Pending);
    let expired = play::returned(id, CompensationCause::Expired, "");
    assert!(matches!(bench.say(id, &expired), Err(HandlerError::Refused(_))));
    assert_eq!(bench.status(id), S::Pending);
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn a_refund_the_provider_refuses_waits_for_the_staff() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    cancel(&bench, id);
    let command: RefundPayment = bench.one();
    let refused = RefundFailed {
        order_id: id,
        refund_id: amarra_shop::contract::ids::RefundId::from(uuid::Uuid::from_u128(5)),
        reason: "account closed".to_owned(),
        request: command.request.clone(),
    };
    bench.say(id, &refused).unwrap();
    let stock = format!("{id}/refund:restock:action");
    bench.say(id, &play::returned(id, CompensationCause::Restock, &stock)).unwrap();
    assert_eq!(bench.status(id), S::Refunding);
    assert_eq!(bench.saga(&format!("{id}/refund")), Status::NeedsOperator);
    bench.fresh();

    // An admin has it asked for again, and nobody else.
    for who in [customer(), caller(9, &[Role::Support, Role::PaymentsAdmin])] {
        let asked = bench.run(bench.orders.reconcile(&who, id, "account open again"));
        assert_eq!(asked, Err(ApiError::Forbidden));
    }
    let admin = caller(9, &[Role::Admin]);
    let again = || bench.run(bench.orders.reconcile(&admin, id, "account open again")).unwrap();
    assert_eq!(again(), 1);
    let command: RefundPayment = bench.one();
    assert_eq!(again(), 0, "asked for twice");
    bench.say(id, &play::refunded(id, &command.request)).unwrap();
    assert_eq!(bench.status(id), S::Refunded);
}

#[test]
fn a_compensation_that_was_given_up_is_taken_up_by_an_admin() {
    let bench = Bench::with(Config { undo_attempts_max: 1, ..config() });
    let id = brought_to(&bench, S::Pending);
    cancel(&bench, id);
    bench.fresh();
    bench.pass(std::time::Duration::from_secs(31));
    assert_eq!(bench.saga(&id.to_string()), Status::NeedsOperator);
    let admin = caller(9, &[Role::Admin]);
    assert_eq!(bench.run(bench.orders.reconcile(&admin, id, "stock is back")), Ok(1));
    let command: CompensateInventory = bench.one();
    assert_eq!(command.request, compensation(id, "reserve"));
    give_back(&bench, id, CompensationCause::OrderCancelled);
    assert_eq!(bench.status(id), S::Cancelled);
    let none = OrderId::from(uuid::Uuid::from_u128(404));
    assert_eq!(bench.run(bench.orders.reconcile(&admin, none, "")), Err(ApiError::NotFound));
}

#[test]
fn every_change_of_an_order_is_audited_with_its_actor() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    let version = bench.db.inspect(|db| {
        let name = amarra_core::AggregateId::new("order", id.to_string());
        db.aggregate(&name).unwrap().version.get()
    });
    let rows: Vec<_> = bench.db.inspect(|db| {
        db.audit().iter().filter(|r| *r.entry.aggregate.kind == *"order").cloned().collect()
    });
    let versions: Vec<_> = rows.iter().map(|r| r.entry.version.get()).collect();
    assert_eq!(versions, (1..=version).collect::<Vec<_>>());
    assert_eq!(rows[0].entry.actor.to_string(), format!("user:{}", customer().principal.user_id));
    assert_eq!(rows[0].entry.action.as_ref(), "place");
}
