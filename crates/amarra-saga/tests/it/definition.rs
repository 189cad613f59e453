//! Definitions: what is refused, the fingerprint, and the pictures.

use std::time::Duration;

use amarra_core::CodecError;
use amarra_saga::definition::{Inputs, Kind, Source, StepIndex, StepSpec};
use amarra_saga::{
    Action, Compensate, Definition, DefinitionError, Fingerprint, Policy, Saga, Step, StepContext,
};

use crate::specs::{C, P, R, define, diamond, policy, saga3, saga3_pivot, spec};
use crate::support::order_saga;

fn build(steps: &[(&str, Kind, &[u16])]) -> Result<Definition, DefinitionError> {
    let specs = steps.iter().map(|(name, kind, after)| spec(name, *kind, after, policy()));
    Definition::new("test", 1, None, specs.collect())
}

fn refused(steps: &[(&str, Kind, &[u16])], expect: DefinitionError) {
    assert_eq!(build(steps), Err(expect), "{steps:?}");
}

#[test]
fn a_pivot_beside_another_step_is_refused() {
    let beside = DefinitionError::NotBeforePivot("c".into());
    refused(&[("a", C, &[]), ("p", P, &[0]), ("c", C, &[0])], beside);
    let beside = DefinitionError::NotAfterPivot("r".into());
    refused(&[("a", C, &[]), ("p", P, &[0]), ("r", R, &[0])], beside);
}

#[test]
fn a_step_that_can_be_undone_after_the_pivot_is_refused() {
    let after = DefinitionError::NotBeforePivot("c".into());
    refused(&[("p", P, &[]), ("c", C, &[0])], after);
}

#[test]
fn a_retriable_step_before_the_pivot_is_refused() {
    let before = DefinitionError::NotAfterPivot("r".into());
    refused(&[("r", R, &[]), ("p", P, &[0])], before);
}

#[test]
fn a_second_pivot_and_a_missing_one_are_refused() {
    refused(&[("p", P, &[]), ("q", P, &[0])], DefinitionError::SecondPivot("q".into()));
    refused(&[("c", C, &[]), ("r", R, &[0])], DefinitionError::NoPivot);
}

#[test]
fn steps_that_wait_for_each_other_are_refused() {
    refused(&[("a", C, &[1]), ("b", C, &[0])], DefinitionError::Cycle("a".into()));
    refused(&[("a", C, &[]), ("b", C, &[1])], DefinitionError::Cycle("b".into()));
}

#[test]
fn names_and_sizes_are_checked() {
    refused(&[], DefinitionError::Size(0));
    let many = (0..10_001).map(|at| spec(&format!("s{at}"), C, &[], policy())).collect();
    assert_eq!(Definition::new("t", 1, None, many), Err(DefinitionError::Size(10_001)));
    refused(&[("a", C, &[]), ("a", C, &[])], DefinitionError::Doubled("a".into()));
    refused(&[("a:b", C, &[])], DefinitionError::Name("a:b".into()));
    refused(&[("", C, &[])], DefinitionError::Name("".into()));
    refused(&[("a", C, &[7])], DefinitionError::ForeignNode("a".into()));
    let one = || vec![spec("a", C, &[], policy())];
    assert_eq!(Definition::new("", 1, None, one()), Err(DefinitionError::Name("".into())));
    let zero = Some(Duration::ZERO);
    assert_eq!(Definition::new("t", 1, zero, one()), Err(DefinitionError::Deadline));
}

#[test]
fn a_policy_out_of_range_names_the_step_and_the_field() {
    let hot = Policy { attempts_max: 0, ..policy() };
    let error = Definition::new("t", 1, None, vec![spec("a", C, &[], hot)]).unwrap_err();
    assert_eq!(error.to_string(), "policy of step \"a\": attempts_max must be at least 1");
}

#[test]
fn inputs_are_dependencies_too() {
    let mut second = spec("b", C, &[], policy());
    second.inputs = Inputs::Tuple(vec![Source::Input, Source::Step(StepIndex(0))]);
    let made = Definition::new("t", 1, None, vec![spec("a", C, &[], policy()), second]).unwrap();
    assert_eq!(made.steps()[1].after, [StepIndex(0)]);
    assert_eq!(made.dependants(StepIndex(0)), [StepIndex(1)]);
    let mut doubled = made.steps().to_vec();
    doubled[1].after = vec![StepIndex(0), StepIndex(0)];
    let doubled = Definition::new("t", 1, None, doubled).unwrap();
    assert_eq!(doubled.fingerprint(), made.fingerprint(), "a dependency counts once");
}

#[test]
fn fingerprints_stay_as_they_are() {
    // A change here strands every saga in flight: give the definition a new version instead.
    let check = |definition: &Definition, expect: &str| {
        assert_eq!(definition.fingerprint().to_string(), expect, "{}", definition.to_mermaid());
    };
    check(order_saga().definition(), "10bd4cf30999c11ab1757abc1973e049");
    check(&saga3(), "c2133afbaf9f86d5ed2a1718d0b14dbb");
    check(&saga3_pivot(), "d2ff36a45aec7fdc4238c0f2ab12e2e6");
    check(&diamond(), "2ef764f774b157f856989e67c90df2f6");
}

#[test]
fn a_fingerprint_covers_the_structure_and_leaves_out_what_may_change() {
    let base = saga3().fingerprint();
    let steps: [(Kind, &[u16]); 3] = [(C, &[]), (C, &[0]), (C, &[1])];
    let same = [
        define(&steps, Some(Duration::from_secs(9)), policy()),
        define(&steps, None, Policy::default()),
    ];
    assert!(same.iter().all(|d| d.fingerprint() == base));
    let specs = || saga3().steps().to_vec();
    let change = |edit: fn(&mut StepSpec)| {
        let mut specs = specs();
        edit(&mut specs[2]);
        Definition::new("test", 1, None, specs).unwrap().fingerprint()
    };
    let changed = [
        Definition::new("test", 2, None, specs()).unwrap().fingerprint(),
        Definition::new("other", 1, None, specs()).unwrap().fingerprint(),
        change(|s| s.name = "z".into()),
        change(|s| s.kind = P),
        change(|s| s.after = vec![StepIndex(0)]),
        change(|s| s.inputs = Inputs::One(Source::Input)),
        change(|s| s.inputs = Inputs::Tuple(vec![Source::Input])),
        change(|s| s.inputs = Inputs::One(Source::Step(StepIndex(1)))),
    ];
    for (at, one) in changed.iter().enumerate() {
        assert_ne!(*one, base, "change {at}");
        assert!(changed.iter().skip(at + 1).all(|other| other != one), "change {at}");
    }
    let text = base.to_string();
    assert_eq!(text.parse::<Fingerprint>().unwrap(), base);
    assert!(text[1..].parse::<Fingerprint>().is_err());
    assert!("+0000000000000000000000000000000".parse::<Fingerprint>().is_err());
}

#[test]
fn the_pictures_show_kinds_and_edges() {
    assert_eq!(
        saga3_pivot().to_mermaid(),
        "flowchart LR\n  s0(\"a\")\n  s1{\"b\"}\n  s2[\"c\"]\n  s0 --> s1\n  s1 --> s2\n"
    );
    let dot = diamond().to_dot();
    assert!(dot.starts_with("digraph \"test v1\" {"), "{dot}");
    assert!(dot.contains("\"d\" [shape=diamond, tooltip=\"pivot\"];"), "{dot}");
    assert!(dot.contains("\"a\" -> \"c\";"), "{dot}");
    assert_eq!(dot.matches("->").count(), 4);
}

#[derive(Debug)]
struct Noop;

impl Step for Noop {
    type In = ();
    type Out = ();

    fn action(&self, _: &StepContext, (): &()) -> Result<Action<()>, CodecError> {
        Ok(Action::Sent)
    }
}

impl Compensate for Noop {
    fn compensation(
        &self,
        _: &StepContext,
        (): &(),
        _: Option<&()>,
    ) -> Result<Action<()>, CodecError> {
        Ok(Action::Done(()))
    }
}

#[test]
fn the_builder_refuses_a_pivot_beside_another_step() {
    let mut b = Saga::builder::<()>("order", 1);
    b.compensatable("reserve", (), Noop);
    let (b, _) = b.pivot("capture", (), Noop);
    assert_eq!(b.build().unwrap_err(), DefinitionError::NotBeforePivot("reserve".into()));
}

#[test]
fn the_builder_refuses_nodes_of_another_one() {
    let mut other = Saga::builder::<()>("order", 1);
    let foreign = other.compensatable("reserve", (), Noop);
    let mut b = Saga::builder::<()>("order", 1);
    b.compensatable("reserve", (), Noop);
    b.compensatable("pack", &foreign, Noop);
    assert_eq!(b.build().unwrap_err(), DefinitionError::ForeignNode("order".into()));
    let mut b = Saga::builder::<()>("order", 1);
    let own = b.compensatable("reserve", (), Noop);
    b.order(&foreign, &own);
    assert_eq!(b.build().unwrap_err(), DefinitionError::ForeignNode("order".into()));
    let mut b = Saga::builder::<()>("order", 1);
    let own = b.compensatable("reserve", (), Noop);
    b.order(&own, &foreign);
    assert_eq!(b.build().unwrap_err(), DefinitionError::ForeignNode("order".into()));
}

#[test]
fn the_builder_keeps_names_edges_and_the_deadline() {
    let saga = order_saga();
    let definition = saga.definition();
    let names: Vec<_> = definition.steps().iter().map(|step| step.name.as_ref()).collect();
    assert_eq!(names, ["reserve", "capture", "confirm", "notify"]);
    let kinds: Vec<_> = definition.steps().iter().map(|step| step.kind).collect();
    assert_eq!(kinds, [C, P, R, R]);
    assert_eq!(definition.deadline(), Some(Duration::from_secs(60)));
    assert_eq!(definition.find("confirm"), Some(StepIndex(2)));
    assert_eq!(definition.step(StepIndex(3)).unwrap().after, [StepIndex(2)], "by order alone");
    assert_eq!(definition.pivot(), Some(StepIndex(1)));
    assert!(!definition.is_forward_only());
    let mut refund = Saga::forward_only::<()>("refund", 1);
    refund.retriable("money", (), Noop);
    refund.retriable("stock", (), Noop);
    assert!(refund.build().unwrap().definition().is_forward_only());
}
