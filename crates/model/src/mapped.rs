//! Weights that stay in their file: matrices used straight from the checkpoint's memory map, in the
//! dtype in which they are stored.
//!
//! Mapped pages are the system's file cache: they cost no second copy and can be taken back by the
//! system at any time. A streamed model gives them back itself as soon as a layer has been used, so
//! that a model larger than memory runs in little more than its activations. Training an adapter reads
//! frozen matrices from there as well.

use crate::checkpoint::Checkpoint;
use crate::kernels::weight::{Format, Weight};
use safetensors::tensor::Dtype;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a matrix that are in memory at a time under [`Release::Block`].
const BLOCK_BYTES: usize = 16 << 20;

/// A matrix in a checkpoint's file.
#[derive(Clone)]
pub struct MappedWeight {
    checkpoint: Arc<Checkpoint>,
    name: Arc<str>,
    cols: usize,
    release: Release,
}

/// When the pages of a matrix are given back to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Never by the model itself: memory that the system can take back holds all of them.
    Never,
    /// Once everything that goes through its layer has done so: two layers' worth of memory.
    Layer,
    /// A few megabytes at a time, for a single pass: each pass reads them again.
    Block,
}

impl fmt::Debug for MappedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedWeight({})", self.name)
    }
}

impl MappedWeight {
    /// The matrix `name` of `checkpoint`, of `cols` columns; opening the checkpoint has checked
    /// that it is there and how it is stored.
    pub(crate) fn new(checkpoint: Arc<Checkpoint>, name: &str, cols: usize, release: Release) -> Self {
        Self { checkpoint, name: name.into(), cols, release }
    }

    /// Whether both are the same tensor of one open checkpoint.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.checkpoint, &other.checkpoint) && self.name == other.name
    }

    /// When pages are given back.
    pub(crate) fn release_policy(&self) -> Release {
        self.release
    }

    /// The whole matrix.
    pub(crate) fn weight(&self) -> Weight<'_> {
        let Ok(view) = self.checkpoint.tensor(&self.name) else {
            unreachable!("a checkpoint loses no tensor while it is open");
        };
        let format = match view.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => unreachable!("opening refuses weights stored as {other}"),
        };
        Weight { bytes: view.data, format, inputs: self.cols }
    }

    /// Gives the matrix's pages back, where the model is streamed.
    pub(crate) fn release(&self) {
        if self.release != Release::Never {
            self.checkpoint.release(&self.name, 0..self.weight().bytes.len());
        }
    }

    /// Gives the matrix's pages back, whatever the policy: it has been quantised, and is read no more for now.
    pub(crate) fn release_all(&self) {
        self.checkpoint.release(&self.name, 0..self.weight().bytes.len());
    }

    /// Rows that are used at a time before their pages are given back; none where they stay.
    pub(crate) fn block_rows(&self) -> Option<usize> {
        let row = self.weight().format.bytes() * self.cols;
        (self.release == Release::Block).then(|| (BLOCK_BYTES / row).next_multiple_of(64))
    }

    /// Gives the pages of some rows back.
    pub(crate) fn release_rows(&self, rows: Range<usize>) {
        let row = self.weight().format.bytes() * self.cols;
        self.checkpoint.release(&self.name, rows.start * row..rows.end * row);
    }
}
