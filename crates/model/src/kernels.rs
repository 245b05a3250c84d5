//! CPU kernels on plain `f32` slices: what the decoder's forward and backward passes are made of.
//!
//! Tensors are packed: the rows of all sequences of a batch follow one another, so no kernel
//! knows about padding. Kernels take slices and small structures of this module, and know nothing of parameters,
//! models or files. Each kernel is ordinary Rust compiled for several instruction sets and
//! picked at run time (see [`vectorised`]); matrix products of training go through the `f32` kernels of the
//! `gemm` crates, which do the same. `tests/composed` holds the same decoder in stock candle operations.

pub mod activation;
pub mod attention;
pub mod attention_infer;
pub mod attention_train;
pub mod bf16;
pub mod distill;
pub mod gemm;
pub mod loss;
pub mod matmul_stored;
pub mod nf4;
pub mod norm;
pub mod packed_bf16;
pub mod packed_f32;
pub mod rope;
mod team;
pub mod weight;

use rayon::prelude::*;
use std::sync::Mutex;

/// How many threads a kernel may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread only: the caller already runs one batch on each core.
    One,
    /// The calling thread, and those of the current rayon pool that have nothing else to do.
    Pool,
    /// As many threads as the current rayon pool has, none of which has anything else to do. They wait for one kernel
    /// after another, so that even those of some microseconds are divided.
    Team,
}

impl Threads {
    /// Threads a kernel should split its work into.
    pub fn count(self) -> usize {
        match self {
            Threads::One => 1,
            Threads::Pool | Threads::Team => rayon::current_num_threads().max(1),
        }
    }

    /// Calls `f` with every number below `pieces`, each once.
    pub fn for_each(self, pieces: usize, f: impl Fn(usize) + Sync + Send) {
        match self {
            Threads::One => (0..pieces).for_each(f),
            Threads::Pool => (0..pieces).into_par_iter().for_each(f),
            Threads::Team => team::for_each(self.count(), pieces, &f),
        }
    }

    /// Calls `f` with every item of a list.
    pub fn for_each_of<T: Send>(self, items: Vec<T>, f: impl Fn(T) + Sync + Send) {
        match self {
            Threads::One => items.into_iter().for_each(f),
            Threads::Pool => items.into_par_iter().for_each(f),
            Threads::Team => {
                let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
                self.for_each(items.len(), |piece| {
                    let item = items[piece].lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
                    item.into_iter().for_each(&f);
                });
            }
        }
    }
}

/// What the operands of a matrix multiplication are rounded to. Sums are `f32` in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatmulPrecision {
    /// Nothing: weights as they are stored, activations in `f32`.
    #[default]
    F32,
    /// bf16. Running forward, activations are rounded where the weight is bf16. Where the processor has instructions
    /// for it (see [`bf16`]), the operands of attention are too, and in training those of linear layers.
    Bf16,
}

/// How the matrix multiplications of training are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatmulOptions {
    /// Threads of one product. Products in bf16 run on the calling thread.
    pub threads: Threads,
    /// Precision of the operands.
    pub precision: MatmulPrecision,
}

impl MatmulOptions {
    /// The instructions that multiply bf16, where products are in it and the processor has some.
    pub(crate) fn bf16(self) -> Option<bf16::Instructions> {
        if self.precision == MatmulPrecision::Bf16 { bf16::Instructions::best() } else { None }
    }
}

impl From<Threads> for MatmulOptions {
    /// Products in `f32`.
    fn from(threads: Threads) -> Self {
        Self { threads, precision: MatmulPrecision::F32 }
    }
}

/// Runs `f` compiled for the best instruction set of this processor.
///
/// `f` must be a closure whose hot loops are inlined into it; the compiler then vectorises them
/// for AVX-512, AVX2 or the baseline, whichever this machine has.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Lanes of the explicit accumulators that let the compiler vectorise floating-point sums.
pub(crate) const LANES: usize = 16;

/// Dot product with [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    let mut sum = reduce(lanes);
    for (x, y) in a_rest.iter().zip(b_rest) {
        sum += x * y;
    }
    sum
}

/// Sum of the lanes, pairwise.
#[inline(always)]
pub(crate) fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `y += x`, over whole slices.
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        },
    );
}

/// `y = scale·y + x`, over whole slices.
pub fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    if scale == 1.0 {
        return add_assign(y, x);
    }
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y = *y * scale + x;
            }
        },
    );
}

/// Largest element; negative infinity for an empty slice.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    let mut best = f32::NEG_INFINITY;
    for v in lanes.iter().chain(rest) {
        best = if *v > best { *v } else { best };
    }
    best
}

/// e^x to about one unit in the last place, for arguments that may run from −∞ to 88.
///
/// Branch-free so that loops over it vectorise: range reduction by the nearest multiple of ln 2
/// (Cody and Waite's two-part constant) and a degree-6 polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2^23 rounds to an integer and leaves it in the low bits of the sum.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let bits = (shifted.to_bits() << 23).wrapping_add(p.to_bits());
    f32::from_bits(bits)
}

/// tanh x to a few units in the last place, branch-free.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // 1 − 2/(e^{2x} + 1) loses what is small to cancellation; there the series takes over.
    let x2 = x * x;
    let series = x * (1.0 + x2 * (-1.0 / 3.0 + x2 * (2.0 / 15.0 + x2 * (-17.0 / 315.0 + x2 * (62.0 / 2835.0)))));
    let large = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x2 < 0.0625 { series } else { large }
}

/// A raw pointer that parallel loops may share; every user writes to rows of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(pub *mut f32);

impl SharedMut {
    /// The pointer `offset` elements further on.
    pub fn at(self, offset: usize) -> Self {
        Self(self.0.wrapping_add(offset))
    }
}

// SAFETY: the pointer is only dereferenced inside kernels that partition the rows behind it.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_std() {
        let mut worst = 0f64;
        for i in -86_999..88_000 {
            let x = i as f32 * 1e-3;
            let relative = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            worst = worst.max(relative);
        }
        assert!(worst < 3e-7, "relative error {worst}");
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn tanh_matches_std() {
        let mut worst = 0f64;
        for i in -12_000..12_000 {
            let x = i as f32 * 1e-3;
            let relative = (f64::from(tanh(x)) / f64::from(x).tanh() - 1.0).abs();
            worst = worst.max(if i == 0 { f64::from(tanh(x)).abs() } else { relative });
        }
        assert!(worst < 6e-7, "relative error {worst}");
        assert_eq!((tanh(60.0), tanh(-60.0)), (1.0, -1.0));
    }

    #[test]
    fn dot_and_max_take_any_length() {
        for n in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), expected);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&a), largest);
        }
    }
}
