//! The number that an inbox by offset keeps per partition.

use super::{Admit, Gaps};
use crate::message::Offset;

/// The offset after the highest one admitted, stored in the transaction of the effect.
///
/// Whoever admits locks it until its transaction ends. That is the fence: a member that lost the
/// partition and commits late finds its offset admitted by its successor, or the successor finds
/// it admitted by the zombie; the effect happens once either way.
///
/// # Example
/// ```
/// use amarra_messaging::inbox::offset::Mark;
/// use amarra_messaging::inbox::{Admit, Gaps};
/// use amarra_messaging::message::Offset;
///
/// let mut mark = Mark::default();
/// assert_eq!(mark.admit(Offset(7), Gaps::Reported), Admit::Fresh, "a group may start anywhere");
/// assert_eq!(mark.admit(Offset(7), Gaps::Reported), Admit::Duplicate);
/// assert_eq!(mark.admit(Offset(9), Gaps::Reported), Admit::Gap { expected: 8 });
/// assert_eq!(mark.next, Some(Offset(10)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The next offset, none when nothing was admitted yet.
    pub next: Option<Offset>,
}

impl Mark {
    /// Admits an offset.
    pub fn admit(&mut self, offset: Offset, gaps: Gaps) -> Admit {
        let expected = self.next.unwrap_or(offset);
        if offset < expected {
            return Admit::Duplicate;
        }
        self.next = Some(offset.next());
        if offset > expected && gaps == Gaps::Reported {
            return Admit::Gap { expected: expected.0 };
        }
        Admit::Fresh
    }
}
