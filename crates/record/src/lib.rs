//! What every stage shares and nothing that computes: faults of the user's input, layer lists,
//! scores with intervals, the store of finished cells and the record of a whole study, which is
//! all that a report reads. No tensor dependency.

mod canonical;
mod error;
mod fault;
pub mod finite;
mod interval;
mod layers;
mod lock;
mod progress;
mod side_files;
mod store;
pub mod study;
mod write;

pub use canonical::{canonical_json, key_hash};
pub use error::{Error, Result};
pub use fault::Fault;
pub use interval::{Retention, Score};
pub use layers::{LayerIndex, LayerNumbering, LayerPosition, LayerSet, LayerSlot, OriginalLayer, format_ranges};
pub use lock::StudyLock;
pub use progress::{Interrupted, NoProgress, Progress, Step};
pub use side_files::is_side_file;
pub use store::{Cell, Finished, Store};
pub use study::StudyRecord;
pub use write::{ensure_new, write_atomic, write_atomic_with};
