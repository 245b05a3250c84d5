//! Weights that are no numbers: one NaN makes every score of a model worthless, and a training run as well.
//!
//! Finding them costs a read of the weights, so it is done on the way of the hash, which most commands need anyway.

use std::sync::atomic::{AtomicUsize, Ordering};

use lopper_record::{Error, Fault, LayerPosition, LayerSet, Progress, Result, Step};
use rayon::prelude::*;

use super::{Checkpoint, Dtype, Located};
use crate::tensors::{EMBEDDING, expected_tensors, layer_of};

/// What reading a tensor has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub hash: blake3::Hash,
    /// The first value that is NaN or infinite: which one, and whether it is NaN.
    pub not_finite: Option<(usize, bool)>,
}

/// Looks for the first value that is not finite in the pieces of a tensor.
pub(super) struct Search {
    dtype: Dtype,
    bytes: usize,
    found: Option<(usize, bool)>,
}

impl Search {
    pub fn new(dtype: Dtype) -> Self {
        Self { dtype, bytes: 0, found: None }
    }

    /// The next piece, of whole values.
    pub fn update(&mut self, piece: &[u8]) {
        if self.found.is_none() {
            let found = match self.dtype {
                Dtype::F32 => first(piece.as_chunks::<4>().0, u32::from_le_bytes, 0x7f80_0000),
                Dtype::BF16 => first(piece.as_chunks::<2>().0, |b| u16::from_le_bytes(b).into(), 0x7f80),
                Dtype::F16 => first(piece.as_chunks::<2>().0, |b| u16::from_le_bytes(b).into(), 0x7c00),
                _ => None,
            };
            let width = (self.dtype.bitsize() / 8).max(1);
            self.found = found.map(|(at, nan)| (self.bytes / width + at, nan));
        }
        self.bytes += piece.len();
    }

    /// Which value is the first, and whether it is NaN.
    pub fn found(&self) -> Option<(usize, bool)> {
        self.found
    }
}

/// A value is not finite where its exponent is all ones, and NaN where its fraction is not zero as well.
fn first<const N: usize>(values: &[[u8; N]], bits: impl Fn([u8; N]) -> u32, exponent: u32) -> Option<(usize, bool)> {
    let is_found = |value: &[u8; N]| bits(*value) & exponent == exponent;
    // Without an early end, which keeps the loop over all weights of a model wide.
    if !values.iter().fold(false, |any, value| any | is_found(value)) {
        return None;
    }
    let at = values.iter().position(is_found)?;
    let fraction = (1 << exponent.trailing_zeros()) - 1;
    Some((at, bits(values[at]) & fraction != 0))
}

impl Checkpoint {
    /// Refuses weights of the layers `kept`, or outside the layers, that are NaN or infinite. Reads those that have not
    /// been read yet.
    ///
    /// Rows of the embedding are looked at only where the head is tied to it: tokens that no text has may be anything.
    ///
    /// # Errors
    /// A [`Fault`] that names the tensor; [`Interrupted`](lopper_record::Interrupted).
    pub fn check_finite(&self, kept: &LayerSet<LayerPosition>, progress: &dyn Progress) -> Result<()> {
        let config = self.config();
        let is_read = |name: &str| match layer_of(name) {
            Some((layer, _)) => kept.place(LayerPosition(layer)).is_some(),
            None => name != EMBEDDING || config.tie_word_embeddings,
        };
        let tensors: Vec<_> = expected_tensors(config).into_iter().filter(|(name, _)| is_read(name)).collect();
        let unread: Vec<&str> = {
            let scans = self.known_scans();
            tensors.iter().map(|(name, _)| name.as_str()).filter(|name| !scans.contains_key(*name)).collect()
        };
        let bytes = |name: &str| self.tensors.get(name).map_or(0, Located::byte_len);
        let step =
            progress.step(Step::new("checking weights", Step::BYTES, unread.iter().map(|name| bytes(name)).sum()));
        let done = AtomicUsize::new(0);
        unread.par_iter().try_for_each(|name| {
            step.check()?;
            self.tensor_hash(name)?;
            step.set(done.fetch_add(bytes(name), Ordering::Relaxed) + bytes(name));
            Ok::<_, Error>(())
        })?;
        let scans = self.known_scans();
        let found = tensors.iter().find_map(|(name, shape)| Some((name, shape, scans.get(name)?.not_finite?)));
        let Some((name, shape, (at, nan))) = found else { return Ok(()) };
        let what = if nan { "NaN" } else { "infinite" };
        let place = match shape[..] {
            [_, width] if width > 0 => format!("row {}, column {}", at / width, at % width),
            _ => format!("position {at}"),
        };
        Err(Fault::new(format!("the weights are not all numbers: `{name}` is {what} in {place}"))
            .file(self.directory().map_or_else(|| self.path_of(""), std::path::Path::to_path_buf))
            .expected("finite weights")
            .got(format!("{what} in `{name}`"))
            .hint(
                "the checkpoint is damaged, or was saved after its training had diverged; fetch or make it again, or cut \
                 the layer out with `lopper prune --drop`",
            )
            .into())
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn the_first_value_that_is_no_number_is_found_in_any_piece() {
        let values = [0.0f32, -1.5, f32::MAX, 1e-40, 3.0, f32::NAN, f32::INFINITY];
        for (dtype, width) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)] {
            let bytes = |values: &[f32]| -> Vec<u8> {
                let mut bytes = Vec::new();
                for value in values {
                    match dtype {
                        Dtype::F32 => bytes.extend(value.to_le_bytes()),
                        // The largest f32 is infinite in half precision.
                        Dtype::F16 => bytes.extend(f16::from_f32(value.clamp(-6e4, 6e4)).to_le_bytes()),
                        _ => bytes.extend(bf16::from_f32(value.clamp(-1e38, 1e38)).to_le_bytes()),
                    }
                }
                bytes
            };
            for piece in [1, 2, 7] {
                let mut search = Search::new(dtype);
                bytes(&values).chunks(piece * width).for_each(|piece| search.update(piece));
                assert_eq!(search.found(), Some((5, true)), "{dtype:?}");
            }
            let mut search = Search::new(dtype);
            search.update(&bytes(&values[..5]));
            assert_eq!(search.found(), None, "{dtype:?}");
        }
        let mut search = Search::new(Dtype::F32);
        search.update(&f32::NEG_INFINITY.to_le_bytes());
        assert_eq!(search.found(), Some((0, false)));
    }
}
