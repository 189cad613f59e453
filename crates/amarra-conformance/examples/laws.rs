//! Prints every behaviour of every suite as a line of JSON: its port, its law, its name.
#![allow(clippy::print_stdout, reason = "a program that prints")]

fn main() {
    for law in amarra_conformance::laws() {
        let line = serde_json::json!({"port": law.port, "law": law.law, "name": law.name});
        println!("{line}");
    }
}
