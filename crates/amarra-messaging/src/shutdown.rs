//! Asks long-running drivers to stop, and lets them finish what they have begun.

use tokio::sync::watch;

/// Resolves once a stop was requested; every driver takes a clone of it.
///
/// # Example
/// ```
/// use amarra_messaging::Shutdown;
///
/// let (handle, shutdown) = Shutdown::new();
/// assert!(!shutdown.is_requested());
/// handle.request();
/// assert!(shutdown.clone().is_requested());
/// ```
#[derive(Debug, Clone)]
pub struct Shutdown(Option<watch::Receiver<bool>>);

impl Shutdown {
    /// Makes a handle and what it stops.
    #[must_use]
    pub fn new() -> (ShutdownHandle, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownHandle(sender), Self(Some(receiver)))
    }

    /// Makes one that is never requested, for a process that is only ever killed.
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// Tells whether a stop was requested, or can no longer be because the handle is gone.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.as_ref().is_some_and(|r| *r.borrow() || r.has_changed().is_err())
    }

    /// Returns once a stop is requested, or the handle is dropped.
    ///
    /// # Cancellation
    /// Dropping the future forgets the wait; the request is not consumed.
    pub async fn requested(&self) {
        match self.0.clone() {
            Some(mut receiver) => drop(receiver.wait_for(|requested| *requested).await),
            None => std::future::pending().await,
        }
    }
}

/// Requests the stop of everything that holds its [`Shutdown`].
///
/// Dropping it requests the stop too: nobody is left who could.
#[derive(Debug)]
pub struct ShutdownHandle(watch::Sender<bool>);

impl ShutdownHandle {
    /// Requests the stop; again is harmless.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_request_reaches_every_clone_and_stays() {
        let (handle, shutdown) = Shutdown::new();
        let other = shutdown.clone();
        assert!(other.requested().now_or_never().is_none());
        handle.request();
        handle.request();
        for seen in [&shutdown, &other, &other] {
            assert!(seen.requested().now_or_never().is_some());
        }
    }

    #[test]
    fn never_is_never() {
        let never = Shutdown::never();
        assert!(!never.is_requested());
        assert!(never.requested().now_or_never().is_none());
    }

    #[test]
    fn a_dropped_handle_is_a_request() {
        let (handle, shutdown) = Shutdown::new();
        drop(handle);
        assert!(shutdown.is_requested());
        assert!(shutdown.requested().now_or_never().is_some());
    }
}
