//! A task group ends together, tells who panicked, and waits no longer than it may.

use std::future::pending;
use std::time::Duration;

use amarra_tokio::{End, TaskGroup, TaskGroupConfig, Why};

fn group(drain: Duration) -> TaskGroup {
    TaskGroup::new(TaskGroupConfig { drain_timeout: drain }).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn stops(tasks: &TaskGroup, name: &str) {
    let shutdown = tasks.shutdown();
    tasks.spawn(name, async move { shutdown.requested().await });
}

#[test]
fn a_requested_stop_reaches_every_task() {
    block_on(async {
        let tasks = group(Duration::from_secs(60));
        stops(&tasks, "a");
        stops(&tasks, "b");
        assert_eq!(tasks.running(), ["a", "b"]);
        tasks.request_stop();
        let end = tasks.run().await;
        assert_eq!(end, End { why: Why::Requested, panics: vec![], aborted: vec![] });
        assert!(end.is_clean());
    });
}

#[test]
fn a_panic_stops_the_others_and_is_told() {
    block_on(async {
        let tasks = group(Duration::from_secs(60));
        stops(&tasks, "healthy");
        tasks.spawn("broken", async { panic!("the {} is gone", "floor") });
        let end = tasks.run().await;
        assert_eq!(end.why, Why::Panic);
        assert_eq!(end.panics, [("broken".to_owned(), "the floor is gone".to_owned())]);
        assert!(end.aborted.is_empty());
        assert!(end.to_string().contains("task broken panicked: the floor is gone"));
    });
}

#[test]
fn tasks_that_do_not_end_are_aborted_and_named() {
    block_on(async {
        let tasks = group(Duration::from_millis(20));
        tasks.spawn("stuck", pending());
        stops(&tasks, "quick");
        tasks.request_stop();
        let end = tasks.run().await;
        assert_eq!(end.aborted, ["stuck"]);
        assert!(!end.is_clean());
    });
}

#[test]
fn a_task_spawned_by_a_task_is_waited_for() {
    block_on(async {
        let tasks = group(Duration::from_secs(60));
        let (inner, shutdown) = (tasks.clone(), tasks.shutdown());
        tasks.spawn("outer", async move {
            inner.spawn("inner", async move { shutdown.requested().await });
            inner.request_stop();
        });
        let end = tasks.run().await;
        assert!(end.is_clean(), "{end}");
        assert!(tasks.running().is_empty());
    });
}

#[test]
fn without_tasks_there_is_nothing_to_wait_for() {
    let end = block_on(async { group(Duration::from_secs(60)).run().await });
    assert_eq!(end.why, Why::Finished);
}
