//! The laws of `Codec` for one message type: round trips, old payloads, and refusals.

use std::collections::BTreeSet;

use amarra_core::codec::Message;
use amarra_core::{Class, Classify, Codec, CodecError};

use crate::backend::CodecBackend;
use crate::check::{Must, envelope, refusal};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Codec` for one `CodecBackend`.
    codec_laws in codec for CodecBackend {
        Codec:
            "CDC-1" cdc_1_what_was_encoded_decodes_to_the_same,
            "CDC-1" cdc_1_encoding_is_repeatable,
            "CDC-2" cdc_2_every_older_version_decodes_to_what_it_meant,
            "CDC-3" cdc_3_a_newer_version_is_refused,
            "CDC-3" cdc_3_another_type_is_refused,
            "CDC-3" cdc_3_malformed_data_is_refused,
            "CDC-3" cdc_3_a_version_without_an_upcast_is_refused;
    }
}

fn decode<B: CodecBackend>(b: &B, version: u16, data: &[u8]) -> Result<B::Message, CodecError> {
    b.codec().decode_parts(B::Message::KIND, version, data)
}

#[track_caller]
fn assert_refused<T>(answer: Result<T, CodecError>, what: &str) -> CodecError {
    let e = refusal(answer, what);
    assert_eq!(e.class(), Class::Fatal, "{what}");
    e
}

/// By its parts and in an envelope.
pub async fn cdc_1_what_was_encoded_decodes_to_the_same<B: CodecBackend>(b: B) {
    assert!(!b.samples().is_empty(), "a backend without samples checks nothing");
    for message in b.samples() {
        let data = Codec::encode(&message).must("encode");
        let decoded = decode(&b, B::Message::SCHEMA_VERSION, &data).must("decode");
        assert_eq!(decoded, message);
        let mut around = envelope(&b.env(), "k", 1);
        around.kind = B::Message::KIND.into();
        around.schema_version = B::Message::SCHEMA_VERSION;
        around.data = data;
        assert_eq!(b.codec().decode::<B::Message>(&around).must("decode"), message);
    }
}

/// Equal messages have equal bytes, so hashes of them can be compared.
pub async fn cdc_1_encoding_is_repeatable<B: CodecBackend>(b: B) {
    for (x, y) in b.samples().iter().zip(b.samples()) {
        assert_eq!(Codec::encode(x).must("encode"), Codec::encode(&y).must("encode"));
    }
}

/// Golden payloads of each version there ever was.
pub async fn cdc_2_every_older_version_decodes_to_what_it_meant<B: CodecBackend>(b: B) {
    let golden = b.golden();
    let versions: BTreeSet<_> = golden.iter().map(|g| g.schema_version).collect();
    for version in 1..B::Message::SCHEMA_VERSION {
        assert!(versions.contains(&version), "there is no golden payload of version {version}");
    }
    for old in golden {
        let decoded = decode(&b, old.schema_version, &old.data).must("decode an old payload");
        assert_eq!(decoded, old.message, "version {}", old.schema_version);
    }
}

/// Even when it looks the same.
pub async fn cdc_3_a_newer_version_is_refused<B: CodecBackend>(b: B) {
    for message in b.samples() {
        let data = Codec::encode(&message).must("encode");
        let newer = B::Message::SCHEMA_VERSION.saturating_add(1);
        let e = assert_refused(decode(&b, newer, &data), "a newer version");
        assert!(matches!(e, CodecError::Newer { .. }), "{e}");
    }
}

/// Even when it looks the same.
pub async fn cdc_3_another_type_is_refused<B: CodecBackend>(b: B) {
    for message in b.samples() {
        let data = Codec::encode(&message).must("encode");
        let version = B::Message::SCHEMA_VERSION;
        let decoded = b.codec().decode_parts::<B::Message>("SomethingElse", version, &data);
        let e = assert_refused(decoded, "another type");
        assert!(matches!(e, CodecError::WrongKind { .. }), "{e}");
    }
}

/// Cut short, not JSON, or empty: never a default.
pub async fn cdc_3_malformed_data_is_refused<B: CodecBackend>(b: B) {
    for message in b.samples() {
        let data = Codec::encode(&message).must("encode");
        let cut = data.get(..data.len().saturating_sub(1)).unwrap_or_default();
        for bad in [cut, &b"\xff\xfe"[..], b"", b"{"] {
            assert_refused(decode(&b, B::Message::SCHEMA_VERSION, bad), "malformed data");
        }
    }
    for old in b.golden() {
        assert_refused(decode(&b, old.schema_version, b"{"), "a malformed old payload");
    }
}

/// Version 0 never was.
pub async fn cdc_3_a_version_without_an_upcast_is_refused<B: CodecBackend>(b: B) {
    for message in b.samples() {
        let data = Codec::encode(&message).must("encode");
        let e = assert_refused(decode(&b, 0, &data), "version 0");
        assert!(matches!(e, CodecError::NoUpcast { .. }), "{e}");
    }
}
