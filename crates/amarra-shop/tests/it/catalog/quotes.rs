//! Quotes: server-side prices, promised for a time, to one user.

use std::time::Duration;

use amarra_shop::auth::{QuoteError, QuoteVerifier};
use amarra_shop::contract::catalog::{Quote, QuoteRequest, SignedQuote};
use amarra_shop::contract::inventory::StockLine;
use amarra_shop::contract::{ApiError, UserId};

use super::bench::{Bench, admin, caller, euro, sku};

fn quote(bench: &Bench, lines: &[(&str, u32)]) -> Result<SignedQuote, ApiError> {
    let line = |(id, qty): &(&str, u32)| StockLine { sku: sku(id), qty: *qty };
    let request = QuoteRequest { lines: lines.iter().map(line).collect() };
    bench.run(bench.catalog.quote(&caller(&[]), &request))
}

fn verify(bench: &Bench, signed: &SignedQuote, user: UserId) -> Result<Quote, QuoteError> {
    let verifier = QuoteVerifier::new(bench.catalog.quote_keys().clone());
    verifier.verify(signed, user, bench.harness.environment("orders-db").now())
}

#[test]
fn a_quote_sums_what_is_wanted_at_the_prices_of_now() {
    let bench = Bench::new();
    bench.product("A", 250);
    bench.product("B", 100);
    let signed = quote(&bench, &[("B", 1), ("A", 2), ("B", 2)]).unwrap();
    let quote = verify(&bench, &signed, caller(&[]).principal.user_id).unwrap();
    let lines: Vec<_> =
        quote.lines.iter().map(|l| (l.sku.as_str(), l.name.as_str(), l.qty)).collect();
    assert_eq!(lines, [("A", "thing A", 2), ("B", "thing B", 3)]);
    assert_eq!(quote.total, euro(800));
}

#[test]
fn a_quote_holds_through_a_price_change_until_it_expires() {
    let bench = Bench::new();
    bench.product("A", 250);
    let user = caller(&[]).principal.user_id;
    let before = quote(&bench, &[("A", 1)]).unwrap();
    bench.price("A", 900, 3).unwrap();
    let after = quote(&bench, &[("A", 1)]).unwrap();
    assert_eq!(verify(&bench, &before, user).map(|q| q.total), Ok(euro(250)));
    assert_eq!(verify(&bench, &after, user).map(|q| q.total), Ok(euro(900)));
    bench.wait(Duration::from_secs(899));
    assert!(verify(&bench, &after, user).is_ok());
    bench.wait(Duration::from_secs(1));
    assert_eq!(verify(&bench, &after, user), Err(QuoteError::Expired));
}

#[test]
fn a_quote_is_nobody_elses_and_cannot_be_edited() {
    let bench = Bench::new();
    bench.product("A", 250);
    let signed = quote(&bench, &[("A", 1)]).unwrap();
    let other = uuid::Uuid::from_u128(8).into();
    assert_eq!(verify(&bench, &signed, other), Err(QuoteError::OtherUser));
    let cheap = SignedQuote { quote: signed.quote.replace("250", "001"), ..signed };
    let user = caller(&[]).principal.user_id;
    assert_eq!(verify(&bench, &cheap, user), Err(QuoteError::Signature));
}

#[test]
fn drafts_and_discontinued_products_look_like_unknown_ones() {
    let bench = Bench::new();
    bench.create("D").unwrap();
    bench.price("D", 5, 1).unwrap();
    bench.product("X", 5);
    bench.run(bench.catalog.discontinue(&admin(), &sku("X"))).unwrap();
    for id in ["D", "X", "NONE"] {
        let refused = quote(&bench, &[(id, 1)]).unwrap_err();
        assert_eq!(refused, ApiError::Unprocessable(format!("{id} cannot be bought")));
    }
}

#[test]
fn impossible_requests_are_refused() {
    let bench = Bench::new();
    bench.product("A", 250);
    for lines in [&[][..], &[("A", 0)], &[("A", 11)], &[("A", 6), ("A", 5)], &[("A", u32::MAX)]] {
        assert_eq!(quote(&bench, lines).unwrap_err().status(), 422, "{lines:?}");
    }
    let many: Vec<_> = (0..21).map(|_| ("A", 1)).collect();
    assert_eq!(quote(&bench, &many).unwrap_err().status(), 422);
}
