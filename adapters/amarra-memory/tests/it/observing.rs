//! The observer is told everything that became true, once, when it did, and nothing else.

use amarra_core::{Actor, Version};
use amarra_memory::{ClientId, Effect};
use amarra_messaging::message::Delivery;
use amarra_messaging::{Consumer, Offset, Partition, Transport};
use amarra_store::AuditDraft;
use amarra_store::audit::verify_chain;
use amarra_store::read_model::ViewWrite;

use crate::world::{
    World, body, group, incoming, lease, outgoing, partition, publish, put, secs, thing,
};

fn audit(id: &str) -> AuditDraft {
    AuditDraft {
        actor: Actor::Service("test".into()),
        action: "change".into(),
        aggregate: thing(id),
        version: Version::new(1),
        correlation: uuid::Uuid::nil().into(),
        at: amarra_core::Timestamp::EPOCH,
        state_hash: [0; 32],
    }
}

#[test]
fn a_commit_is_told_with_all_it_changed() {
    let world = World::new();
    world.run(async {
        let mut unit = world.store("a").begin().await.unwrap();
        unit.save(&thing("k"), Version::ABSENT, body("1")).await.unwrap();
        unit.save(&thing("k"), Version::new(1), body("2")).await.unwrap();
        unit.enqueue(&[outgoing("k", 1)]).await.unwrap();
        unit.admit(&group(), &incoming(7)).await.unwrap();
        let record = publish("t", "k", "poison").record;
        let (topic, at) = ("t".into(), Offset(3));
        let delivery = Delivery { topic, partition: Partition(0), offset: at, record };
        unit.park(&group(), &delivery, "poison").await.unwrap();
        unit.audit(audit("k")).await.unwrap();
        unit.schedule(&thing("k"), Some(secs(5))).await.unwrap();
        let write = ViewWrite {
            view: "v".into(),
            key: "k".into(),
            position: Version::new(1),
            body: Some(body("row")),
        };
        unit.write_view(write.clone()).await.unwrap();
        let now = unit.now();
        assert!(world.lines().is_empty(), "an open unit was told");
        unit.commit().await.unwrap();

        assert_eq!(world.lines(), ["committed 3"]);
        let told = world.recorder.committed.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&*told.database, told.client, told.now),
            ("orders", ClientId::new("a", 1), now)
        );
        let saved: Vec<_> = told.saved.iter().map(|(_, v, b)| (v.get(), b.clone())).collect();
        assert_eq!(saved, [(1, body("1")), (2, body("2"))]);
        assert_eq!(told.messages, [(amarra_messaging::message::Seq(1), outgoing("k", 1))]);
        assert_eq!(told.admitted[0].event, incoming(7).envelope.id);
        assert_eq!((told.parked[0].1.ticket, &told.parked[0].1.delivery), (1, &delivery));
        assert_eq!(told.views, [write]);
        assert_eq!(told.scheduled, [(thing("k"), Some(now.plus(secs(5))))]);
        assert_eq!(verify_chain(0, [0; 32], &told.audited).unwrap().0, 1);
        world.database.inspect(|i| {
            assert_eq!(i.audit(), told.audited);
            assert_eq!(i.inbox().count(), 1);
            assert_eq!(i.parked().count(), 1);
            assert_eq!(i.view("v").count(), 1);
            assert_eq!(i.timers().map(|t| t.due).collect::<Vec<_>>(), [now.plus(secs(5))]);
            assert_eq!(i.aggregates("thing").count(), 1);
            assert_eq!(i.aggregates("thin").count(), 0);
        });
    });
}

#[test]
fn what_was_not_committed_is_not_told() {
    let world = World::new();
    world.run(async {
        let store = world.store("a");
        let mut dropped = store.begin().await.unwrap();
        dropped.save(&thing("k"), Version::ABSENT, body("x")).await.unwrap();
        drop(dropped);
        let mut reader = store.begin().await.unwrap();
        reader.load(&[thing("k")]).await.unwrap();
        reader.commit().await.unwrap();
        world.script.strike("commit", Effect::LoseRequest);
        assert!(put(store.as_ref(), "k", 0).await.is_err());
        assert!(world.lines().is_empty());
        world.script.strike("commit", Effect::LoseReply);
        assert!(put(store.as_ref(), "k", 0).await.is_err());
        assert_eq!(world.lines().len(), 1, "a lost answer is a commit all the same");
    });
}

#[test]
fn the_broker_tells_its_side_in_order() {
    let world = World::new();
    world.broker.create_topic("t", 1).unwrap();
    world.run(async {
        let transport = world.broker.transport(ClientId::new("relay", 1), "orders");
        let mut session = transport.open(&lease(1)).await.unwrap();
        session.publish(&[publish("t", "k", "a"), publish("t", "k", "b")]).await.unwrap();
        let mut one = world.consumer("one", &["t"]);
        one.poll(9, secs(1)).await.unwrap();
        one.poll(9, secs(1)).await.unwrap();
        one.commit(&[(partition("t", 0), Offset(2))]).await.unwrap();
        assert!(one.commit(&[(partition("t", 7), Offset(2))]).await.is_err());
        world.script.strike("publish", Effect::LoseReply);
        assert!(session.publish(&[publish("t", "k", "c")]).await.is_err());
        session.publish(&[publish("t", "k", "c")]).await.unwrap();
    });
    let expect = [
        "published t/0@0",
        "published t/0@1",
        "generation 1 one:1",
        "delivered 2 to one",
        "offsets 0@2",
        "published t/0@2",
        "generation 2 ",
    ];
    assert_eq!(world.lines(), expect);
}
