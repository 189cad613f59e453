//! The sub-transaction barrier in a participant's unit of work.

use amarra_saga::barrier::{self, Barrier};
use amarra_saga::{Op, Request, SagaError, Sagas};
use amarra_store::{Session, Store, TxError};

use crate::support::{Service, run};

fn service() -> Service {
    Service::new(Sagas::new("/inventory"))
}

fn request(step: &str, op: Op) -> Request {
    Request::new("o-1".into(), step, op)
}

fn pass(service: &Service, op: Op) -> Barrier {
    let request = request("reserve", op);
    service.unit(|session| Ok(run(barrier::guard(session, &request))?)).unwrap()
}

fn check(ops: &[(Op, Barrier)]) {
    let service = service();
    for (at, (op, expect)) in ops.iter().enumerate() {
        let saves = service.store.audit().len();
        assert_eq!(pass(&service, *op), *expect, "operation {at} of {ops:?}");
        let saved = service.store.audit().len() > saves;
        let first = matches!(expect, Barrier::Proceed | Barrier::NullCompensation);
        assert_eq!(saved, first, "operation {at} of {ops:?} writes only what is new");
    }
}

use Op::{Action, Compensation};

/// BAR-1
#[test]
fn each_operation_passes_once() {
    check(&[
        (Action, Barrier::Proceed),
        (Action, Barrier::Duplicate),
        (Compensation, Barrier::Proceed),
        (Compensation, Barrier::Duplicate),
        (Action, Barrier::Duplicate),
    ]);
}

/// BAR-2
#[test]
fn a_compensation_that_comes_first_is_null_and_stops_its_action() {
    check(&[
        (Compensation, Barrier::NullCompensation),
        (Action, Barrier::Late),
        (Action, Barrier::Late),
        (Compensation, Barrier::Duplicate),
    ]);
}

#[test]
fn a_refused_action_has_nothing_to_undo() {
    let service = service();
    assert!(pass(&service, Action).is_proceed());
    let refuse = |session: &mut Session<'_>| {
        run(barrier::refuse(session, &request("reserve", Action))).map_err(SagaError::from)
    };
    service.unit(refuse).unwrap();
    assert_eq!(pass(&service, Action), Barrier::Duplicate);
    assert_eq!(pass(&service, Compensation), Barrier::NullCompensation);
}

#[test]
fn steps_and_sagas_do_not_see_each_other() {
    let service = service();
    assert!(pass(&service, Action).is_proceed());
    let others =
        [request("authorize", Op::Action), Request::new("o-2".into(), "reserve", Op::Action)];
    for other in others {
        let passed = service.unit(|session| Ok(run(barrier::guard(session, &other))?)).unwrap();
        assert!(passed.is_proceed(), "{other}");
    }
}

/// BAR-3
#[test]
fn a_rolled_back_unit_did_not_pass() {
    let service = service();
    run(async {
        let mut unit = service.store.begin().await.unwrap();
        let mut session = Session::new(unit.as_mut(), &service.env, "/test", service.cause());
        let passed = barrier::guard(&mut session, &request("reserve", Action)).await.unwrap();
        assert!(passed.is_proceed());
    });
    assert_eq!(pass(&service, Compensation), Barrier::NullCompensation);
}

/// BAR-1
#[test]
fn of_an_action_and_a_compensation_at_once_one_conflicts() {
    let service = service();
    run(async {
        let mut unit = service.store.begin().await.unwrap();
        let mut session = Session::new(unit.as_mut(), &service.env, "/test", service.cause());
        barrier::guard(&mut session, &request("reserve", Action)).await.unwrap();
        assert_eq!(pass(&service, Compensation), Barrier::NullCompensation);
        let error = unit.commit().await.unwrap_err();
        assert!(matches!(error, TxError::Conflict { .. }), "{error}");
    });
    assert_eq!(pass(&service, Action), Barrier::Late);
}
