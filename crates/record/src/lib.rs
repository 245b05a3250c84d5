//! What every stage of the work shares and nothing that computes: layers as types, faults of the user's input,
//! progress, scores with intervals, the store of finished cells, and the record of a whole study, which is all that a
//! report reads. No tensors, no models.
//!
//! Layers are counted in three ways, each with a type, so that one cannot be taken for another: [`OriginalLayer`] in
//! the uncut model (what users write), [`LayerPosition`] in a loaded checkpoint (what criteria choose),
//! [`LayerSlot`] in an engine (what is run). A candidate is a [`LayerSet`] of slots to run:
//!
//! ```
//! use lopper_record::{LayerNumbering, LayerPosition, LayerSet};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let dropped: LayerSet<LayerPosition> = LayerSet::from([3, 8, 9]);
//! let kept = dropped.complement(12).slots();
//! assert_eq!(kept, LayerSet::from([0, 1, 2, 4, 5, 6, 7, 10, 11]));
//! // The same layers as users and plans count them; `lopper_prune::layer_numbering` reads it from a checkpoint.
//! assert_eq!(LayerNumbering::uncut(12).originals(&dropped)?.to_string(), "3,8,9");
//! # Ok(())
//! # }
//! ```
//!
//! A computation that is found again instead of done twice:
//!
//! ```
//! use lopper_record::{LayerSet, NoProgress, Store};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let directory = tempfile::tempdir()?;
//! let store = Store::open(directory.path())?;
//! let dropped = LayerSet::parse("3,8-9", 12)?;
//! // Everything that changes the result belongs into the key.
//! let key = serde_json::json!({"model": "pocket", "dropped": dropped});
//! let first = store.run("score", &key, &NoProgress, || Ok(0.75))?;
//! let again = store.run("score", &key, &NoProgress, || lopper_record::bail!("not computed again"))?;
//! assert_eq!((first.value, again.value, again.cached), (0.75, 0.75, true));
//! # Ok(())
//! # }
//! ```

mod canonical;
mod changes;
mod error;
mod fault;
pub mod finite;
mod interval;
mod layers;
mod lock;
mod progress;
mod scratch;
mod side_files;
mod store;
pub mod study;
mod write;

#[doc(hidden)]
pub use anyhow;
pub use canonical::{canonical_json, key_hash};
pub use changes::changed_keys;
pub use error::{Context, Error, Result};
pub use fault::Fault;
pub use interval::{Retention, Score};
pub use layers::{LayerIndex, LayerNumbering, LayerPosition, LayerSet, LayerSlot, OriginalLayer, format_ranges};
pub use lock::{Claim, Claimed, OutputLock, StudyLock};
pub use progress::{Interrupted, NoProgress, Progress, Step};
pub use scratch::Scratch;
pub use side_files::is_side_file;
pub use store::{Cell, Finished, Store};
pub use study::StudyRecord;
pub use write::{ensure_new, ensure_new_file, ensure_writable, with_ending, write_atomic, write_atomic_with};
