//! The dtypes weights are stored in, to and from f32: one pass over the bytes. f32 holds f16 and
//! bf16 exactly; the other way rounds to nearest, ties to even.

use half::{bf16, f16};
use lopper_record::{Result, bail};

pub use safetensors::tensor::Dtype;

/// Whether weights of this dtype are read and written.
pub fn is_weight_dtype(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// The dtype's name in `config.json` (`torch_dtype`, `dtype`).
pub fn torch_name(dtype: Dtype) -> Result<&'static str> {
    Ok(match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        other => bail!("weights are not stored as {other}"),
    })
}

/// Rounds `values` to what they are once they have been stored as `dtype`.
///
/// # Errors
/// Where weights are not stored as `dtype`.
pub fn round_to(values: &mut [f32], dtype: Dtype) -> Result<()> {
    match dtype {
        Dtype::F32 => {}
        Dtype::F16 => values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        Dtype::BF16 => values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        other => bail!("weights are not stored as {other}"),
    }
    Ok(())
}

/// The elements stored as `dtype` in `bytes`, as f32.
pub(crate) fn decode(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>> {
    let (pairs, fours) = (bytes.as_chunks::<2>().0, bytes.as_chunks::<4>().0);
    Ok(match dtype {
        Dtype::F32 => fours.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => pairs.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        other => bail!("weights are not read from {other}"),
    })
}

/// Appends `values`, stored as `dtype`, to `bytes`.
pub fn encode(values: &[f32], dtype: Dtype, bytes: &mut Vec<u8>) -> Result<()> {
    match dtype {
        Dtype::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        Dtype::F16 => bytes.extend(values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Dtype::BF16 => bytes.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
        other => bail!("weights are not stored as {other}"),
    }
    Ok(())
}
