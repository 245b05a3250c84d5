//! NF4 with double quantisation, the storage of QLoRA's frozen weights (Dettmers et al., arXiv 2305.14314).
//!
//! The values of a matrix, row by row, are taken in blocks of 64, whatever its width. Each becomes the nearest of 16
//! numbers, the quantiles of a normal distribution, times the largest magnitude of its block; two of them are a byte,
//! the first in the upper half. The magnitudes are themselves in 8 bits: less their mean, in blocks of 256, as one of
//! 256 numbers of a dynamic exponent format (Dettmers, arXiv 1511.04561) times the largest of their block. A value
//! takes 4 + 8/64 + 32/(64·256) = 4.127 bits.
//!
//! Bytes and values are those of bitsandbytes 0.50.2 on a CPU, which `fixtures/nf4` holds it to. Two of its choices are
//! not the nearest number: it looks magnitudes up in 65,536 steps, and it takes their mean by PyTorch's summation in
//! `f32`, whose order is repeated here for one thread and eight lanes. PyTorch divides sums of more than 32,768 numbers
//! among threads, so the last bit of the mean of a matrix of more than two million values depends on their number
//! there; here it does not.
//!
//! Not covered: FP4, other sizes of blocks, magnitudes in `f32`, reading checkpoints that are stored so.

use super::vectorised;
use super::weight::{Weight, widen};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Values that have a magnitude in common.
pub const BLOCK: usize = 64;
/// Magnitudes that have a magnitude in common.
const NESTED_BLOCK: usize = 256;
/// Values that a thread quantises at a time.
const PIECE: usize = BLOCK << 10;
/// What a magnitude is divided by at least.
const SMALLEST: f32 = 1e-38;

/// What the 16 codes stand for, times the magnitude of their block (appendix E of the paper).
const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A matrix, row by row, as NF4.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4 {
    len: usize,
    packed: Vec<u8>,
    scales: Vec<u8>,
    nested: Vec<f32>,
    offset: f32,
}

impl Nf4 {
    /// Quantises `weight` on the threads of the current rayon pool; no more than 64 Ki of its values for each thread
    /// are `f32` at a time.
    pub fn quantize(weight: Weight<'_>) -> Self {
        let width = weight.format.bytes();
        let len = weight.bytes.len() / width;
        let mut packed = vec![0u8; len.div_ceil(2)];
        let mut absmax = vec![0f32; len.div_ceil(BLOCK)];
        let pieces = packed.par_chunks_mut(PIECE / 2).zip(absmax.par_chunks_mut(PIECE / BLOCK));
        pieces.zip(weight.bytes.par_chunks(PIECE * width)).for_each_init(
            || vec![0f32; PIECE],
            |values, ((packed, absmax), bytes)| {
                let values = &mut values[..bytes.len() / width];
                widen(weight.format, bytes, values);
                encode(values, packed, absmax);
            },
        );
        let offset = mean(&absmax);
        let mut scales = Vec::with_capacity(absmax.len());
        let mut nested = Vec::with_capacity(absmax.len().div_ceil(NESTED_BLOCK));
        for block in absmax.chunks(NESTED_BLOCK) {
            nested.push(encode_scales(block, offset, &mut scales));
        }
        Self { len, packed, scales, nested, offset }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.scales.len() + 4 * self.nested.len() + 4
    }

    /// The codes: two in a byte, the first in its upper half.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The codes of the magnitudes, one for each block of 64 values.
    pub fn scales(&self) -> &[u8] {
        &self.scales
    }

    /// The magnitude of each block of 256 magnitudes, after the mean was subtracted.
    pub fn nested(&self) -> &[f32] {
        &self.nested
    }

    /// The mean of the magnitudes.
    pub fn offset(&self) -> f32 {
        self.offset
    }

    /// Writes the values from number `first` on into `out`.
    pub fn dequantize(&self, first: usize, out: &mut [f32]) {
        assert!(first + out.len() <= self.len, "values beyond those of the matrix");
        let (pairs, map) = (pairs(), scale_map());
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let block = at / BLOCK;
            let count = ((block + 1) * BLOCK - at).min(rest.len());
            let (values, later) = rest.split_at_mut(count);
            let scale = map[usize::from(self.scales[block])] * self.nested[block / NESTED_BLOCK] + self.offset;
            decode(&self.packed, at, scale, pairs, values);
            (at, rest) = (at + count, later);
        }
    }
}

/// Some rows of a matrix in NF4.
#[derive(Debug, Clone, Copy)]
pub struct Nf4Rows<'a> {
    matrix: &'a Nf4,
    inputs: usize,
    first: usize,
    count: usize,
}

impl<'a> Nf4Rows<'a> {
    /// All rows of `matrix`, which has `inputs` columns.
    pub fn new(matrix: &'a Nf4, inputs: usize) -> Self {
        Self { matrix, inputs, first: 0, count: matrix.len() / inputs }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.count
    }

    /// Inner dimension.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.count, "rows beyond those of the matrix");
        Self { first: self.first + rows.start, count: rows.len(), ..*self }
    }

    /// Writes the values from number `first` of these rows on into `out`.
    pub fn dequantize(&self, first: usize, out: &mut [f32]) {
        self.matrix.dequantize(self.first * self.inputs + first, out);
    }
}

/// Quantises whole blocks, the last of which may be shorter.
fn encode(values: &[f32], packed: &mut [u8], absmax: &mut [f32]) {
    let bounds: [f32; 15] = std::array::from_fn(|i| (VALUES[i] + VALUES[i + 1]) / 2.0);
    vectorised(
        #[inline(always)]
        || {
            for ((block, packed), absmax) in values.chunks(BLOCK).zip(packed.chunks_mut(BLOCK / 2)).zip(absmax) {
                let largest = block.iter().fold(0f32, |most, v| if v.abs() > most { v.abs() } else { most });
                let divisor = largest.max(SMALLEST);
                // The half after an odd number of values is the code of 0.
                let mut scaled = [0f32; BLOCK];
                if block.len() == BLOCK {
                    *absmax = largest;
                    let factor = 1.0 / divisor;
                    for (scaled, v) in scaled.iter_mut().zip(block) {
                        *scaled = (v * factor).clamp(-1.0, 1.0);
                    }
                } else {
                    // bitsandbytes treats the rest of a matrix a little differently.
                    *absmax = divisor;
                    for (scaled, v) in scaled.iter_mut().zip(block) {
                        *scaled = (v / divisor).clamp(-1.0, 1.0);
                    }
                }
                let mut codes = [0u32; BLOCK];
                for bound in bounds {
                    for (code, scaled) in codes.iter_mut().zip(&scaled) {
                        *code += u32::from(bound < *scaled);
                    }
                }
                for (byte, pair) in packed.iter_mut().zip(codes.as_chunks::<2>().0) {
                    *byte = ((pair[0] << 4) | pair[1]) as u8;
                }
            }
        },
    );
}

/// Appends the codes of a block of magnitudes; returns what they are multiples of.
fn encode_scales(absmax: &[f32], offset: f32, codes: &mut Vec<u8>) -> f32 {
    const STEPS: f32 = 65_535.0;
    let midpoints = scale_midpoints();
    let largest = absmax.iter().map(|a| (a - offset).abs()).fold(0f32, f32::max);
    if largest == 0.0 {
        codes.extend(absmax.iter().map(|_| 0));
        return largest;
    }
    let factor = 1.0 / largest;
    codes.extend(absmax.iter().map(|a| {
        let scaled = ((a - offset) * factor).clamp(-1.0, 1.0);
        let step = ((scaled + 1.0) * 0.5 * STEPS + 0.5) as u16;
        let value = -1.0 + 2.0 * f32::from(step) / STEPS;
        midpoints.partition_point(|midpoint| *midpoint < value) as u8
    }));
    largest
}

/// Writes the values from number `first` on, all of one block with the magnitude `scale`.
#[inline]
fn decode(packed: &[u8], first: usize, scale: f32, pairs: &[[f32; 2]; 256], out: &mut [f32]) {
    let (mut bytes, mut out) = (&packed[first / 2..], out);
    if !first.is_multiple_of(2) {
        let Some((value, rest)) = out.split_first_mut() else { return };
        *value = pairs[usize::from(bytes[0])][1] * scale;
        (bytes, out) = (&bytes[1..], rest);
    }
    let (whole, rest) = out.as_chunks_mut::<2>();
    for (values, byte) in whole.iter_mut().zip(bytes) {
        let [upper, lower] = pairs[usize::from(*byte)];
        *values = [upper * scale, lower * scale];
    }
    if let [value] = rest {
        *value = pairs[usize::from(bytes[whole.len()])][0] * scale;
    }
}

/// The two values of every byte.
fn pairs() -> &'static [[f32; 2]; 256] {
    static PAIRS: OnceLock<[[f32; 2]; 256]> = OnceLock::new();
    PAIRS.get_or_init(|| std::array::from_fn(|byte| [VALUES[byte >> 4], VALUES[byte & 15]]))
}

/// What the codes of magnitudes stand for, in rising order: 0, 1, and for each of seven powers of ten the middles of
/// 1, 2, 4, … 64 equal parts of 0.1 to 1, with both signs.
fn scale_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut values = vec![0.0, 1.0];
        for exponent in 0..7 {
            let (parts, power) = (1usize << exponent, 10f64.powi(exponent - 6) as f32);
            // As torch.linspace: from both ends, rounded once.
            let step = (1.0f32 - 0.1) / parts as f32;
            let boundary = |i: usize| {
                if i < parts.div_ceil(2) {
                    step.mul_add(i as f32, 0.1)
                } else {
                    step.mul_add(-((parts - i) as f32), 1.0)
                }
            };
            for part in 0..parts {
                let value = power * ((boundary(part) + boundary(part + 1)) / 2.0);
                values.extend([value, -value]);
            }
        }
        values.sort_by(f32::total_cmp);
        std::array::from_fn(|i| values[i])
    })
}

/// The middles between neighbouring values of [`scale_map`].
fn scale_midpoints() -> &'static [f32; 255] {
    static MIDPOINTS: OnceLock<[f32; 255]> = OnceLock::new();
    MIDPOINTS.get_or_init(|| std::array::from_fn(|i| 0.5 * (scale_map()[i] + scale_map()[i + 1])))
}

/// The mean as PyTorch takes it on a CPU, on one thread: in vectors of eight, four of them at a time, whose sums are
/// carried over between levels so that no sum is of many numbers (`cascade_sum` in `aten/src/ATen/native/cpu/`).
fn mean(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const LEVELS: usize = 4;
    type Row = [f32; LANES];
    let add = |sum: &mut Row, row: &Row| sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (groups, single) = vectors.as_chunks::<ROWS>();
    let log2 = groups.len().max(1).next_power_of_two().trailing_zeros() as usize;
    let power = (log2 / LEVELS).max(4);
    let mut levels = [[[0f32; LANES]; ROWS]; LEVELS];
    for (index, group) in groups.iter().enumerate() {
        for (sum, row) in levels[0].iter_mut().zip(group) {
            add(sum, row);
        }
        let done = index + 1;
        if !done.is_multiple_of(1 << power) {
            continue;
        }
        for level in 1..LEVELS {
            let below = std::mem::take(&mut levels[level - 1]);
            for (sum, row) in levels[level].iter_mut().zip(&below) {
                add(sum, row);
            }
            if done & (((1 << power) - 1) << (level * power)) != 0 {
                break;
            }
        }
    }
    let [mut rows, above @ ..] = levels;
    for level in &above {
        for (sum, row) in rows.iter_mut().zip(level) {
            add(sum, row);
        }
    }
    for row in single {
        add(&mut rows[0], row);
    }
    let [mut sum, others @ ..] = rows;
    for row in &others {
        add(&mut sum, row);
    }
    let total = rest.iter().chain(&sum).fold(0f32, |total, v| total + v);
    total / values.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::weight::Format;
    use lopper_testkit::fixture;
    use safetensors::SafeTensors;

    /// Arrays and what bitsandbytes makes of them: `fixtures/nf4/make.py`.
    #[test]
    fn bytes_and_values_are_those_of_bitsandbytes() {
        let bytes = std::fs::read(fixture("nf4/arrays.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let data = tensors.tensor(name).unwrap();
            data.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(&floats("code")), bits(&VALUES));
        assert_eq!(bits(&floats("scale_code")), bits(scale_map()));
        assert_eq!(bits(&[mean(&floats("summed"))]), bits(&floats("summed_mean")));
        let names: Vec<&str> = tensors.names().into_iter().filter_map(|name| name.strip_suffix(".values")).collect();
        assert!(names.len() >= 10, "{names:?}");
        for name in names {
            let stored = tensors.tensor(&format!("{name}.values")).unwrap();
            let format = if stored.dtype() == safetensors::Dtype::BF16 { Format::Bf16 } else { Format::F32 };
            let nf4 = Nf4::quantize(Weight { bytes: stored.data(), format, inputs: 1 });
            assert_eq!(bits(&[nf4.offset()]), bits(&floats(&format!("{name}.offset"))), "{name}: mean");
            assert_eq!(bits(nf4.nested()), bits(&floats(&format!("{name}.nested"))), "{name}: nested");
            let of = |part: &str| tensors.tensor(&format!("{name}.{part}")).unwrap().data().to_vec();
            assert_eq!(nf4.scales(), of("scales"), "{name}: scales");
            assert_eq!(nf4.packed(), of("packed"), "{name}: codes");
            let expected = floats(&format!("{name}.dequantized"));
            let mut values = vec![f32::NAN; nf4.len()];
            nf4.dequantize(0, &mut values);
            // bitsandbytes has zeros of both signs.
            assert_eq!(values, expected, "{name}");
            // From any number on, and of any length.
            for (first, count) in [(0, 1), (1, 2), (63, 3), (65, 130), (127, 1)] {
                if first + count <= values.len() {
                    let mut some = vec![f32::NAN; count];
                    nf4.dequantize(first, &mut some);
                    assert_eq!(some, expected[first..first + count], "{name}: {first}, {count}");
                }
            }
        }
    }

    #[test]
    fn a_value_takes_little_more_than_four_bits() {
        let values: Vec<f32> = (0i64..1 << 20).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let nf4 = Nf4::quantize(Weight::of_f32(&values, 1024));
        let bits = 8.0 * nf4.bytes() as f64 / values.len() as f64;
        assert!((bits - 4.127).abs() < 1e-3, "{bits}");
        let rows = Nf4Rows::new(&nf4, 1024).slice(3..5);
        let (mut two, mut all) = (vec![0f32; 2048], vec![0f32; values.len()]);
        rows.dequantize(0, &mut two);
        nf4.dequantize(0, &mut all);
        assert_eq!(two, all[3 * 1024..5 * 1024]);
        // Half the widest gap between two of the 16 numbers, and what the magnitudes lose.
        let worst = values.iter().zip(&all).fold(0f32, |worst, (v, q)| worst.max((v - q).abs()));
        assert!(worst > 0.1 && worst < 0.16, "{worst}");
    }
}
