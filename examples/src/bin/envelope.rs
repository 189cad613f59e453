//! amarra-core: repeatable ids, an event in its envelope, and old versions of it that still read.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use amarra_conformance::Harness;
use amarra_core::codec::Message;
use amarra_core::{
    Actor, AggregateId, Classify, Codec, CorrelationId, Envelope, Environment, PartitionKey,
    TraceParent, Version,
};
use examples::Fallible;
use serde::{Deserialize, Serialize};

/// Version 2 of an event: version 1 had a price in whole euros.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PriceChanged {
    sku: String,
    cents: i64,
}

impl Message for PriceChanged {
    const KIND: &'static str = "PriceChanged";
    const SCHEMA_VERSION: u16 = 2;
}

/// Reads version 1 as version 2.
fn cents_from_euros(mut old: serde_json::Value) -> Result<serde_json::Value, String> {
    let euros = old.get("euros").and_then(serde_json::Value::as_i64).ok_or("no euros")?;
    let cents = euros.checked_mul(100).ok_or("too many euros")?;
    let fields = old.as_object_mut().ok_or("no object")?;
    fields.remove("euros");
    fields.insert("cents".to_owned(), cents.into());
    Ok(old)
}

fn wrap(env: &Environment, message: &PriceChanged) -> Fallible<Envelope> {
    Ok(Envelope {
        id: env.new_id(),
        source: "/example/catalog".into(),
        kind: PriceChanged::KIND.into(),
        schema_version: PriceChanged::SCHEMA_VERSION,
        subject: AggregateId::new("product", message.sku.as_str()),
        subject_version: Version::new(1),
        partition_key: PartitionKey::new(message.sku.as_str()),
        correlation: env.new_id::<CorrelationId>(),
        causation: None,
        actor: Actor::Admin("grace".into()),
        traceparent: TraceParent::root(env.entropy.as_ref()),
        time: env.now(),
        data: Codec::encode(message)?,
    })
}

fn main() -> Fallible {
    // The same seed and process give the same ids, times and traces.
    let message = PriceChanged { sku: "tea".to_owned(), cents: 450 };
    let first = wrap(&Harness::new(7).environment("catalog"), &message)?;
    let again = wrap(&Harness::new(7).environment("catalog"), &message)?;
    println!("{} {} of {} by {}", first.kind, first.id, first.subject, first.actor);
    println!("a second run of the seed gives the same envelope: {}", first == again);

    // A payload of an older release is lifted to what this one knows.
    let codec = Codec::new().upcast(PriceChanged::KIND, 1, cents_from_euros);
    let lifted: PriceChanged =
        codec.decode_parts(PriceChanged::KIND, 1, br#"{"sku":"tea","euros":4}"#)?;
    println!("version 1 reads as {lifted:?}");

    // A newer one is refused, not guessed.
    let newer = Envelope { schema_version: 3, ..first };
    match codec.decode::<PriceChanged>(&newer) {
        Ok(message) => Err(format!("{message:?} was guessed").into()),
        Err(error) => {
            println!("version 3 is refused as {:?}: {error}", error.class());
            Ok(())
        }
    }
}
