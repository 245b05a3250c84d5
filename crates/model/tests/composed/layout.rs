//! What every layer of one pass shares: rotary tables, the causal mask, and the way from packed
//! rows to a rectangle of sequences and back.
//!
//! Sequences are padded on the right, so the causal mask alone hides the padding from every real
//! row; padding repeats row 0 and its results are never read.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use lopper_model::kernels::rope::{RopeRows, Rotary};
use lopper_model::{Batch, Config, LayerKind};

pub struct Layout {
    /// Packed rows.
    pub rows: usize,
    /// Sequences.
    sequences: usize,
    /// Longest sequence.
    longest: usize,
    /// Packed row of each place of the rectangle, and place of each packed row; none where the
    /// rectangle is full, because then both are the identity.
    indices: Option<(Tensor, Tensor)>,
    /// For each window that layers have: `[longest, longest]`, 0 where a row sees a column, −∞
    /// elsewhere.
    masks: Vec<(Option<usize>, Tensor)>,
    /// For each rotary embedding, cosines and sines: `[rows, 1, rotary_dim/2]`.
    pub ropes: Vec<(Tensor, Tensor)>,
}

impl Layout {
    pub fn new(batch: &Batch, config: &Config) -> Result<Self> {
        let (rows, device) = (batch.len(), &Device::Cpu);
        ensure!(rows > 0, "an empty batch");
        ensure!(batch.positions.len() == rows && batch.bounds.last() == Some(&rows), "a batch that contradicts itself");
        let lengths: Vec<usize> = batch.bounds.windows(2).map(|w| w[1] - w[0]).collect();
        let starts = batch.bounds.iter().zip(&lengths).filter(|(_, length)| **length > 0);
        for (&start, _) in starts {
            ensure!(batch.positions[start] == 0, "the composed decoder has no cache: sequences begin at position 0");
        }
        let (sequences, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        ensure!(batch.positions.iter().all(|p| (*p as usize) < longest), "a position beyond its sequence");
        let indices = if sequences * longest == rows {
            None
        } else {
            let mut to_padded = vec![0u32; sequences * longest];
            let mut to_packed = Vec::with_capacity(rows);
            for (sequence, (&start, &length)) in batch.bounds.iter().zip(&lengths).enumerate() {
                for t in 0..length {
                    to_padded[sequence * longest + t] = u32::try_from(start + t)?;
                    to_packed.push(u32::try_from(sequence * longest + t)?);
                }
            }
            Some((Tensor::new(to_padded, device)?, Tensor::new(to_packed, device)?))
        };
        let mut masks: Vec<(Option<usize>, Tensor)> = Vec::new();
        for window in config.layers.iter().map(|layer| layer.window) {
            if masks.iter().any(|(other, _)| *other == window) {
                continue;
            }
            let seen = |row: usize, column: usize| column <= row && window.is_none_or(|window| row - column < window);
            let values = (0..longest).flat_map(|row| (0..longest).map(move |column| (row, column)));
            let values: Vec<f32> =
                values.map(|(row, column)| if seen(row, column) { 0.0 } else { f32::NEG_INFINITY }).collect();
            masks.push((window, Tensor::from_vec(values, (longest, longest), device)?));
        }
        let mut ropes = Vec::with_capacity(config.ropes.len());
        for rope in &config.ropes {
            let RopeRows { cos, sin, .. } = Rotary::new(rope.clone()).rows(&batch.positions, &batch.bounds);
            let shape = (rows, 1, cos.len() / rows);
            ropes.push((Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?));
        }
        Ok(Self { rows, sequences, longest, indices, masks, ropes })
    }

    /// The mask of a layer of this kind.
    pub fn mask(&self, kind: LayerKind) -> candle_core::Result<&Tensor> {
        let found = self.masks.iter().find(|(window, _)| *window == kind.window);
        found
            .map(|(_, mask)| mask)
            .ok_or_else(|| candle_core::Error::Msg("a layer that the configuration lacks".into()))
    }

    /// `[rows, heads, d]` to `[sequences, heads, longest, d]`.
    pub fn pad(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (_, heads, d) = x.dims3()?;
        let padded = match &self.indices {
            None => x.clone(),
            Some((to_padded, _)) => x.contiguous()?.index_select(to_padded, 0)?,
        };
        padded.reshape((self.sequences, self.longest, heads, d))?.transpose(1, 2)?.contiguous()
    }

    /// `[sequences, heads, longest, d]` to `[rows, heads·d]`.
    pub fn pack(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (_, heads, _, d) = x.dims4()?;
        let places = x.transpose(1, 2)?.contiguous()?.reshape((self.sequences * self.longest, heads * d))?;
        match &self.indices {
            None => Ok(places),
            Some((_, to_packed)) => places.index_select(to_packed, 0),
        }
    }
}
