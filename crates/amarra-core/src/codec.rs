//! Encodes payloads, upcasts old versions and refuses unknown ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::class::{Class, Classify};
use crate::envelope::Envelope;

/// A payload with a published name and schema version.
pub trait Message: Serialize + DeserializeOwned + Send + Sync {
    /// The published name of the type, as foreign services know it.
    const KIND: &'static str;
    /// The version this code writes, 1 at first.
    const SCHEMA_VERSION: u16 = 1;
}

/// Lifts a payload from one schema version to the next.
pub type Upcast = fn(Value) -> Result<Value, String>;

/// Decodes payloads whatever version they were written in.
///
/// # Laws
/// - CDC-1 `decode(encode(m)) == m` for the current version.
/// - CDC-2 an older version decodes when an upcast is registered for each step up to the current.
/// - CDC-3 a newer version, another type and malformed data are errors, never defaults.
///
/// # Example
/// ```
/// use amarra_core::codec::{Codec, Message};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Shipped { parcel: u32, carrier: String }
/// impl Message for Shipped {
///     const KIND: &'static str = "Shipped";
///     const SCHEMA_VERSION: u16 = 2;
/// }
///
/// let codec = Codec::new().upcast("Shipped", 1, |mut old| {
///     old["carrier"] = "post".into();
///     Ok(old)
/// });
/// let old = br#"{"parcel":7}"#;
/// let shipped: Shipped = codec.decode_parts("Shipped", 1, old).unwrap();
/// assert_eq!(shipped, Shipped { parcel: 7, carrier: "post".into() });
/// assert!(codec.decode_parts::<Shipped>("Shipped", 3, old).is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Codec {
    upcasts: BTreeMap<(Arc<str>, u16), Upcast>,
}

impl Codec {
    /// Makes a codec without upcasts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers how to lift `kind` from version `from` to `from + 1`.
    #[must_use]
    pub fn upcast(mut self, kind: &str, from: u16, lift: Upcast) -> Self {
        self.upcasts.insert((kind.into(), from), lift);
        self
    }

    /// Encodes a payload as JSON.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when the type refuses to serialize: a bug of ours.
    pub fn encode<M: Message>(message: &M) -> Result<Bytes, CodecError> {
        serde_json::to_vec(message)
            .map(Bytes::from)
            .map_err(|source| CodecError::Encode { kind: M::KIND, source })
    }

    /// Decodes an envelope's payload.
    ///
    /// # Errors
    /// See [`Codec::decode_parts`].
    pub fn decode<M: Message>(&self, envelope: &Envelope) -> Result<M, CodecError> {
        self.decode_parts(&envelope.kind, envelope.schema_version, &envelope.data)
    }

    /// Decodes a payload from its name, version and bytes.
    ///
    /// # Errors
    /// [`CodecError`]: another type, a newer version, a missing upcast or malformed data.
    pub fn decode_parts<M: Message>(
        &self,
        kind: &str,
        version: u16,
        data: &[u8],
    ) -> Result<M, CodecError> {
        if kind != M::KIND {
            return Err(CodecError::WrongKind { expected: M::KIND, got: kind.to_owned() });
        }
        if version > M::SCHEMA_VERSION {
            return Err(CodecError::Newer {
                kind: M::KIND,
                known: M::SCHEMA_VERSION,
                got: version,
            });
        }
        let malformed = |source| CodecError::Malformed { kind: M::KIND, version, source };
        if version == M::SCHEMA_VERSION {
            return serde_json::from_slice(data).map_err(malformed);
        }
        let mut value: Value = serde_json::from_slice(data).map_err(malformed)?;
        for from in version..M::SCHEMA_VERSION {
            let lift = self
                .upcasts
                .get(&(M::KIND.into(), from))
                .ok_or(CodecError::NoUpcast { kind: M::KIND, from })?;
            value = lift(value).map_err(|why| CodecError::Upcast { kind: M::KIND, from, why })?;
        }
        serde_json::from_value(value).map_err(malformed)
    }
}

/// Why a payload could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The envelope carries another type. Fatal for a handler that asked for this one: park it.
    #[error("expected a {expected}, got a {got:?}")]
    WrongKind {
        /// What was asked for.
        expected: &'static str,
        /// What the envelope says.
        got: String,
    },
    /// Written by a newer release. Park it and upgrade this service.
    #[error("{kind} has schema version {got}, this service knows up to {known}: upgrade it first")]
    Newer {
        /// The type.
        kind: &'static str,
        /// The newest version known here.
        known: u16,
        /// The version found.
        got: u16,
    },
    /// An old version nobody registered an upcast for. Park it and register one.
    #[error("{kind} has no upcast from schema version {from}: register one with Codec::upcast")]
    NoUpcast {
        /// The type.
        kind: &'static str,
        /// The version it stopped at.
        from: u16,
    },
    /// An upcast refused its input. Park it and mend the upcast.
    #[error("upcast of {kind} from schema version {from} failed: {why}")]
    Upcast {
        /// The type.
        kind: &'static str,
        /// The version it started from.
        from: u16,
        /// What the upcast said.
        why: String,
    },
    /// The data is not what the schema says. Park it and ask its publisher.
    #[error("{kind} version {version} is malformed")]
    Malformed {
        /// The type.
        kind: &'static str,
        /// The version the envelope claims.
        version: u16,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The type refused to serialize: a bug of ours.
    #[error("{kind} does not serialize")]
    Encode {
        /// The type.
        kind: &'static str,
        /// What the serializer said.
        source: serde_json::Error,
    },
}

impl Classify for CodecError {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Moved {
        to: String,
        steps: u32,
    }

    impl Message for Moved {
        const KIND: &'static str = "Moved";
        const SCHEMA_VERSION: u16 = 3;
    }

    fn codec() -> Codec {
        Codec::new()
            .upcast("Moved", 1, |mut v| {
                v["steps"] = v.get("n").cloned().ok_or("no n")?;
                Ok(v)
            })
            .upcast("Moved", 2, |mut v| {
                v["to"] = "home".into();
                Ok(v)
            })
    }

    #[test]
    fn upcasts_chain_from_the_oldest_version() {
        let moved: Moved = codec().decode_parts("Moved", 1, br#"{"n":2}"#).unwrap();
        assert_eq!(moved, Moved { to: "home".into(), steps: 2 });
    }

    #[test]
    fn every_kind_of_bad_input_is_its_own_error() {
        let check = |kind: &str, version, data: &[u8], expect: &str| {
            let error = codec().decode_parts::<Moved>(kind, version, data).unwrap_err();
            assert!(error.to_string().contains(expect), "{error} lacks {expect:?}");
            assert_eq!(error.class(), Class::Fatal);
        };
        check("Other", 3, b"{}", "expected a Moved");
        check("Moved", 4, b"{}", "upgrade it first");
        check("Moved", 1, b"{}", "no n");
        check("Moved", 0, b"{}", "no upcast");
        check("Moved", 3, b"{", "malformed");
    }
}
