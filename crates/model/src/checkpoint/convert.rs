//! Weights that are converted when they are read: F64 to F32, and 8-bit floats, with their scales, to BF16.
//!
//! 8-bit floats and their scales are as DeepSeek and Qwen publish them (`X.weight_scale_inv`, a factor for each block,
//! `quantization_config` with `fp8`) and as compressed-tensors writes them (`X.weight_scale`, a factor for the matrix
//! or for each row): in both, the weight is the stored value times the scale. The sizes of blocks are those of
//! `weight_block_size`, and else follow from the shape of the scales where it divides that of the weight, as in
//! transformers 5.24 (`Fp8Dequantize`). Formats of the values: OCP 8-bit floating point specification (E4M3 without
//! infinities).
//!
//! What is converted is held in memory, unlike other weights. Not covered: scales in 8 bits (`F8_E8M0`), integers, four
//! bits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use half::{bf16, f16};
use lopper_record::{Fault, Result};
use serde_json::{Map, Value};

use super::source::{Bytes, Source};
use super::{Dtype, Located};
use crate::dtype::decode;
use crate::hf::{CONFIG, shorten};

/// Ends of the names of scales that change a weight.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];
/// Ends of the names of scales of activations, which are not quantised here.
const ACTIVATION_SCALES: [&str; 3] = [".input_scale", ".activation_scale", ".input_scale_inv"];

/// How the values of a tensor come from its bytes.
pub(super) struct Conversion {
    stored: Dtype,
    scale: Option<Scale>,
    /// The converted bytes, once they have been asked for.
    values: OnceLock<Vec<u8>>,
}

/// Factors of blocks of a matrix.
struct Scale {
    file: usize,
    dtype: Dtype,
    range: Range<usize>,
    /// Rows and columns of a block.
    block: [usize; 2],
    /// Factors in a row of them.
    columns: usize,
    /// Columns of the matrix.
    width: usize,
}

/// Gives every tensor of a dtype that is not computed with its conversion, and takes its scales out of `tensors`.
/// Returns what is done, in sentences.
pub(super) fn prepare(
    tensors: &mut BTreeMap<String, Located>,
    config: &Map<String, Value>,
    source: &Source,
) -> Result<Vec<String>> {
    let wide: Vec<String> = names_of(tensors, |dtype| dtype == Dtype::F64);
    let narrow: Vec<String> = names_of(tensors, |dtype| matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2));
    for name in &wide {
        set(tensors, name, Dtype::F32, None);
    }
    let blocks = block_size(config, source)?;
    for name in &narrow {
        let scale = match SCALES.iter().find_map(|end| tensors.remove(&format!("{name}{end}"))) {
            Some(found) => Some(scale(name, &tensors[name], found, blocks, source)?),
            None => None,
        };
        set(tensors, name, Dtype::BF16, scale);
    }
    if !narrow.is_empty() {
        tensors.retain(|name, _| !ACTIVATION_SCALES.iter().any(|end| name.ends_with(end)));
    }
    let mut remarks = Vec::new();
    if !wide.is_empty() {
        remarks.push(format!("{} tensors are stored in F64 and converted to F32", wide.len()));
    }
    if !narrow.is_empty() {
        remarks.push(format!(
            "{} tensors are stored in 8-bit floats and converted to BF16, in memory; activations are not quantised",
            narrow.len()
        ));
    }
    Ok(remarks)
}

fn names_of(tensors: &BTreeMap<String, Located>, wanted: impl Fn(Dtype) -> bool) -> Vec<String> {
    tensors.iter().filter(|(_, located)| wanted(located.dtype)).map(|(name, _)| name.clone()).collect()
}

fn set(tensors: &mut BTreeMap<String, Located>, name: &str, dtype: Dtype, scale: Option<Scale>) {
    if let Some(located) = tensors.get_mut(name) {
        let conversion = Conversion { stored: located.dtype, scale, values: OnceLock::new() };
        located.dtype = dtype;
        located.conversion = Some(Box::new(conversion));
    }
}

/// The rows and columns of a block that `quantization_config` names, if it does.
fn block_size(config: &Map<String, Value>, source: &Source) -> Result<Option<[usize; 2]>> {
    let Some(quantization) = config.get("quantization_config") else { return Ok(None) };
    let groups = quantization.get("config_groups").and_then(Value::as_object);
    let of_group = |group: &Value| group.get("weights").and_then(|weights| weights.get("block_structure")).cloned();
    let own = quantization.get("weight_block_size").filter(|size| !size.is_null()).cloned();
    let list = own.or_else(|| groups?.values().find_map(of_group)).filter(|list| !list.is_null());
    let Some(list) = list else { return Ok(None) };
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let sizes: Option<Vec<usize>> = list.as_array().and_then(|list| list.iter().map(size).collect());
    match sizes.as_deref() {
        Some([rows, columns]) => Ok(Some([*rows, *columns])),
        _ => Err(Fault::new("`weight_block_size` is not usable")
            .file(source.path_of(CONFIG))
            .expected("two whole numbers above 0: rows and columns of a block of weights")
            .got(shorten(&list))
            .into()),
    }
}

fn scale(name: &str, weight: &Located, found: Located, blocks: Option<[usize; 2]>, source: &Source) -> Result<Scale> {
    let wrong = |expected: &str| {
        Fault::new(format!("the scales of `{name}` cannot be read"))
            .file(source.path())
            .expected(expected)
            .got(format!("{:?} of shape {:?}, for a weight of shape {:?}", found.dtype, found.shape, weight.shape))
            .hint("take the unquantised checkpoint of the same model")
    };
    if !super::is_weight_dtype(found.dtype) {
        return Err(wrong("scales stored as F32, F16 or BF16").into());
    }
    let [rows, width] = weight.shape[..] else { return Err(wrong("a matrix").into()) };
    let count: usize = found.shape.iter().product();
    let (grid, block) = match found.shape[..] {
        _ if count == 1 => ([1, 1], [rows, width]),
        [n] | [n, 1] if n == rows => ([rows, 1], [1, width]),
        [down, across] if down > 0 && across > 0 => {
            let divides = rows.is_multiple_of(down) && width.is_multiple_of(across);
            let block = match blocks {
                Some(block) => Some(block).filter(|[r, c]| [rows.div_ceil(*r), width.div_ceil(*c)] == [down, across]),
                None => divides.then(|| [rows / down, width / across]),
            };
            let block = block.ok_or_else(|| wrong("one factor for each block of `weight_block_size`"))?;
            ([down, across], block)
        }
        _ => return Err(wrong("one factor for the matrix, for each row or for each block").into()),
    };
    Ok(Scale {
        file: found.file,
        dtype: found.dtype,
        range: found.range,
        block: block.map(|size| size.max(1)),
        columns: grid[1],
        width: width.max(1),
    })
}

impl Conversion {
    /// The converted bytes, which stay in memory.
    pub fn bytes(&self, raw: &[u8], files: &[Bytes]) -> &[u8] {
        self.values.get_or_init(|| self.convert(raw, files))
    }

    /// The converted bytes, if they are in memory already.
    pub fn known(&self) -> Option<&[u8]> {
        self.values.get().map(Vec::as_slice)
    }

    /// Converts the stored bytes `raw`; `files` are all weights files.
    pub fn convert(&self, raw: &[u8], files: &[Bytes]) -> Vec<u8> {
        if self.stored == Dtype::F64 {
            let values = raw.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32);
            return values.flat_map(f32::to_le_bytes).collect();
        }
        let table: Vec<f32> = (0..=u8::MAX).map(|byte| eight_bits(byte, self.stored)).collect();
        let factors = self.scale.as_ref().map(|scale| {
            // The dtype was checked when the scale was found.
            (scale, decode(&files[scale.file][scale.range.clone()], scale.dtype).unwrap_or_default())
        });
        let factor = |at: usize| match &factors {
            None => 1.0,
            Some((scale, values)) => {
                let (row, column) = (at / scale.width / scale.block[0], at % scale.width / scale.block[1]);
                values.get(row * scale.columns + column).copied().unwrap_or(f32::NAN)
            }
        };
        let value = |(at, byte): (usize, &u8)| bf16::from_f32(table[usize::from(*byte)] * factor(at)).to_le_bytes();
        raw.iter().enumerate().flat_map(value).collect()
    }
}

/// The value of an 8-bit float.
fn eight_bits(byte: u8, dtype: Dtype) -> f32 {
    if dtype == Dtype::F8_E5M2 {
        // The upper half of a half-precision number.
        return f16::from_bits(u16::from(byte) << 8).to_f32();
    }
    let (sign, exponent, mantissa) = (byte >> 7, i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_values_of_their_specification() {
        // Table 1 and 2 of the OCP specification: largest, smallest normal and subnormal numbers.
        for (byte, value) in [(0x7e, 448.0), (0x08, 2f32.powi(-6)), (0x01, 2f32.powi(-9)), (0xbc, -1.5), (0x80, -0.0)] {
            assert_eq!(eight_bits(byte, Dtype::F8_E4M3), value, "{byte:x}");
        }
        assert!(eight_bits(0x7f, Dtype::F8_E4M3).is_nan() && eight_bits(0xff, Dtype::F8_E4M3).is_nan());
        for (byte, value) in
            [(0x7b, 57344.0), (0x04, 2f32.powi(-14)), (0x01, 2f32.powi(-16)), (0xfc, f32::NEG_INFINITY)]
        {
            assert_eq!(eight_bits(byte, Dtype::F8_E5M2), value, "{byte:x}");
        }
        assert!(eight_bits(0x7d, Dtype::F8_E5M2).is_nan());
    }
}
