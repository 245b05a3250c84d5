//! A weight as it is stored: a borrowed matrix in `f32`, `bf16` or `f16`, and its conversion to `f32`; or one in NF4.

use super::nf4::Nf4Rows;
use super::vectorised;
use half::f16;
use std::ops::Range;

/// How the elements of a weight are stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Format {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::Bf16 | Format::F16 => 2,
        }
    }
}

/// Some rows of a weight: `[rows, inputs]`, row-major.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// The elements, of any alignment.
    pub bytes: &'a [u8],
    /// How they are stored.
    pub format: Format,
    /// Inner dimension.
    pub inputs: usize,
}

impl<'a> Weight<'a> {
    /// A weight in memory.
    pub fn of_f32(values: &'a [f32], inputs: usize) -> Self {
        Self { bytes: as_bytes(values), format: Format::F32, inputs }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes()
    }

    /// The values, where they are `f32` at an address that suits them.
    pub(crate) fn floats(&self) -> Option<&'a [f32]> {
        if self.format != Format::F32 || cfg!(target_endian = "big") {
            return None;
        }
        // SAFETY: any four bytes are a float.
        let (before, values, after) = unsafe { self.bytes.align_to::<f32>() };
        (before.is_empty() && after.is_empty()).then_some(values)
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.inputs * self.format.bytes()
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let width = self.row_bytes();
        Self { bytes: &self.bytes[rows.start * width..rows.end * width], ..*self }
    }
}

/// The matrix of a product, `[rows, inputs]`.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// Numbers of 32 or 16 bits.
    Stored(Weight<'a>),
    /// Four bits a number.
    Nf4(Nf4Rows<'a>),
}

impl<'a> From<Weight<'a>> for Operand<'a> {
    fn from(weight: Weight<'a>) -> Self {
        Self::Stored(weight)
    }
}

impl<'a> Operand<'a> {
    /// Inner dimension.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Stored(weight) => weight.inputs,
            Self::Nf4(rows) => rows.inputs(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Stored(weight) => weight.rows(),
            Self::Nf4(rows) => rows.rows(),
        }
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Stored(weight) => Self::Stored(weight.slice(rows)),
            Self::Nf4(all) => Self::Nf4(all.slice(rows)),
        }
    }

    /// The values, where they are `f32` in memory.
    pub(crate) fn floats(&self) -> Option<&'a [f32]> {
        match self {
            Self::Stored(weight) => weight.floats(),
            Self::Nf4(_) => None,
        }
    }

    /// Writes the values from number `first` on into `out`.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) {
        match self {
            Self::Stored(weight) => {
                let width = weight.format.bytes();
                widen(weight.format, &weight.bytes[first * width..(first + out.len()) * width], out);
            }
            Self::Nf4(rows) => rows.dequantize(first, out),
        }
    }
}

/// The bytes of floats, which have no padding and no invalid patterns.
pub(crate) fn as_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: the slice covers exactly these floats; bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Appends the elements of `bytes` to `out` as `f32`.
pub(crate) fn convert(format: Format, bytes: &[u8], out: &mut Vec<f32>) {
    let before = out.len();
    out.resize(before + bytes.len() / format.bytes(), 0.0);
    widen(format, bytes, &mut out[before..]);
}

/// Writes the elements of `bytes` into `out` as `f32`.
pub(crate) fn widen(format: Format, bytes: &[u8], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || match format {
            Format::F32 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*b);
                }
            }
            Format::Bf16 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            Format::F16 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f16::from_le_bytes(*b).to_f32();
                }
            }
        },
    );
}
