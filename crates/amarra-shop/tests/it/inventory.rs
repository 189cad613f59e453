//! Inventory on its database: the edge cases of reservations and of stock.

mod random;

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Classify;
use amarra_memory::Effect;
use amarra_messaging::{Admit, Incoming};
use amarra_shop::contract::inventory::{
    AdjustStock, CommitReservation, CompensateInventory, CompensationCause, ReservationCommitted,
    StockAdjusted, StockCompensated, StockLine, StockReserved,
};
use amarra_shop::contract::orders::{Line, OrderCreated, Policy};
use amarra_shop::contract::{ApiError, Caller, Currency, Money, OrderId, Role, Sku, topics};
use amarra_shop::inventory::{
    Config, Inventory, LedgerEntry, Reservation, ReservationStatus, StockItem,
};
use amarra_store::{Aggregate, DueHandler, Handler, HandlerError, Store};
use futures_util::future::{join, join_all};

use crate::single::{Single, block_on};

const TTL: Duration = Duration::from_secs(60);

struct Shelf {
    single: Single,
    inventory: Arc<Inventory>,
    handler: Arc<dyn Handler>,
    due: Arc<dyn DueHandler>,
}

impl Shelf {
    fn new(stock: &[(&str, i64)]) -> Self {
        let single = Single::new(Inventory::SOURCE);
        let inventory = Inventory::new(single.ports(), Config::default()).unwrap();
        let (handler, due) = (inventory.handlers().remove(0), inventory.due_handlers().remove(0));
        let shelf = Self { single, inventory, handler, due };
        for (sku, count) in stock {
            shelf.receive(sku, *count).unwrap();
        }
        shelf
    }

    fn receive(&self, sku: &str, delta: i64) -> Result<u32, ApiError> {
        let request = AdjustStock { delta, reason: "delivery".into() };
        let caller = self.single.caller(Role::InventoryAdmin);
        let left = block_on(self.inventory.receive(&caller, &sku.parse().unwrap(), request));
        left.map(|left| left.available)
    }

    fn adjust(&self, sku: &str, delta: i64) -> Result<u32, ApiError> {
        let request = AdjustStock { delta, reason: "count".into() };
        let caller = self.single.caller(Role::InventoryAdmin);
        let left = block_on(self.inventory.adjust(&caller, &sku.parse().unwrap(), request));
        left.map(|left| left.available)
    }

    fn order(&self, order_id: OrderId, lines: &[(&str, u32)]) -> Incoming {
        let price = Money::new(100, Currency::EUR);
        let line = |&(sku, qty): &(&str, u32)| Line {
            sku: sku.parse().unwrap(),
            name: "thing".into(),
            unit_price: price,
            qty,
        };
        let message = OrderCreated {
            order_id,
            user_id: self.single.env.new_id(),
            lines: lines.iter().map(line).collect(),
            total: price,
            quote_id: self.single.env.new_id(),
            payment_token: "tok_ok".into(),
            policy: Policy { reserve_ttl: TTL, deadline: TTL },
            placed_at: self.single.env.now(),
            request: "reserve".into(),
        };
        self.single.message(topics::ORDERS, order_id, &message)
    }

    fn hear(&self, message: &Incoming) -> Result<Admit, HandlerError> {
        block_on(self.single.deliver(self.handler.as_ref(), message))
    }

    fn reserve(&self, lines: &[(&str, u32)]) -> OrderId {
        let order_id = self.single.new_order();
        self.hear(&self.order(order_id, lines)).unwrap();
        order_id
    }

    fn commit_message(&self, order_id: OrderId, request: &str) -> Incoming {
        let command = CommitReservation { order_id, request: request.into() };
        self.single.message(topics::INVENTORY_COMMANDS, order_id, &command)
    }

    fn commit(&self, order_id: OrderId, request: &str) {
        self.hear(&self.commit_message(order_id, request)).unwrap();
    }

    fn compensate(&self, order_id: OrderId, cause: CompensationCause, request: &str) {
        let command = CompensateInventory { order_id, cause, request: request.into() };
        let topic = topics::INVENTORY_COMMANDS;
        self.hear(&self.single.message(topic, order_id, &command)).unwrap();
    }

    fn expire(&self) {
        block_on(self.single.run_due(self.due.as_ref(), 3));
    }

    fn levels(&self, sku: &str) -> (u32, u32) {
        let item = self.single.state::<StockItem>(sku).unwrap();
        (item.on_hand, item.reserved)
    }

    fn status(&self, order_id: OrderId) -> Option<ReservationStatus> {
        self.single.state::<Reservation>(&order_id.to_string()).map(|r| r.status)
    }

    fn compensated(&self) -> Vec<(CompensationCause, usize, String)> {
        let told = self.single.told::<StockCompensated>().into_iter();
        told.map(|event| (event.cause, event.lines.len(), event.request)).collect()
    }

    /// Checks I1 and I2 for every product, and that views and events agree with the rows.
    fn check(&self) {
        for item in self.single.states::<StockItem>() {
            let entries = self.single.states::<LedgerEntry>().into_iter();
            let mut mine: Vec<_> = entries.filter(|entry| entry.sku == item.sku).collect();
            mine.sort_by_key(|entry| entry.version);
            assert_eq!(StockItem::fold(&item.sku, &mine), Ok(item.clone()), "ledger");
            let told = self.single.told::<StockAdjusted>().into_iter();
            let mine: Vec<_> = told.filter(|event| event.sku == item.sku).collect();
            let last = mine.last().unwrap();
            assert_eq!((last.on_hand, last.reserved), (item.on_hand, item.reserved), "events");
            let view = block_on(self.inventory.availability(std::slice::from_ref(&item.sku)));
            assert_eq!(view.unwrap()[0].available, item.available(), "view");
        }
    }
}

fn line(sku: &str, qty: u32) -> StockLine {
    StockLine { sku: sku.parse().unwrap(), qty }
}

#[test]
fn reserve_commit_and_restock_move_the_numbers() {
    let shelf = Shelf::new(&[("A", 5), ("B", 5)]);
    let order = shelf.reserve(&[("B", 1), ("A", 2)]);
    assert_eq!((shelf.levels("A"), shelf.levels("B")), ((5, 2), (5, 1)));
    let reserved = shelf.single.told::<StockReserved>().remove(0);
    assert_eq!((reserved.order_id, reserved.request.as_str()), (order, "reserve"));
    assert_eq!(reserved.lines, [line("A", 2), line("B", 1)]);
    assert_eq!(reserved.expires_at.since(shelf.single.env.now()), TTL);
    shelf.commit(order, "commit");
    assert_eq!((shelf.levels("A"), shelf.levels("B")), ((3, 0), (4, 0)));
    assert_eq!(shelf.single.told::<ReservationCommitted>()[0].request, "commit");
    assert_eq!(shelf.single.timers(), 0, "a committed reservation has no timer");
    shelf.compensate(order, CompensationCause::OrderCancelled, "undo");
    assert_eq!((shelf.levels("A"), shelf.levels("B")), ((5, 0), (5, 0)));
    assert_eq!(shelf.compensated(), [(CompensationCause::Restock, 2, "undo".to_owned())]);
    assert_eq!(shelf.status(order), Some(ReservationStatus::Returned));
    shelf.check();
}

#[test]
fn reserving_is_all_or_nothing_with_lines_of_one_product_summed() {
    let shelf = Shelf::new(&[("A", 5), ("B", 1)]);
    let order = shelf.reserve(&[("A", 3), ("B", 1), ("A", 3), ("C", 1)]);
    assert_eq!((shelf.levels("A"), shelf.levels("B")), ((5, 0), (1, 0)));
    let told = shelf.single.told::<StockCompensated>().remove(0);
    assert_eq!((told.cause, told.reservation_id), (CompensationCause::Shortage, None));
    assert_eq!((told.lines, told.request.as_str()), (Vec::new(), "reserve"));
    assert_eq!(told.shortages, [line("A", 1), line("C", 1)]);
    assert_eq!(shelf.status(order), Some(ReservationStatus::Tombstoned));
    shelf.receive("C", 9).unwrap();
    shelf.receive("A", 9).unwrap();
    shelf.hear(&shelf.order(order, &[("A", 1)])).unwrap();
    assert_eq!(shelf.levels("A"), (14, 0), "a refused order stays refused");
    assert!(shelf.single.told::<StockReserved>().is_empty());
    shelf.check();
}

#[test]
fn an_order_for_nothing_is_refused_and_changes_nothing() {
    let shelf = Shelf::new(&[("A", 5)]);
    for lines in [&[][..], &[("A", 0)], &[("A", 1), ("A", 0)]] {
        let order = shelf.single.new_order();
        let error = shelf.hear(&shelf.order(order, lines)).unwrap_err();
        assert!(matches!(error, HandlerError::Refused(_)), "{error}");
        assert_eq!(shelf.status(order), None);
    }
    shelf.check();
}

#[test]
fn a_compensation_before_its_order_leaves_a_tombstone() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.single.new_order();
    shelf.compensate(order, CompensationCause::OrderCancelled, "undo");
    assert_eq!(shelf.status(order), Some(ReservationStatus::Tombstoned));
    shelf.hear(&shelf.order(order, &[("A", 1)])).unwrap();
    let cause = CompensationCause::OrderCancelled;
    let expect = [(cause, 0, "undo".to_owned()), (cause, 0, "reserve".to_owned())];
    assert_eq!(shelf.compensated(), expect);
    assert_eq!(shelf.levels("A"), (5, 0));
    assert!(shelf.single.told::<StockReserved>().is_empty());
}

#[test]
fn a_duplicate_changes_nothing_and_a_retry_is_answered_again() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.single.new_order();
    let message = shelf.order(order, &[("A", 2)]);
    assert_eq!(shelf.hear(&message).unwrap(), Admit::Fresh);
    assert_eq!(shelf.hear(&message).unwrap(), Admit::Duplicate);
    assert_eq!(shelf.single.told::<StockReserved>().len(), 1);
    shelf.hear(&shelf.order(order, &[("A", 2)])).unwrap();
    let told = shelf.single.told::<StockReserved>();
    assert_eq!((told.len(), &told[0]), (2, &told[1]), "the same answer");
    assert_eq!(shelf.levels("A"), (5, 2));
    for _ in 0..2 {
        shelf.commit(order, "commit");
        assert_eq!(shelf.levels("A"), (3, 0));
    }
    assert_eq!(shelf.single.told::<ReservationCommitted>().len(), 2);
    for _ in 0..3 {
        shelf.compensate(order, CompensationCause::Restock, "undo");
        assert_eq!(shelf.levels("A"), (5, 0), "stock comes back once");
    }
    assert_eq!(shelf.compensated(), vec![(CompensationCause::Restock, 1, "undo".to_owned()); 3]);
    shelf.check();
}

#[test]
fn a_hold_expires_by_the_clock_of_the_database() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 2)]);
    shelf.single.clock.advance(TTL - Duration::from_micros(1));
    shelf.expire();
    assert_eq!(shelf.status(order), Some(ReservationStatus::Held), "not yet due");
    shelf.single.clock.advance(Duration::from_micros(1));
    shelf.expire();
    assert_eq!(shelf.status(order), Some(ReservationStatus::Expired));
    assert_eq!((shelf.levels("A"), shelf.single.timers()), ((5, 0), 0));
    assert_eq!(shelf.compensated(), [(CompensationCause::Expired, 1, String::new())]);
    shelf.commit(order, "commit");
    assert_eq!(shelf.compensated()[1], (CompensationCause::Expired, 1, "commit".to_owned()));
    shelf.compensate(order, CompensationCause::OrderCancelled, "undo");
    assert_eq!(shelf.levels("A"), (5, 0), "nothing comes back twice");
    assert!(shelf.single.told::<ReservationCommitted>().is_empty());
    let told = shelf.single.emitted();
    let expiry = told.iter().find(|e| e.kind.as_ref() == "StockCompensated").unwrap();
    assert_eq!(expiry.correlation, order.as_uuid().into());
    assert_eq!(expiry.actor.to_string(), "timer:inventory");
    shelf.check();
}

#[test]
fn a_commit_that_finds_the_hold_overdue_expires_it() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 2)]);
    shelf.single.clock.advance(TTL);
    shelf.commit(order, "commit");
    assert_eq!(shelf.status(order), Some(ReservationStatus::Expired));
    assert_eq!(shelf.compensated(), [(CompensationCause::Expired, 1, "commit".to_owned())]);
    assert_eq!((shelf.levels("A"), shelf.single.timers()), ((5, 0), 0));
    shelf.expire();
    assert_eq!(shelf.compensated().len(), 1);
    shelf.check();
}

#[test]
fn the_time_of_a_hold_is_bounded_by_the_service() {
    let single = Single::new(Inventory::SOURCE);
    let config = Config { reserve_ttl_max: TTL / 2, ledger_page_max: 1, ..Config::default() };
    let inventory = Inventory::new(single.ports(), config).unwrap();
    let (handler, due) = (inventory.handlers().remove(0), inventory.due_handlers().remove(0));
    let shelf = Shelf { single, inventory, handler, due };
    shelf.receive("A", 5).unwrap();
    let order = shelf.reserve(&[("A", 1)]);
    shelf.single.clock.advance(TTL / 2);
    shelf.expire();
    assert_eq!(shelf.status(order), Some(ReservationStatus::Expired));
    let auditor = shelf.single.caller(Role::Auditor);
    let page = block_on(shelf.inventory.ledger(&auditor, &"A".parse().unwrap(), (0, 99)));
    assert_eq!(page.unwrap().len(), 1, "and so is a page of the ledger");
}

#[test]
fn expiry_and_commit_at_once_have_one_winner() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 2)]);
    shelf.single.clock.advance(TTL - Duration::from_micros(1));
    let commit = shelf.commit_message(order, "commit");
    shelf.single.clock.advance(Duration::from_micros(1));
    block_on(async {
        let claims = shelf.single.claim(shelf.due.as_ref(), "worker").await;
        let time = async { drop(shelf.due.on_due(&claims[0]).await) };
        let committed = shelf.single.deliver(shelf.handler.as_ref(), &commit);
        let (admit, ()) = join(committed, time).await;
        admit.unwrap();
    });
    assert_eq!(shelf.status(order), Some(ReservationStatus::Expired));
    assert_eq!(shelf.levels("A"), (5, 0));
    shelf.check();
}

#[test]
fn a_superseded_claim_changes_nothing() {
    let shelf = Shelf::new(&[("A", 5)]);
    shelf.reserve(&[("A", 2)]);
    shelf.single.clock.advance(TTL);
    block_on(async {
        let old = shelf.single.claim(shelf.due.as_ref(), "slow").await.remove(0);
        shelf.single.clock.advance(Duration::from_secs(31));
        let new = shelf.single.claim(shelf.due.as_ref(), "quick").await.remove(0);
        let error = shelf.due.on_due(&old).await.unwrap_err();
        assert_eq!(error.class(), amarra_core::Class::Conflict, "{error}");
        assert_eq!(shelf.levels("A"), (5, 2));
        shelf.due.on_due(&new).await.unwrap();
    });
    assert_eq!(shelf.levels("A"), (5, 0));
}

#[test]
fn the_last_piece_is_sold_once_whoever_asks_at_the_same_time() {
    let shelf = Shelf::new(&[("A", 3), ("B", 3)]);
    let orders: Vec<_> = (0..8).map(|_| shelf.single.new_order()).collect();
    let messages: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(n, &order)| {
            let lines = if n % 2 == 0 { [("A", 1), ("B", 1)] } else { [("B", 1), ("A", 1)] };
            shelf.order(order, &lines)
        })
        .collect();
    let at_once = messages.iter().map(|m| shelf.single.deliver(shelf.handler.as_ref(), m));
    let results = block_on(join_all(at_once));
    assert!(results.iter().all(|r| matches!(r, Ok(Admit::Fresh))), "{results:?}");
    assert_eq!((shelf.levels("A"), shelf.levels("B")), ((3, 3), (3, 3)));
    assert_eq!(shelf.single.told::<StockReserved>().len(), 3);
    assert_eq!(shelf.compensated().len(), 5);
    shelf.check();
}

#[test]
fn a_correction_cannot_take_what_is_held() {
    let shelf = Shelf::new(&[("A", 5)]);
    shelf.reserve(&[("A", 3)]);
    assert_eq!(shelf.adjust("A", -2), Ok(0));
    assert!(matches!(shelf.adjust("A", -1), Err(ApiError::Conflict(_))));
    assert_eq!(shelf.levels("A"), (3, 3));
    assert_eq!(shelf.adjust("A", 1), Ok(1));
    assert!(matches!(shelf.adjust("NEW", -1), Err(ApiError::Conflict(_))));
    assert!(matches!(shelf.adjust("A", i64::MAX), Err(ApiError::Unprocessable(_))));
    shelf.check();
}

#[test]
fn bad_requests_of_the_staff_are_refused() {
    let shelf = Shelf::new(&[]);
    for delta in [0, -1, i64::from(u32::MAX) + 1] {
        assert!(matches!(shelf.receive("A", delta), Err(ApiError::Unprocessable(_))), "{delta}");
    }
    assert!(matches!(shelf.adjust("A", 0), Err(ApiError::Unprocessable(_))));
    let sku: Sku = "A".parse().unwrap();
    let change = |role, reason: &str| {
        let request = AdjustStock { delta: 1, reason: reason.to_owned() };
        let caller = shelf.single.caller(role);
        let adjusted = block_on(shelf.inventory.adjust(&caller, &sku, request.clone()));
        let received = block_on(shelf.inventory.receive(&caller, &sku, request));
        (adjusted.map(drop), received.map(drop))
    };
    for role in [Role::Customer, Role::Support, Role::CatalogAdmin, Role::PaymentsAdmin] {
        assert_eq!(change(role, "x"), (Err(ApiError::Forbidden), Err(ApiError::Forbidden)));
    }
    for reason in [String::new(), "x".repeat(201)] {
        let (adjusted, received) = change(Role::Admin, &reason);
        assert!(matches!(adjusted, Err(ApiError::Unprocessable(_))));
        assert!(matches!(received, Err(ApiError::Unprocessable(_))));
    }
    assert_eq!(change(Role::Admin, &"x".repeat(200)), (Ok(()), Ok(())));
    let many = vec![sku; 101];
    let answer = block_on(shelf.inventory.availability(&many));
    assert!(matches!(answer, Err(ApiError::BadRequest(_))));
}

#[test]
fn an_idempotency_key_gets_the_same_answer() {
    let shelf = Shelf::new(&[]);
    let mut caller = shelf.single.caller(Role::InventoryAdmin);
    caller.idempotency_key = Some("key".into());
    let sku: Sku = "A".parse().unwrap();
    let receive = |delta| {
        let request = AdjustStock { delta, reason: "delivery".into() };
        block_on(shelf.inventory.receive(&caller, &sku, request))
    };
    let first = receive(5).unwrap();
    assert_eq!(receive(5), Ok(first));
    assert_eq!(shelf.levels("A"), (5, 0));
    assert!(matches!(receive(6), Err(ApiError::Unprocessable(_))));
    let request = AdjustStock { delta: 5, reason: "delivery".into() };
    block_on(shelf.inventory.adjust(&caller, &sku, request)).unwrap();
    assert_eq!(shelf.levels("A"), (10, 0), "another operation is another key");
}

#[test]
fn the_staff_reads_reservations_and_the_ledger() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 2)]);
    let read = |role| block_on(shelf.inventory.reservation(&shelf.single.caller(role), order));
    assert_eq!(read(Role::Customer), Err(ApiError::Forbidden));
    assert_eq!(read(Role::Support).unwrap().status, ReservationStatus::Held);
    shelf.commit(order, "commit");
    let view = read(Role::InventoryAdmin).unwrap();
    assert_eq!((view.status, view.version), (ReservationStatus::Committed, 2));
    let admin = shelf.single.caller(Role::InventoryAdmin);
    let other = shelf.single.new_order();
    let none = block_on(shelf.inventory.reservation(&admin, other));
    assert_eq!(none, Err(ApiError::NotFound));
    let sku: Sku = "A".parse().unwrap();
    let page = |role, after, limit| {
        let caller = shelf.single.caller(role);
        block_on(shelf.inventory.ledger(&caller, &sku, (after, limit)))
            .map(|entries| entries.iter().map(|e| e.version).collect::<Vec<_>>())
    };
    assert_eq!(page(Role::Auditor, 0, 2), Ok(vec![1, 2]));
    assert_eq!(page(Role::InventoryAdmin, 2, 2), Ok(vec![3]));
    assert_eq!(page(Role::InventoryAdmin, 3, 2), Ok(vec![]));
    assert_eq!(page(Role::Customer, 0, 2), Err(ApiError::Forbidden));
    let unknown = block_on(shelf.inventory.availability(&["NONE".parse().unwrap()])).unwrap();
    assert_eq!((unknown[0].available, unknown[0].version), (0, 0));
}

#[test]
fn every_change_is_audited_and_strangers_are_ignored() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 1)]);
    let rows = shelf.single.db.inspect(|i| i.audit().to_vec());
    amarra_store::audit::verify_chain(0, [0; 32], &rows).unwrap();
    let saved: Vec<_> = rows.iter().map(|r| r.entry.aggregate.kind.to_string()).collect();
    assert_eq!(saved, ["stock", "ledger", "stock", "ledger", "reservation"]);
    let before = shelf.single.emitted().len();
    let stranger = StockAdjusted { sku: "A".parse().unwrap(), on_hand: 1, reserved: 0 };
    shelf.hear(&shelf.single.message(topics::ORDERS, order, &stranger)).unwrap();
    assert_eq!(shelf.single.emitted().len(), before);
    let mut broken = shelf.commit_message(order, "commit");
    broken.envelope.data = bytes::Bytes::from_static(b"{}");
    assert!(matches!(shelf.hear(&broken), Err(HandlerError::Codec(_))));
    assert_eq!(shelf.status(order), Some(ReservationStatus::Held));
}

#[test]
fn a_commit_in_doubt_is_repeated_only_where_a_second_one_changes_nothing() {
    for lost in [Effect::LoseReply, Effect::LoseRequest] {
        let shelf = Shelf::new(&[("A", 5)]);
        let sku: Sku = "A".parse().unwrap();
        let mut caller = shelf.single.caller(Role::InventoryAdmin);
        let receive = |caller: &Caller| {
            let request = AdjustStock { delta: 1, reason: "delivery".into() };
            block_on(shelf.inventory.receive(caller, &sku, request))
        };
        shelf.single.commits.next(&[lost]);
        let error = receive(&caller).unwrap_err();
        assert!(matches!(error, ApiError::Unavailable { outcome_unknown: true, .. }), "{error}");
        let applied = if lost == Effect::LoseReply { 6 } else { 5 };
        assert_eq!(shelf.levels("A"), (applied, 0));
        caller.idempotency_key = Some("key".into());
        shelf.single.commits.next(&[lost, lost]);
        assert_eq!(receive(&caller).unwrap().available, applied + 1);
        assert_eq!(shelf.levels("A"), (applied + 1, 0));
        let order = shelf.reserve(&[("A", 2)]);
        shelf.single.clock.advance(TTL);
        shelf.single.commits.next(&[lost]);
        block_on(async {
            let claim = shelf.single.claim(shelf.due.as_ref(), "worker").await.remove(0);
            drop(shelf.due.on_due(&claim).await);
        });
        shelf.expire();
        assert_eq!(shelf.status(order), Some(ReservationStatus::Expired));
        assert_eq!(shelf.compensated().len(), 1);
        shelf.check();
    }
}

#[test]
fn stock_that_disagrees_with_its_reservation_is_not_made_to_fit() {
    let shelf = Shelf::new(&[("A", 5)]);
    let order = shelf.reserve(&[("A", 2)]);
    block_on(async {
        let id = StockItem::aggregate_id("A");
        let mut unit = shelf.single.store.begin().await.unwrap();
        let version = unit.load(std::slice::from_ref(&id)).await.unwrap()[0].version;
        let item = StockItem { sku: "A".parse().unwrap(), on_hand: 5, reserved: 1 };
        let body = serde_json::to_vec(&item).unwrap();
        unit.save(&id, version, body.into()).await.unwrap();
        unit.commit().await.unwrap();
    });
    let error = shelf.hear(&shelf.commit_message(order, "commit")).unwrap_err();
    assert!(matches!(error, HandlerError::Refused(_)), "{error}");
    assert_eq!(shelf.levels("A"), (5, 1));
    assert_eq!(shelf.status(order), Some(ReservationStatus::Held));
}

#[test]
fn bad_configuration_names_its_field() {
    let check = |config: Config, field: &str| {
        assert_eq!(config.validate().map_err(|e| e.field), Err(field));
    };
    let good = Config::default;
    check(Config { reserve_ttl_max: Duration::ZERO, ..good() }, "inventory.reserve_ttl_max");
    check(Config { skus_max: 0, ..good() }, "inventory.skus_max");
    check(Config { ledger_page_max: 0, ..good() }, "inventory.ledger_page_max");
    check(Config { reason_chars_max: 0, ..good() }, "inventory.reason_chars_max");
    assert_eq!(good().validate(), Ok(()));
}
