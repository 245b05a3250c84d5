//! Rotary position embedding in the half-split layout that Hugging Face checkpoints use: of the
//! `rotary_dim` values that are rotated, value `i` of a head is rotated with value
//! `i + rotary_dim/2`; the rest of the head stays. Su et al., arXiv 2104.09864.
//!
//! The stretchings for long texts follow `modeling_rope_utils.py` of transformers. Two of them
//! depend on how long the text is ([`RopeScaling::Dynamic`], [`RopeScaling::LongRope`]); they are
//! resolved for each sequence by its own length, which is what transformers does with one sequence
//! at a time.

use super::vectorised;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

/// How the wavelengths of a rotary embedding are stretched for texts longer than those of the
/// pretraining. Formulas: `modeling_rope_utils.py` of transformers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// As pretrained.
    Default,
    /// Every position divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// A base that grows with the length of the text once it exceeds `max_positions`.
    Dynamic {
        /// How fast it grows.
        factor: f64,
        /// The length up to which nothing changes.
        max_positions: usize,
    },
    /// Llama 3.1: long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_positions / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_positions / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Longest text of the pretraining.
        original_max_positions: usize,
    },
    /// YaRN (Peng et al., arXiv 2309.00071).
    Yarn {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Rotations within the original context above which a dimension is kept.
        beta_fast: f64,
        /// Rotations below which it is divided.
        beta_slow: f64,
        /// Longest text of the pretraining.
        original_max_positions: usize,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
    /// LongRoPE (Phi-3): each frequency divided by a factor of its own, one list for texts up to
    /// `original_max_positions` tokens and one for longer ones.
    #[serde(rename = "longrope")]
    LongRope {
        /// Divisors for short texts, one per frequency.
        short_factor: Vec<f64>,
        /// Divisors for long texts.
        long_factor: Vec<f64>,
        /// The longest short text.
        original_max_positions: usize,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the geometric progression of wavelengths (`rope_theta`).
    pub theta: f64,
    /// How many values of a head, from its first on, are rotated; even.
    pub rotary_dim: usize,
    /// Stretching for long texts.
    pub scaling: RopeScaling,
}

impl Rope {
    /// The embedding as pretrained, over `rotary_dim` values of each head.
    pub fn plain(theta: f64, rotary_dim: usize) -> Self {
        Self { theta, rotary_dim, scaling: RopeScaling::Default }
    }
}

/// Angles per position of each of the `rotary_dim/2` frequencies for texts of `length` tokens, and
/// what cosines and sines are multiplied by.
pub fn frequencies(rope: &Rope, length: usize) -> (Vec<f32>, f32) {
    let dim = rope.rotary_dim;
    // In f32 where transformers computes in f32, so that far positions agree.
    let wavelength = |base: f64, i: usize| base.powf(f64::from((2 * i) as f32 / dim as f32)) as f32;
    let plain = |base: f64| (0..dim / 2).map(move |i| 1.0 / wavelength(base, i)).collect::<Vec<f32>>();
    match &rope.scaling {
        RopeScaling::Default => (plain(rope.theta), 1.0),
        RopeScaling::Linear { factor } => {
            (plain(rope.theta).into_iter().map(|frequency| frequency / *factor as f32).collect(), 1.0)
        }
        RopeScaling::Dynamic { factor, max_positions } => {
            let max = *max_positions as f64;
            let stretched = factor * length.max(*max_positions) as f64 / max - (factor - 1.0);
            // With two values there is but one frequency, 1, whatever the base.
            let power = if dim > 2 { dim as f64 / (dim - 2) as f64 } else { 0.0 };
            (plain(rope.theta * stretched.powf(power)), 1.0)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
            let original = *original_max_positions as f64;
            let scaled = plain(rope.theta).into_iter().map(|frequency| {
                let wavelength = std::f64::consts::TAU / f64::from(frequency);
                if wavelength > original / low_freq_factor {
                    frequency / *factor as f32
                } else if wavelength < original / high_freq_factor {
                    frequency
                } else {
                    let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    ((1.0 - smooth) * f64::from(frequency) / factor + smooth * f64::from(frequency)) as f32
                }
            });
            (scaled.collect(), 1.0)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, attention_factor, truncate } => {
            let original = *original_max_positions as f64;
            // The dimension that turns `rotations` times within the original context.
            let dimension = |rotations: f64| {
                dim as f64 * (original / (rotations * std::f64::consts::TAU)).ln() / (2.0 * rope.theta.ln())
            };
            let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min((dim - 1) as f64));
            if low == high {
                high += 0.001;
            }
            let blended = (0..dim / 2).map(|i| {
                let wavelength = wavelength(rope.theta, i);
                let (kept, divided) = (1.0 / wavelength, 1.0 / (*factor as f32 * wavelength));
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
                divided * ramp + kept * (1.0 - ramp)
            });
            (blended.collect(), *attention_factor as f32)
        }
        RopeScaling::LongRope { short_factor, long_factor, original_max_positions, attention_factor } => {
            let factors = if length > *original_max_positions { long_factor } else { short_factor };
            let divided = factors.iter().enumerate().map(|(i, f)| 1.0 / (*f as f32 * wavelength(rope.theta, i)));
            (divided.collect(), *attention_factor as f32)
        }
    }
}

/// How the frequencies of a text depend on its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// As for every short text.
    Short,
    /// As for every long text.
    Long,
    /// For this length alone.
    Own(usize),
}

impl Class {
    fn of(rope: &Rope, length: usize) -> Self {
        match &rope.scaling {
            RopeScaling::Dynamic { max_positions, .. } if length > *max_positions => Self::Own(length),
            RopeScaling::LongRope { original_max_positions, .. } if length > *original_max_positions => Self::Long,
            _ => Self::Short,
        }
    }
}

/// Whether the tokens of a text of `longer` tokens are rotated otherwise than those of its first
/// `shorter` tokens, so that keys of the latter do not fit the former.
pub fn changes_between(rope: &Rope, shorter: usize, longer: usize) -> bool {
    Class::of(rope, shorter) != Class::of(rope, longer)
}

/// Cosines and sines for positions `0..len`, `[len, half]` each.
#[derive(Debug, Clone, Default)]
struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    fn new(rope: &Rope, length: usize, positions: std::ops::Range<usize>) -> Self {
        let (frequencies, factor) = frequencies(rope, length);
        let angles = positions.flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let (cos, sin) =
            angles.map(|a| (f64::from(a).cos() as f32 * factor, f64::from(a).sin() as f32 * factor)).unzip();
        Self { cos, sin }
    }
}

/// The rotary embedding of a model, with tables that grow as longer texts come.
#[derive(Debug)]
pub struct Rotary {
    rope: Rope,
    /// For short and for long texts.
    tables: Mutex<[Arc<Table>; 2]>,
}

impl Rotary {
    /// An embedding without any table yet.
    pub fn new(rope: Rope) -> Self {
        Self { rope, tables: Mutex::default() }
    }

    /// Cosines and sines of the tokens of packed sequences: the position of each token in its text, and the token
    /// numbers at which sequences begin, with the end: `[0, …, n]`.
    pub fn rows(&self, positions: &[u32], bounds: &[usize]) -> RopeRows {
        let half = self.rope.rotary_dim / 2;
        let mut rows = RopeRows { half, ..RopeRows::default() };
        rows.cos.reserve(positions.len() * half);
        rows.sin.reserve(positions.len() * half);
        for w in bounds.windows(2) {
            let Some(&last) = positions[w[0]..w[1]].last() else { continue };
            self.append(&positions[w[0]..w[1]], last as usize + 1, &mut rows);
        }
        rows
    }

    fn append(&self, positions: &[u32], length: usize, rows: &mut RopeRows) {
        let half = rows.half;
        let (table, first) = match Class::of(&self.rope, length) {
            Class::Short => (self.table(0, length), 0),
            Class::Long => (self.table(1, length), 0),
            Class::Own(length) => {
                let first = positions.first().map_or(0, |p| *p as usize);
                (Arc::new(Table::new(&self.rope, length, first..length)), first)
            }
        };
        for position in positions {
            let at = (*position as usize - first) * half;
            rows.cos.extend_from_slice(&table.cos[at..at + half]);
            rows.sin.extend_from_slice(&table.sin[at..at + half]);
        }
    }

    fn table(&self, class: usize, needed: usize) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let table = &mut tables[class];
        let half = self.rope.rotary_dim / 2;
        if table.cos.len() < needed * half {
            let positions = needed.next_power_of_two().max(256);
            // Any length of the class gives its frequencies; short texts are as long as one token.
            let length = if class == 0 { 1 } else { needed };
            *table = Arc::new(Table::new(&self.rope, length, 0..positions));
        }
        table.clone()
    }
}

/// Cosines and sines of the tokens of one pass, `[n, half]` each.
#[derive(Debug, Clone, Default)]
pub struct RopeRows {
    half: usize,
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl RopeRows {
    /// The given ranges of rows, one after another.
    pub fn gather(&self, ranges: &[std::ops::Range<usize>]) -> Self {
        let take =
            |all: &[f32]| ranges.iter().flat_map(|r| all[r.start * self.half..r.end * self.half].to_vec()).collect();
        Self { half: self.half, cos: take(&self.cos), sin: take(&self.sin) }
    }

    /// Turns every head of every row of `x` (`[n, heads·head_dim]`) in place; `transpose` applies
    /// the transposed matrix, which is the gradient (and, without a factor, turns back).
    pub fn apply(&self, x: &mut [f32], head_dim: usize, transpose: bool) {
        let half = self.half;
        if self.cos.is_empty() {
            assert!(x.is_empty() || half == 0, "rope: shapes disagree");
            return;
        }
        let rows = self.cos.len() / half;
        let row = x.len() / rows;
        assert!(row * rows == x.len() && row.is_multiple_of(head_dim) && 2 * half <= head_dim, "rope: shapes disagree");
        let sign = if transpose { -1.0 } else { 1.0 };
        vectorised(
            #[inline(always)]
            || {
                let tables = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
                for (row, (cos, sin)) in x.chunks_exact_mut(row).zip(tables) {
                    for head in row.chunks_exact_mut(head_dim) {
                        let (low, high) = head[..2 * half].split_at_mut(half);
                        for i in 0..half {
                            let (a, b, s) = (low[i], high[i], sin[i] * sign);
                            low[i] = a * cos[i] - b * s;
                            high[i] = b * cos[i] + a * s;
                        }
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of whole texts of these lengths.
    fn whole(rotary: &Rotary, lengths: &[u32]) -> RopeRows {
        let positions: Vec<u32> = lengths.iter().flat_map(|length| 0..*length).collect();
        let ends = lengths.iter().scan(0, |end, length| {
            *end += *length as usize;
            Some(*end)
        });
        rotary.rows(&positions, &std::iter::once(0).chain(ends).collect::<Vec<_>>())
    }

    /// The rows of one token at each of the positions, each the last of its text.
    fn last(rotary: &Rotary, positions: &[u32]) -> RopeRows {
        rotary.rows(positions, &(0..=positions.len()).collect::<Vec<_>>())
    }

    #[test]
    fn tables_grow_and_single_rows_are_those_of_the_whole_text() {
        let rotary = Rotary::new(Rope::plain(10_000.0, 8));
        let texts = whole(&rotary, &[700, 3]);
        assert_eq!(texts.cos.len(), 703 * 4);
        assert_eq!(texts.cos[..12], texts.cos[700 * 4..]);
        let single = last(&rotary, &[699, 2]);
        assert_eq!(single.cos[..4], texts.cos[699 * 4..700 * 4]);
        assert_eq!(single.sin[4..], texts.sin[702 * 4..]);
    }

    #[test]
    fn lengths_matter_where_the_scaling_says_so() {
        let dynamic =
            Rope { scaling: RopeScaling::Dynamic { factor: 2.0, max_positions: 10 }, ..Rope::plain(100.0, 8) };
        assert_eq!(frequencies(&dynamic, 4), frequencies(&Rope::plain(100.0, 8), 4));
        assert_ne!(frequencies(&dynamic, 11), frequencies(&dynamic, 12));
        assert!(!changes_between(&dynamic, 4, 10) && changes_between(&dynamic, 10, 11));
        let long = Rope {
            scaling: RopeScaling::LongRope {
                short_factor: vec![1.0, 1.5],
                long_factor: vec![3.0, 4.0],
                original_max_positions: 10,
                attention_factor: 1.25,
            },
            ..Rope::plain(100.0, 4)
        };
        assert_eq!(frequencies(&long, 10), (vec![1.0, 1.0 / (1.5 * 10.0)], 1.25));
        assert_eq!(frequencies(&long, 11), frequencies(&long, 5000));
        assert!(changes_between(&long, 10, 11) && !changes_between(&long, 11, 500));
        // A row of a text that has become long is rotated as a long text's.
        let rotary = Rotary::new(long);
        let (short, text) = (last(&rotary, &[5]), whole(&rotary, &[11]));
        assert_ne!(short.cos, text.cos[5 * 2..6 * 2]);
        assert_eq!(last(&rotary, &[10]).cos, text.cos[20..]);
    }

    #[test]
    fn the_transposed_turn_undoes_the_turn_and_the_rest_of_the_head_stays() {
        let rotary = Rotary::new(Rope::plain(10_000.0, 4));
        let rows = whole(&rotary, &[5]);
        let x: Vec<f32> = (0..5 * 2 * 6).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut y = x.clone();
        rows.apply(&mut y, 6, false);
        for (head, turned) in x.chunks(6).zip(y.chunks(6)) {
            assert_eq!(head[4..], turned[4..]);
        }
        assert!(y.iter().zip(&x).any(|(a, b)| (a - b).abs() > 0.1));
        rows.apply(&mut y, 6, true);
        assert!(y.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
