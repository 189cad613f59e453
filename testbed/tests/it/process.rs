//! A written-down process is signalled while it is the same one, and nobody else ever.

use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::Process;

#[test]
fn it_is_signalled_while_it_is_the_same_and_not_once_another_has_its_number() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let found = Process::of(child.id()).unwrap();
    let mut earlier = found.clone();
    earlier.started -= 1;
    let other_boot = Process { boot: "another".to_owned(), ..found.clone() };
    for stranger in [earlier, other_boot] {
        assert!(!stranger.is_alive());
        stranger.signal("KILL").unwrap();
    }
    assert!(child.try_wait().unwrap().is_none(), "a stranger's signal reached it");
    assert!(found.is_alive());
    assert!(found.signal("NO_SUCH_SIGNAL").is_err());
    found.signal("KILL").unwrap();
    assert!(found.ended_within(Duration::from_secs(30)));
    child.wait().unwrap();
    assert!(Process::of(found.pid).is_err());
}
