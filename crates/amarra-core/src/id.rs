//! Typed ids: a value of one kind is never taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entropy::Entropy;
use crate::time::Timestamp;

/// Makes a UUID of version 7 from the ports: time-ordered, so indexes stay dense.
///
/// # Source
/// RFC 9562, section 5.7.
#[must_use]
pub fn uuid_v7(now: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.as_micros().div_euclid(1000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Declares newtypes over [`Uuid`] that parse, print and serialize as the UUID itself.
///
/// # Example
/// ```
/// amarra_core::uuid_ids! {
///     /// Names one parcel.
///     ParcelId
/// }
/// let id: ParcelId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
/// assert_eq!(id.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
/// ```
#[macro_export]
macro_rules! uuid_ids {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            $crate::id::reexport::Serialize, $crate::id::reexport::Deserialize,
        )]
        #[serde(crate = "amarra_core::id::reexport::serde", transparent)]
        pub struct $name($crate::id::reexport::Uuid);

        impl $name {
            /// Returns the UUID inside.
            #[must_use]
            pub const fn as_uuid(&self) -> $crate::id::reexport::Uuid {
                self.0
            }
        }

        impl From<$crate::id::reexport::Uuid> for $name {
            fn from(uuid: $crate::id::reexport::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::reexport::UuidError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    )+};
}

/// What [`uuid_ids!`](crate::uuid_ids) needs in scope of its caller.
#[doc(hidden)]
pub mod reexport {
    pub use serde::{self, Deserialize, Serialize};
    pub use uuid::{Error as UuidError, Uuid};
}

extern crate self as amarra_core;

uuid_ids! {
    /// Names one event or command, for ever: a retry carries the same id.
    EventId,
    /// Names the business process an event belongs to: an order or a saga.
    CorrelationId,
}

/// Declares newtypes over a shared string, for names that adapters store as text.
///
/// # Example
/// ```
/// amarra_core::text_ids! {
///     /// Names one warehouse.
///     Warehouse
/// }
/// assert_eq!(Warehouse::from("north").to_string(), "north");
/// ```
#[macro_export]
macro_rules! text_ids {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord,
            $crate::id::reexport::Serialize, $crate::id::reexport::Deserialize,
        )]
        #[serde(crate = "amarra_core::id::reexport::serde", transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Wraps a name.
            #[must_use]
            pub fn new(name: impl Into<std::sync::Arc<str>>) -> Self {
                Self(name.into())
            }

            /// Returns the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text_ids! {
    /// Orders messages: those of one key keep their order, those of two keys need not.
    PartitionKey,
}

/// Names one aggregate: its kind (`"order"`) and its id within the kind.
///
/// Ordered by kind and then id; a unit of work locks aggregates in this order, which is what keeps
/// two of them from waiting for each other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AggregateId {
    /// The kind, constant per aggregate type.
    pub kind: Arc<str>,
    /// The id within the kind; a natural key where the domain demands uniqueness.
    pub id: Arc<str>,
}

impl AggregateId {
    /// Names the aggregate `id` of `kind`.
    #[must_use]
    pub fn new(kind: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl fmt::Display for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl fmt::Debug for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts the saves of one aggregate: 0 before the first, and one more at each.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version of an aggregate that was never saved.
    pub const ABSENT: Self = Self(0);

    /// Makes a version from its count.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Returns the count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the version after one more save.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn v7_ids_order_by_time_and_repeat_by_seed() {
        let make = |micros| {
            EventId::from(uuid_v7(Timestamp::from_micros(micros), &SeededEntropy::new(3, "ids")))
        };
        assert!(make(1_000) < make(2_000));
        assert_eq!(make(5_000), make(5_000));
        assert_eq!(make(5_000).as_uuid().get_version_num(), 7);
    }

    #[test]
    fn aggregates_order_by_kind_then_id() {
        let (a, b, c) =
            (AggregateId::new("a", "9"), AggregateId::new("b", "1"), AggregateId::new("b", "2"));
        assert!(a < b && b < c);
        assert_eq!(c.to_string(), "b/2");
    }
}
