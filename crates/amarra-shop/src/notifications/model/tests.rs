//! Tests of the notification's machine and of the queue per order.

#![allow(clippy::arithmetic_side_effects, reason = "tests")]

use amarra_core::{Actor, CorrelationId, SeededEntropy, TraceParent};
use proptest::prelude::*;

use super::*;

fn notification(state: &str, status: Status) -> Notification {
    let id = uuid::Uuid::from_u128(1);
    Notification {
        order_id: OrderId::from(id),
        user_id: UserId::from(uuid::Uuid::from_u128(2)),
        state: state.to_owned(),
        channel: Channel::Email,
        text: "text".to_owned(),
        status,
        attempts: 0,
        in_doubt: false,
        round: 0,
        cause: Cause {
            correlation: CorrelationId::from(id),
            causation: None,
            actor: Actor::Service("notifications".into()),
            traceparent: TraceParent::root(&SeededEntropy::new(1, "test")),
        },
    }
}

fn sending(n: &Notification, newest: u8) -> Notification {
    match n.begin(newest, 3) {
        Begin::Send(next) => *next,
        other => panic!("{:?} gives {other:?}", n.status),
    }
}

fn settled(n: &Notification, newest: u8) -> Status {
    match n.begin(newest, 3) {
        Begin::Settle(next) => next.status,
        other => panic!("{:?} gives {other:?}", n.status),
    }
}

#[test]
fn ranks_follow_the_life_of_an_order() {
    let rising = ["OrderCreated", "OrderConfirmed", "OrderFulfilled", "OrderCompleted"];
    let ranks: Vec<_> = rising.iter().map(|kind| rank(kind).unwrap()).collect();
    assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]) && ranks[3] < UNDONE);
    assert_eq!(rank("OrderCancelled"), Some(UNDONE));
    assert_eq!(rank("OrderRejected"), Some(UNDONE));
    assert!(rank("OrderRefunded") > Some(UNDONE));
    assert_eq!(rank("OrderCancelRequested"), None);
    assert_eq!(rank("SomethingNew"), None);
}

#[test]
fn a_try_counts_only_when_it_was_sent() {
    let queued = notification("OrderConfirmed", Status::Queued);
    let first = sending(&queued, 2);
    assert_eq!((first.status, first.attempts), (Status::Sending, 1));
    let not_sent = first.finish(Finish::NotSent, 3).unwrap();
    assert_eq!((not_sent.status, not_sent.attempts), (Status::Failed, 0));
    let failed = first.finish(Finish::Failed(Class::Transient), 3).unwrap();
    assert_eq!((failed.status, failed.attempts, failed.in_doubt), (Status::Failed, 1, false));
    let unknown = first.finish(Finish::Failed(Class::Unknown), 3).unwrap();
    assert!(unknown.in_doubt);
    let refused = first.finish(Finish::Failed(Class::Rejected), 3).unwrap();
    assert_eq!(refused.status, Status::DeadLettered);
    let sent = first.finish(Finish::Taken, 3).unwrap();
    assert_eq!(sent.status, Status::Sent);
}

#[test]
fn the_last_try_dead_letters() {
    let mut n = notification("OrderConfirmed", Status::Queued);
    for attempt in 1..=3 {
        n = sending(&n, 2).finish(Finish::Failed(Class::Transient), 3).unwrap();
        assert_eq!(n.status == Status::DeadLettered, attempt == 3, "attempt {attempt}");
    }
    // A process that dies in every try does not try for ever either.
    let mut n = notification("OrderConfirmed", Status::Queued);
    for _ in 0..3 {
        n = sending(&n, 2);
    }
    assert_eq!(settled(&n, 2), Status::DeadLettered);
}

#[test]
fn nothing_ends_a_try_that_is_not_under_way() {
    for status in [Status::Queued, Status::Sent, Status::Failed, Status::DeadLettered] {
        assert_eq!(notification("OrderCreated", status).finish(Finish::Taken, 3), None);
    }
}

#[test]
fn what_the_order_has_overtaken_is_not_told() {
    let stale = Status::Suppressed(Reason::Stale);
    for status in [Status::Queued, Status::Failed] {
        assert_eq!(settled(&notification("OrderConfirmed", status), UNDONE), stale);
    }
    assert_eq!(settled(&notification("OrderCancelled", Status::Queued), 6), stale);
    // Progress does not make earlier progress stale, and no state makes itself stale.
    sending(&notification("OrderCreated", Status::Queued), 2);
    sending(&notification("OrderCancelled", Status::Queued), UNDONE);
}

#[test]
fn what_may_have_been_told_is_told_to_the_end() {
    let crashed = notification("OrderConfirmed", Status::Sending);
    assert!(sending(&crashed, UNDONE).in_doubt);
    let doubtful =
        Notification { in_doubt: true, ..notification("OrderConfirmed", Status::Failed) };
    assert_eq!(sending(&doubtful, UNDONE).key(), crashed.key(), "another key is another message");
}

#[test]
fn only_what_was_set_aside_is_sent_again_under_a_new_key() {
    for status in [Status::Queued, Status::Sending, Status::Sent, Status::Failed] {
        assert_eq!(notification("OrderCreated", status).resend(), None);
    }
    let dead = Notification { attempts: 3, ..notification("OrderCreated", Status::DeadLettered) };
    let again = dead.resend().unwrap();
    assert_eq!((again.status, again.attempts, again.round), (Status::Queued, 0, 1));
    assert_ne!(again.key(), dead.key());
    assert_eq!(dead.key(), dedupe_key(dead.order_id, "OrderCreated", Channel::Email));
}

#[test]
fn each_channel_follows_its_preference() {
    let wants = |preference: &Preference| {
        [Channel::Email, Channel::Sms, Channel::Push].map(|channel| preference.wants(channel))
    };
    assert_eq!(wants(&Preference::default()), [true, false, false]);
    let sms = Preference(Preferences { email: false, sms: true, push: false });
    assert_eq!(wants(&sms), [false, true, false]);
    let push = Preference(Preferences { email: false, sms: false, push: true });
    assert_eq!(wants(&push), [false, false, true]);
}

#[test]
fn a_line_moves_when_its_first_is_settled() {
    let mut notified = Notified::default();
    assert!(notified.enqueue(Channel::Email, "a"));
    assert!(!notified.enqueue(Channel::Email, "b"), "two at once");
    assert!(!notified.enqueue(Channel::Email, "c"), "two at once");
    assert!(notified.enqueue(Channel::Sms, "a"), "channels do not wait for each other");
    assert_eq!(notified.settle(Channel::Email, "b"), None, "the first still waits");
    assert_eq!(notified.settle(Channel::Email, "a").as_deref(), Some("c"));
    assert_eq!(notified.settle(Channel::Email, "c"), None);
    assert_eq!(notified.queues.len(), 1);
}

proptest! {
    /// A notification ends exactly once, after at most `attempts_max` tries that were sent.
    #[test]
    fn every_notification_settles(outcomes in proptest::collection::vec(0u8..5, 0..30)) {
        let mut n = notification("OrderConfirmed", Status::Queued);
        let mut sent = 0u32;
        for outcome in outcomes {
            match n.begin(2, 3) {
                Begin::Nothing => {
                    prop_assert!(n.status.is_settled());
                    break;
                }
                Begin::Settle(next) => {
                    prop_assert!(next.status.is_settled());
                    n = *next;
                    continue;
                }
                Begin::Send(next) => n = *next,
            }
            let how = match outcome {
                0 => Finish::Taken,
                1 => Finish::NotSent,
                2 => Finish::Failed(Class::Transient),
                3 => Finish::Failed(Class::Unknown),
                _ => Finish::Failed(Class::Rejected),
            };
            sent += u32::from(how != Finish::NotSent);
            n = n.finish(how, 3).unwrap();
            prop_assert!(sent <= 3, "tried {} times", sent);
            prop_assert_eq!(n.attempts, sent);
            let ends = matches!(outcome, 0 | 4) || sent == 3;
            prop_assert_eq!(n.status.is_settled(), ends);
        }
    }
}
