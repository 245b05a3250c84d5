//! What a study tells whoever watches it.

/// Told how a study gets on, from whichever thread is at work.
pub trait StudyObserver: Sync {
    /// A stage begins that is made of `cells`, of which `cached` are finished already.
    fn stage(&self, name: &str, cells: usize, cached: usize);
    /// A cell of the stage begins.
    fn cell(&self, what: &str);
    /// Work inside the cell: units done of units in all.
    fn work(&self, done: usize, total: usize);
    /// The cell is finished.
    fn cell_done(&self);
}

/// Watches nothing.
pub struct Silent;

impl StudyObserver for Silent {
    fn stage(&self, _: &str, _: usize, _: usize) {}
    fn cell(&self, _: &str) {}
    fn work(&self, _: usize, _: usize) {}
    fn cell_done(&self) {}
}
