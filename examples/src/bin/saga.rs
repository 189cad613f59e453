//! amarra-saga: a trip of three bookings; the third is refused, the others are undone in reverse.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::sync::Arc;

use amarra_core::{Class, CodecError};
use amarra_memory::Hooks;
use amarra_saga::{
    Action, Compensate, LocalCall, LocalError, LocalStep, Op, Saga, SagaError, SagaId, SagaWorker,
    Sagas, Status, Step, StepContext,
};
use amarra_store::{Session, Store};
use async_trait::async_trait;
use examples::{Fallible, Process, Service};
use serde_json::{Value, json};

const SOURCE: &str = "/example/travel";

/// A booking: a call to another company, and the call that takes it back.
#[derive(Debug)]
struct Booking;

impl Step for Booking {
    type In = ();
    type Out = String;

    fn action(&self, _: &StepContext, (): &()) -> Result<Action<String>, CodecError> {
        Ok(Action::Local)
    }
}

impl Compensate for Booking {
    fn compensation(
        &self,
        _: &StepContext,
        (): &(),
        _: Option<&String>,
    ) -> Result<Action<()>, CodecError> {
        Ok(Action::Local)
    }
}

/// The other companies. A real one is told `call.request`, so that it books once per request.
#[derive(Debug)]
struct Company {
    is_full: bool,
}

#[async_trait]
impl LocalStep for Company {
    async fn run(&self, call: &LocalCall) -> Result<Value, LocalError> {
        let step = &call.request.step;
        match call.request.op {
            Op::Action if self.is_full => {
                println!("book   {step}: refused");
                Err(LocalError::new(Class::Rejected, "no seats left"))
            }
            Op::Action => {
                println!("book   {step}: done");
                Ok(json!(format!("{step}-77")))
            }
            Op::Compensation => {
                println!(
                    "cancel {step}: {} is given back",
                    call.output.clone().unwrap_or_default()
                );
                Ok(Value::Null)
            }
        }
    }
}

fn trip() -> Fallible<Saga> {
    let mut b = Saga::builder::<String>("trip", 1);
    let hotel = b.compensatable("hotel", (), Booking);
    let car = b.compensatable("car", (), Booking);
    let flight = b.compensatable("flight", (), Booking);
    b.order(&hotel, &car);
    b.order(&car, &flight);
    Ok(b.build()?)
}

async fn start(service: &Service, sagas: &Sagas, id: &SagaId) -> Result<(), SagaError> {
    let mut unit = service.store.begin().await?;
    let mut session = Session::new(unit.as_mut(), &service.env, SOURCE, service.cause("ada"));
    sagas.start(&mut session, "trip", id, &"Lisbon").await?;
    Ok(unit.commit().await?)
}

async fn status(service: &Service, sagas: &Sagas, id: &SagaId) -> Result<Status, SagaError> {
    let mut unit = service.store.begin().await?;
    let mut session = Session::new(unit.as_mut(), &service.env, SOURCE, service.cause("ada"));
    Ok(sagas.load(&mut session, id).await?.status())
}

fn main() -> Fallible {
    let saga = trip()?;
    print!("{}", saga.definition().to_mermaid());
    let sagas = Arc::new(Sagas::new(SOURCE).with(saga)?);

    let process = Process::new(&[], Hooks::default())?;
    let service = process.service("travel")?;
    let (store, env) = (service.store.clone(), service.env.clone());
    let mut worker = SagaWorker::new(store, env, SOURCE, Arc::clone(&sagas));
    for (step, is_full) in [("hotel", false), ("car", false), ("flight", true)] {
        worker = worker.local("trip", step, Arc::new(Company { is_full }));
    }
    process.work(&service, Arc::new(worker))?;

    let id = SagaId::from("trip-1");
    process.block_on(async {
        start(&service, &sagas, &id).await?;
        service
            .until(async || Ok(status(&service, &sagas, &id).await? == Status::Compensated))
            .await?;
        println!("the trip is {:?}", status(&service, &sagas, &id).await?);
        Ok(())
    })
}
