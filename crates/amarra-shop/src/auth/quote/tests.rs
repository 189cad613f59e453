//! Quotes: who may order from which, until when, and what no signature makes right.

use super::*;
use crate::auth::encode;
use crate::contract::Currency;
use crate::contract::orders::Line;
use crate::contract::users::Secret;

fn quote() -> Quote {
    let line = |sku: &str, minor, qty| Line {
        sku: sku.parse().unwrap(),
        name: "a \"name\"".into(),
        unit_price: Money::new(minor, Currency::EUR),
        qty,
    };
    Quote {
        quote_id: uuid::Uuid::from_u128(1).into(),
        user_id: uuid::Uuid::from_u128(2).into(),
        lines: vec![line("A", 250, 2), line("B", 1, 3)],
        total: Money::new(503, Currency::EUR),
        expires_at: Timestamp::from_micros(1_000),
    }
}

fn check(change: impl FnOnce(&mut Quote), at: i64, expect: Result<(), QuoteError>) {
    let keys = KeyConfig { active: Secret::new(encode(&[3; 32])), standby: None };
    let signer = QuoteSigner::new(&keys).unwrap();
    let mut quote = quote();
    change(&mut quote);
    let verifier = QuoteVerifier::new(signer.key_set().clone());
    let user = uuid::Uuid::from_u128(2).into();
    let signed = signer.sign(&quote).unwrap();
    let got = verifier.verify(&signed, user, Timestamp::from_micros(at));
    assert_eq!(got, expect.map(|()| quote));
}

#[test]
fn quo_1_a_quote_holds_for_its_user_until_it_expires() {
    check(|_| (), 999, Ok(()));
    check(|_| (), 1_000, Err(QuoteError::Expired));
    check(|q| q.user_id = uuid::Uuid::from_u128(3).into(), 0, Err(QuoteError::OtherUser));
}

#[test]
fn quo_2_even_a_signed_quote_has_to_add_up() {
    check(|q| q.total.minor -= 1, 0, Err(QuoteError::Sum));
    check(|q| q.lines.clear(), 0, Err(QuoteError::Sum));
    check(|q| q.lines[1].qty = 0, 0, Err(QuoteError::Sum));
    check(|q| q.lines[0].unit_price.minor = -1, 0, Err(QuoteError::Sum));
    check(|q| q.lines[0].unit_price.minor = i64::MAX, 0, Err(QuoteError::Sum));
    check(|q| q.lines[1].sku = q.lines[0].sku.clone(), 0, Err(QuoteError::Sum));
    let usd = "USD".parse().unwrap();
    check(move |q| q.lines[1].unit_price.currency = usd, 0, Err(QuoteError::Sum));
}

#[test]
fn quo_1_one_changed_byte_is_found() {
    let keys = KeyConfig { active: Secret::new(encode(&[3; 32])), standby: None };
    let signer = QuoteSigner::new(&keys).unwrap();
    let verifier = QuoteVerifier::new(signer.key_set().clone());
    let user = uuid::Uuid::from_u128(2).into();
    let refused = |signed: &SignedQuote| {
        assert_eq!(verifier.verify(signed, user, Timestamp::EPOCH), Err(QuoteError::Signature));
    };
    let signed = signer.sign(&quote()).unwrap();
    refused(&SignedQuote { quote: signed.quote.replace("503", "403"), ..signed.clone() });
    refused(&SignedQuote { quote: signed.quote.replace(',', ", "), ..signed.clone() });
    refused(&SignedQuote { kid: "other".into(), ..signed.clone() });
    refused(&SignedQuote { signature: String::new(), ..signed });
}
