//! Whether the core of a crate needs `std`: it is linked into a program that has none.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::output::Output;
use crate::run::{root, step};

/// The crate, without its features.
const LIBRARY: &str = "crates/amarra-resilience/src/lib.rs";
const NAME: &str = "amarra_resilience";

/// A program without `std` that calls a breaker. Were `std` linked all the same, there would be two
/// panic handlers, and it would not build. The allocator is never called: nothing runs it.
const PROGRAM: &str = r#"
#![no_std]
extern crate alloc;
use core::alloc::{GlobalAlloc, Layout};
use amarra_resilience::breaker::{Breaker, Config, Outcome};
use amarra_resilience::Monotonic;

struct None;
unsafe impl GlobalAlloc for None {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 { core::ptr::null_mut() }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
#[global_allocator]
static ALLOCATOR: None = None;
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }

#[unsafe(no_mangle)]
pub extern "C" fn call(nanos: u64) -> bool {
    let Ok(breaker) = Breaker::new("bare", Config::default(), 1) else { return false };
    let now = Monotonic::from_nanos(nanos);
    breaker.call(|| now, |_: &u32| Outcome::Ok, || 7).is_ok()
}
"#;

/// Builds the library with no dependency at all and the program on it.
pub(crate) fn run(out: &Output) -> Result<bool, String> {
    let folder = root().join("target/no-std");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let program = folder.join("program.rs");
    fs::write(&program, PROGRAM).map_err(|e| format!("{}: {e}", program.display()))?;
    let library = rustc(&folder, "rlib", Path::new(LIBRARY), NAME);
    // Both, or the answer of the second would be about an old library.
    if !step(out, "resilience: its core without std and dependencies", library)? {
        return Ok(false);
    }
    let mut linked = rustc(&folder, "staticlib", &program, "program");
    let path = folder.join(format!("lib{NAME}.rlib"));
    linked.arg("--extern").arg(format!("{NAME}={}", path.display()));
    step(out, "resilience: its core in a program without std", linked)
}

fn rustc(folder: &Path, kind: &str, source: &Path, name: &str) -> Command {
    let mut command = Command::new("rustc");
    command.args(["--edition=2024", "-Cpanic=abort", "--crate-type", kind, "--crate-name", name]);
    command.arg("--out-dir").arg(folder).arg(source).current_dir(root());
    command
}
