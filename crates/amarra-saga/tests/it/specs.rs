//! Definitions that several tests share.

use std::time::Duration;

use amarra_saga::definition::{Inputs, Kind, StepIndex, StepSpec};
use amarra_saga::{Backoff, Definition, Policy};

pub use Kind::{Compensatable as C, Pivot as P, Retriable as R};

pub fn policy() -> Policy {
    Policy {
        timeout: Duration::from_secs(10),
        attempts_max: 1,
        compensation_timeout: Duration::from_secs(10),
        compensation_attempts_max: 2,
        backoff: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(4) },
    }
}

pub fn spec(name: &str, kind: Kind, after: &[u16], policy: Policy) -> StepSpec {
    let after = after.iter().copied().map(StepIndex).collect();
    StepSpec { name: name.into(), kind, inputs: Inputs::None, after, policy }
}

/// Steps named `a`, `b`, `c`, and so on.
pub fn define(steps: &[(Kind, &[u16])], deadline: Option<Duration>, policy: Policy) -> Definition {
    let specs = steps
        .iter()
        .zip('a'..)
        .map(|((kind, after), name)| spec(&name.to_string(), *kind, after, policy));
    Definition::new("test", 1, deadline, specs.collect()).unwrap()
}

pub fn saga3() -> Definition {
    define(&[(C, &[]), (C, &[0]), (C, &[1])], None, policy())
}

pub fn saga3_pivot() -> Definition {
    define(&[(C, &[]), (P, &[0]), (R, &[1])], None, policy())
}

/// `a`, then `b` and `c` side by side, then the pivot `d`.
pub fn diamond() -> Definition {
    define(&[(C, &[]), (C, &[0]), (C, &[0]), (P, &[1, 2])], None, policy())
}

/// As [`diamond`], without a pivot.
pub fn diamond_reversible() -> Definition {
    define(&[(C, &[]), (C, &[0]), (C, &[0]), (C, &[1, 2])], None, policy())
}
