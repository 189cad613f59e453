//! The view: availability and prices never go back, pages miss nothing, writes are read back.

use std::time::Duration;

use amarra_shop::contract::ApiError;

use super::bench::{Bench, admin, euro, sku};

#[test]
fn the_view_follows_the_events_of_products_and_stock() {
    let bench = Bench::new();
    bench.product("A", 250);
    assert_eq!(bench.get("A"), Err(ApiError::NotFound), "not before they arrive");
    bench.deliver(&[bench.stock("A", 9, 1)]);
    assert_eq!(bench.get("A"), Err(ApiError::NotFound), "stock alone is no product");
    bench.project();
    let view = bench.get("A").unwrap();
    assert_eq!((view.price, view.available, view.version), (Some(euro(250)), Some(9), 3));
    assert!(view.published);
}

#[test]
fn late_and_repeated_events_change_nothing() {
    let bench = Bench::new();
    bench.product("A", 250);
    bench.price("A", 300, 3).unwrap();
    let mut events = bench.events();
    events.reverse();
    bench.deliver(&events);
    bench.deliver(&[bench.stock("A", 4, 8)]);
    bench.deliver(&[bench.stock("A", 9, 7)]);
    let view = bench.get("A").unwrap();
    assert_eq!((view.price, view.available, view.version), (Some(euro(300)), Some(4), 4));
    // A second copy under a new id, as a foreign producer may send it.
    let mut copy = bench.events();
    for event in &mut copy {
        event.id = bench.ids.new_id();
    }
    bench.deliver(&copy);
    assert_eq!(bench.get("A").unwrap(), view);
}

#[test]
fn a_discontinued_product_is_shown_but_not_listed() {
    let bench = Bench::new();
    bench.product("A", 250);
    bench.product("B", 250);
    bench.run(bench.catalog.discontinue(&admin(), &sku("A"))).unwrap();
    bench.project();
    assert!(!bench.get("A").unwrap().published);
    let page = bench.run(bench.catalog.list(None, 3)).unwrap();
    let listed: Vec<_> = page.products.iter().map(|p| p.sku.as_str()).collect();
    assert_eq!((listed.as_slice(), page.next), (&["B"][..], None));
}

#[test]
fn pages_give_every_product_once_with_drafts_and_unknown_stock_between() {
    let bench = Bench::new();
    for n in 0..20 {
        let id = format!("P-{n:02}");
        match n % 3 {
            0 => bench.product(&id, 100),
            1 => bench.deliver(&[bench.stock(&id, 1, 1)]),
            _ => {
                bench.create(&id).unwrap();
                bench.price(&id, 1, 1).unwrap();
            }
        }
    }
    bench.project();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = bench.run(bench.catalog.list(after.as_ref(), 2)).unwrap();
        assert!(page.products.len() <= 2);
        seen.extend(page.products.into_iter().map(|p| p.sku.as_str().to_owned()));
        match page.next {
            Some(next) => after = Some(sku(&next)),
            None => break,
        }
        // A product before the cursor that appears meanwhile is not given twice, nor skips one.
        bench.deliver(&[bench.stock("A-EARLY", 1, 1)]);
    }
    let expect: Vec<_> = (0..20).step_by(3).map(|n| format!("P-{n:02}")).collect();
    assert_eq!(seen, expect);
}

#[test]
fn pages_are_bounded() {
    let bench = Bench::new();
    for n in 0..5 {
        bench.product(&format!("P-{n}"), 100);
    }
    bench.project();
    assert_eq!(bench.run(bench.catalog.list(None, 1_000_000)).unwrap().products.len(), 3);
    assert_eq!(bench.run(bench.catalog.list(None, 0)).unwrap_err().status(), 400);
    let many = ["P-0", "P-1", "P-2", "P-3"].map(sku);
    assert_eq!(bench.run(bench.catalog.by_skus(&many)).unwrap_err().status(), 400);
    let some = ["P-3", "NONE", "P-1"].map(sku);
    let found = bench.run(bench.catalog.by_skus(&some)).unwrap();
    let found: Vec<_> = found.iter().map(|p| p.sku.as_str()).collect();
    assert_eq!(found, ["P-3", "P-1"]);
}

#[test]
fn a_writer_reads_her_own_write_or_is_told_to_wait() {
    let bench = Bench::new();
    bench.product("A", 250);
    bench.project();
    let version = bench.price("A", 300, 3).unwrap().version;
    let read = || bench.run(bench.catalog.get(&sku("A"), Some(version)));
    assert_eq!(read().unwrap_err().status(), 409, "never an old price for a new version");
    let (read, ()) =
        bench.run(futures_util::future::join(bench.catalog.get(&sku("A"), Some(version)), async {
            bench.harness.environment("relay").sleep(Duration::from_millis(300)).await;
            bench.deliver_within(&bench.events()).await;
        }));
    assert_eq!(read.unwrap().price, Some(euro(300)), "it waits a little for the event");
}

#[test]
fn an_event_that_does_not_decode_is_an_error_and_an_unknown_type_is_none() {
    let bench = Bench::new();
    bench.product("A", 250);
    let mut unknown = bench.events().remove(0);
    unknown.kind = "ProductPhotographed".into();
    bench.deliver(&[unknown]);
    let mut broken = bench.events().remove(1);
    broken.data = "{}".into();
    let error = bench.try_deliver(&[broken]).unwrap_err();
    assert_eq!(error.class, amarra_core::Class::Fatal);
}
