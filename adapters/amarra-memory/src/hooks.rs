//! The two hooks of a server, bundled.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;

use crate::faults::{Faults, Site, Verdict};
use crate::observer::Observer;

/// What a server asks and tells; nothing by default.
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// use amarra_memory::{Faults, Hooks};
/// #[derive(Debug)]
/// struct Calm;
/// impl Faults for Calm {}
/// let hooks = Hooks::default().with_faults(Arc::new(Calm));
/// assert!(hooks.faults.is_some() && hooks.observer.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Decides what goes wrong.
    pub faults: Option<Arc<dyn Faults>>,
    /// Is told what became true.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Hooks {
    /// Asks `faults` at every operation.
    #[must_use]
    pub fn with_faults(self, faults: Arc<dyn Faults>) -> Self {
        Self { faults: Some(faults), ..self }
    }

    /// Tells `observer` of everything that becomes true.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    pub(crate) fn at(&self, site: &Site<'_>) -> Verdict {
        self.faults.as_ref().map_or(Verdict::PROCEED, |faults| faults.at(site))
    }
}

/// Waits for `d`; no time at all costs no timer.
pub(crate) async fn pause(env: &Environment, d: Duration) {
    if !d.is_zero() {
        env.sleep(d).await;
    }
}
