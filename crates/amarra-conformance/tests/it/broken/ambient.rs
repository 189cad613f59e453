//! Clocks, randomness and codecs with one defect each, by number; 0 has none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::{
    Backend, ClockBackend, CodecBackend, EntropyBackend, Golden, Harness, ManualClock,
};
use amarra_core::codec::Message;
use amarra_core::{Clock, Codec, Entropy, Environment, Monotonic, SeededEntropy, Timer, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub struct BrokenAmbient<const DEFECT: u8> {
    env: Environment,
    clock: Arc<ManualClock>,
}

impl<const DEFECT: u8> Backend for BrokenAmbient<DEFECT> {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let harness = Harness::new(1);
        let (env, clock) = (harness.environment("test"), harness.clock());
        harness.block_on(law(Self { env, clock }));
    }

    fn env(&self) -> Environment {
        self.env.clone()
    }
}

/// Monotonic time read off the wall clock.
#[derive(Debug)]
struct WallClock(Arc<ManualClock>);

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Monotonic {
        let micros = u64::try_from(self.0.now().as_micros()).unwrap();
        Monotonic::from_nanos(micros * 1000)
    }
}

/// A timer that rounds down to milliseconds.
#[derive(Debug)]
struct CoarseTimer(Arc<ManualClock>);

#[async_trait]
impl Timer for CoarseTimer {
    async fn sleep_until(&self, at: Monotonic) {
        let millis = at.as_nanos() / 1_000_000;
        self.0.sleep_until(Monotonic::from_nanos(millis.saturating_sub(1) * 1_000_000)).await;
    }
}

impl<const DEFECT: u8> ClockBackend for BrokenAmbient<DEFECT> {
    fn clock(&self) -> Arc<dyn Clock> {
        if DEFECT == 1 { Arc::new(WallClock(self.clock.clone())) } else { self.clock.clone() }
    }

    fn timer(&self) -> Arc<dyn Timer> {
        if DEFECT == 2 { Arc::new(CoarseTimer(self.clock.clone())) } else { self.clock.clone() }
    }

    fn jump_wall(&self, micros: i64) {
        self.clock.jump_wall(micros);
    }
}

/// Sixteen bytes, again and again.
#[derive(Debug)]
struct Stuck;

impl Entropy for Stuck {
    fn fill(&self, out: &mut [u8]) {
        out.iter_mut().zip((0..16).cycle()).for_each(|(to, from)| *to = from);
    }
}

impl<const DEFECT: u8> EntropyBackend for BrokenAmbient<DEFECT> {
    fn seeded(&self, seed: u64) -> Option<Arc<dyn Entropy>> {
        let seed = match DEFECT {
            3 => 7,
            4 => self.env.entropy.next_u64(),
            _ => seed,
        };
        Some(Arc::new(SeededEntropy::new(seed, "laws")))
    }

    fn other(&self) -> Arc<dyn Entropy> {
        match DEFECT {
            5 => Arc::new(Stuck),
            6 => Arc::new(SeededEntropy::new(7, "process")),
            _ => Arc::new(SeededEntropy::new(self.env.entropy.next_u64(), "process")),
        }
    }
}

/// A message with a past: version 1 had whole hours only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    room: String,
    lasts: Duration,
}

impl Message for Booked {
    const KIND: &'static str = "Booked";
    const SCHEMA_VERSION: u16 = 2;
}

fn booked(hours: u64) -> Booked {
    Booked { room: "☃".to_owned(), lasts: Duration::from_secs(hours * 3600) }
}

impl<const DEFECT: u8> CodecBackend for BrokenAmbient<DEFECT> {
    type Message = Booked;

    fn codec(&self) -> Codec {
        match DEFECT {
            7 => Codec::new(),
            _ => Codec::new().upcast(Booked::KIND, 1, |mut old| {
                let hours = old["hours"].as_u64().ok_or("no hours")?;
                let unit = if DEFECT == 8 { 60 } else { 3600 };
                old["lasts"] = serde_json::json!({ "secs": hours * unit, "nanos": 0 });
                Ok(old)
            }),
        }
    }

    fn samples(&self) -> Vec<Booked> {
        vec![booked(0), booked(7)]
    }

    fn golden(&self) -> Vec<Golden<Booked>> {
        let data = Bytes::from("{\"room\":\"☃\",\"hours\":3}");
        vec![Golden { schema_version: 1, data, message: booked(3) }]
    }
}

amarra_conformance::codec_laws!(BrokenAmbient<0>);
