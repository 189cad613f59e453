//! Without threads to tell apart all calls are counted in one cell.

/// Never there.
#[derive(Debug)]
pub(super) struct Stripes;

/// One thread's cells; there are none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mine {}

impl Stripes {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn mine(&self) -> Option<Mine> {
        None
    }

    pub(super) fn mine_known(&self) -> Option<Mine> {
        None
    }

    pub(super) fn inflate(&self, _: u16) {}

    pub(super) fn count(&self, _: usize, _: u64) -> u64 {
        0
    }
}

impl Mine {
    pub(super) fn bump(self, _: usize, _: u64) -> bool {
        match self {}
    }

    pub(super) fn add(self, _: usize, _: u64) {
        match self {}
    }

    pub(super) fn add_read(self, _: usize, _: u64) {
        match self {}
    }
}
