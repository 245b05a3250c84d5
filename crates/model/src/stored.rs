//! Weights that stay in their file: a matrix whose rows are converted to `f32` block by block as
//! they are used, so that a model runs in little more memory than its activations.
//!
//! Blocks are read through the checkpoint's memory map, and their pages are given back after use, so
//! that what has been read does not count as the program's memory (the system's file cache keeps
//! it as long as it likes). Only inference reads stored weights; training, decoding with packed
//! weights and the composed twin need them resident and say so.

use crate::checkpoint::Checkpoint;
use crate::kernels::Par;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Values converted at a time: 4 MB of `f32`.
const BLOCK_VALUES: usize = 1 << 20;

/// A matrix in a checkpoint's file.
#[derive(Clone)]
pub struct Stored {
    checkpoint: Arc<Checkpoint>,
    name: Arc<str>,
    cols: usize,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({})", self.name)
    }
}

impl Stored {
    /// The matrix `name` of `checkpoint`, of `cols` columns; opening the checkpoint has checked
    /// that it is there and how it is stored.
    pub(crate) fn new(checkpoint: Arc<Checkpoint>, name: &str, cols: usize) -> Self {
        Self { checkpoint, name: name.into(), cols }
    }

    /// The values of the given rows, appended to `out`.
    pub(crate) fn rows(&self, par: Par, rows: Range<usize>, out: &mut Vec<f32>) {
        let Ok(view) = self.checkpoint.tensor(&self.name) else {
            unreachable!("a checkpoint loses no tensor while it is open");
        };
        let width = view.dtype.bitsize() / 8;
        let range = rows.start * self.cols * width..rows.end * self.cols * width;
        let bytes = &view.data[range.clone()];
        let start = out.len();
        out.resize(start + rows.len() * self.cols, 0.0);
        convert(par, view.dtype, bytes, &mut out[start..]);
        self.checkpoint.release(&self.name, range);
    }

    /// Calls `f` with blocks of rows, from the first to the last of `rows` rows.
    pub(crate) fn blocks(&self, par: Par, rows: usize, f: &mut dyn FnMut(Range<usize>, &[f32])) {
        let step = (BLOCK_VALUES / self.cols).max(1);
        let mut values = Vec::new();
        for first in (0..rows).step_by(step) {
            let block = first..(first + step).min(rows);
            values.clear();
            self.rows(par, block.clone(), &mut values);
            f(block, &values);
        }
    }
}

fn convert(par: Par, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let piece = |bytes: &[u8], out: &mut [f32]| match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().zip(out).for_each(|(b, o)| *o = f32::from_le_bytes(*b)),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().zip(out).for_each(|(b, o)| *o = f16::from_le_bytes(*b).to_f32()),
        Dtype::BF16 => {
            bytes.as_chunks::<2>().0.iter().zip(out).for_each(|(b, o)| *o = bf16::from_le_bytes(*b).to_f32());
        }
        other => unreachable!("opening refuses weights stored as {other}"),
    };
    const PIECE: usize = 1 << 16;
    let width = dtype.bitsize() / 8;
    if par.threads() > 1 && out.len() > PIECE {
        out.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * width)).for_each(|(out, bytes)| piece(bytes, out));
    } else {
        piece(bytes, out);
    }
}
