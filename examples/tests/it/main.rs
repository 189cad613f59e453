//! Runs every example, twice, and looks for what it is there to show.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_docs_in_private_items,
    missing_docs,
    reason = "tests fail by panicking"
)]

use std::process::Command;

/// Runs a program and returns what it prints.
fn output(program: &str) -> String {
    let output = Command::new(program).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Each of `lines` is printed, in this order, and a second run prints the same.
fn check(program: &str, lines: &[&str]) {
    let printed = output(program);
    let mut rest = printed.lines();
    for line in lines {
        let found = rest.any(|printed| printed.trim() == *line);
        assert!(found, "{line:?} is missing, or not in its place, in:\n{printed}");
    }
    assert_eq!(output(program), printed, "two runs differ");
}

macro_rules! examples {
    ($($name:ident $program:literal [$($line:literal),+ $(,)?];)+) => {$(
        #[test]
        fn $name() {
            check(env!(concat!("CARGO_BIN_EXE_", $program)), &[$($line),+]);
        }
    )+};
}

examples! {
    envelope_lifts_old_versions_and_refuses_new_ones "envelope" [
        "a second run of the seed gives the same envelope: true",
        r#"version 1 reads as PriceChanged { sku: "tea", cents: 400 }"#,
    ];
    one_breaker_guards_a_closure_and_a_service "guarded" [
        "0s  closure: down, service: down",
        "1s  closure: down, service: refused",
        "the breaker is Closed at the end",
    ];
    one_pipeline_guards_a_closure_and_a_service "outgoing" [
        "closure: try 2, amarra-deadline: 293;hops=3",
        "service: try 2, amarra-deadline: 500;hops=15",
        "not idempotent: Unknown after 1 try",
        "forced open: Deadline, 0 tries sent",
    ];
    resilience_spares_the_callee_and_recovers "resilience" [
        "1.1s  provider: Closed -> Open",
        "19.2s  provider: HalfOpen -> Closed",
        "30 calls: 17 answered, 27 tries sent to the callee",
        "the breaker is Closed at the end",
    ];
    messaging_applies_once_what_is_stored_twice "messaging" [
        "orders:     o-3 is saved, its event is in the outbox",
        "broker:     stored at orders/0 offset 0",
        "broker:     stored at orders/0 offset 3",
        "statistics: 2 of tea sold",
        "in the end: tea 2 times, cup 1 times",
    ];
    store_answers_a_repeated_command_as_before "store" [
        "network: the answer to a commit is lost",
        "k-1: deposit 1000: balance 1000 at version 1 (as answered before)",
        "k-2: deposit 500: balance 1500 at version 2",
        "2 events in the outbox",
        "2 audit rows, each chained to the one before",
    ];
    saga_undoes_in_reverse "saga" [
        "book   hotel: done",
        "book   car: done",
        "book   flight: refused",
        r#"cancel car: "car-77" is given back"#,
        r#"cancel hotel: "hotel-77" is given back"#,
        "the trip is Compensated",
    ];
    conformance_catches_a_hasty_timer "conformance" [
        "ok     INB-1 Inbox inb_1_of_many_at_once_exactly_one_is_fresh_and_commits",
        "BROKEN TMR-1 Timer tmr_1_a_wait_never_ends_early",
        "ok     TMR-2 Timer tmr_2_a_point_in_the_past_returns",
    ];
    shop_confirms_one_order_and_rejects_the_next "shop" [
        "1 of TEA-1 on the shelf, at 450 EUR",
        "ada: Confirmed, None",
        "PaymentSucceeded",
        "bob: Rejected, Some(Shortage)",
        "StockCompensated",
    ];
}
