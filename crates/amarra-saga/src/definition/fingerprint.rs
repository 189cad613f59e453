//! A hash of a definition's structure, pinned by every saga in flight.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Inputs, Source, StepSpec};

/// A BLAKE3 hash of a definition's structure: name, version, and each step's name, kind, inputs and
/// dependencies.
///
/// Policies and the deadline are left out on purpose: they may change while sagas are in flight,
/// the structure may not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 32 hexadecimal digits, got {0:?}")]
pub struct MalformedFingerprint(String);

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    fn from_str(s: &str) -> Result<Self, MalformedFingerprint> {
        let well_formed = s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(s, 16) {
            Ok(number) if well_formed => Ok(Self(number.to_be_bytes())),
            _ => Err(MalformedFingerprint(s.to_owned())),
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = MalformedFingerprint;

    fn try_from(s: String) -> Result<Self, MalformedFingerprint> {
        s.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// Hashes the canonical form: every field length-prefixed, so that no two structures share one.
pub(super) fn of(name: &str, version: u32, steps: &[StepSpec]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"amarra.saga.1");
    text(&mut hasher, name);
    hasher.update(&version.to_le_bytes());
    length(&mut hasher, steps.len());
    for step in steps {
        text(&mut hasher, &step.name);
        text(&mut hasher, &step.kind.to_string());
        let shape: &[u8] = match step.inputs {
            Inputs::None => b"n",
            Inputs::One(_) => b"1",
            Inputs::Tuple(_) => b"t",
        };
        hasher.update(shape);
        length(&mut hasher, step.inputs.sources().len());
        for source in step.inputs.sources() {
            match source {
                Source::Input => hasher.update(b"i\0\0"),
                Source::Step(at) => hasher.update(b"s").update(&at.0.to_le_bytes()),
            };
        }
        length(&mut hasher, step.after.len());
        for at in &step.after {
            hasher.update(&at.0.to_le_bytes());
        }
    }
    let mut short = [0; 16];
    short.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    Fingerprint(short)
}

fn length(hasher: &mut blake3::Hasher, length: usize) {
    hasher.update(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
}

fn text(hasher: &mut blake3::Hasher, s: &str) {
    length(hasher, s.len());
    hasher.update(s.as_bytes());
}
