//! Which laws notice which defect: a table for each family of ports.

mod ambient;
mod consumer;
mod inbox;
mod log;
mod outbox;
mod parking;
mod read_model;
mod service;
mod timer;
mod transport;
mod unit;

use std::panic::catch_unwind;

use amarra_conformance::Law;

use super::{DEFECT, Defect};

type Check = fn(&str) -> bool;

/// Asserts that the backend with `defect` breaks each of the named laws.
fn noticed(defect: Defect, suites: &[(&[Law], Check, &[&str])]) {
    for (laws, check, names) in suites {
        for name in *names {
            assert!(laws.iter().any(|law| law.name == *name), "there is no law {name}");
            DEFECT.set(Defect::None);
            assert!(check(name), "the wrapper without a defect");
            DEFECT.set(defect);
            assert!(catch_unwind(|| check(name)).is_err(), "{defect:?} passes {name}");
        }
    }
}

macro_rules! defects {
    ($($test:ident: $defect:ident breaks $($suite:ident [$($name:ident),+ $(,)?])+;)+) => {$(
        #[test]
        fn $test() {
            $crate::broken::noticed::noticed($crate::broken::Defect::$defect, &[$((
                amarra_conformance::$suite::LAWS,
                amarra_conformance::$suite::check::<$crate::broken::backend::Broken>,
                &[$(stringify!($name)),+],
            )),+]);
        }
    )+};
}
use defects;

macro_rules! ambient_defects {
    ($($test:ident: $number:literal breaks $suite:ident [$($name:ident),+ $(,)?];)+) => {$(
        #[test]
        fn $test() {
            use amarra_conformance::$suite::{LAWS, check};
            use $crate::broken::ambient::BrokenAmbient;
            for name in [$(stringify!($name)),+] {
                assert!(LAWS.iter().any(|law| law.name == name));
                assert!(check::<BrokenAmbient<0>>(name), "without a defect");
                let broken = || check::<BrokenAmbient<$number>>(name);
                assert!(std::panic::catch_unwind(broken).is_err(), "a defect passes {name}");
            }
        }
    )+};
}
use ambient_defects;
