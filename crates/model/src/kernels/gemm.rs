//! Matrix products: thin, checked wrappers around the `gemm` crate for the three products that a
//! linear layer `y = x·Wᵀ` needs. All matrices are dense and row-major; `W` is `[out, in]` as in
//! PyTorch.

use super::{Par, SharedMut};
use gemm::Parallelism;

/// Multiply-adds below which splitting one product over threads costs more than it gains.
const PARALLEL_FROM: usize = 1 << 20;

/// A read-only matrix of any strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> View<'a> {
    /// Dense rows of `cols` elements.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose of dense rows of `cols` elements.
    pub fn transposed(data: &'a [f32], cols: usize) -> Self {
        Self { data, row_stride: 1, col_stride: cols }
    }

    fn check(&self, rows: usize, cols: usize) {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "matrix operand is too short");
        }
    }
}

/// A writable matrix inside a buffer that other threads may be writing other columns of.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub base: SharedMut,
    /// Elements in the whole buffer.
    pub total: usize,
    /// Where the matrix begins.
    pub at: usize,
    pub row_stride: usize,
}

impl Target {
    fn rows(data: &mut [f32], cols: usize) -> Self {
        Self { base: SharedMut(data.as_mut_ptr()), total: data.len(), at: 0, row_stride: cols }
    }
}

/// `dst[m, n] (+)= alpha·a[m, k]·b[k, n]`.
///
/// # Safety
/// `dst.base` points to `dst.total` live elements, no operand overlaps the elements written, and
/// nobody else reads or writes those during the call.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(crate) unsafe fn product(
    par: Par,
    (m, n, k): (usize, usize, usize),
    dst: Target,
    accumulate: bool,
    alpha: f32,
    a: View<'_>,
    b: View<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    assert!(dst.at + (m - 1) * dst.row_stride + n <= dst.total, "matrix result is too short");
    #[cfg(target_arch = "x86_64")]
    if par == Par::Mixed && k > 0 && super::bf16::available() {
        // SAFETY: the instructions exist, the bounds were checked, and overlap is the caller's promise.
        unsafe { super::bf16::product((m, n, k), dst, accumulate, alpha, a, b) };
        return;
    }
    let threads = par.threads();
    let parallelism =
        if threads > 1 && m * n * k >= PARALLEL_FROM { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the bounds of all three operands were checked above; that the result overlaps
    // nothing is the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.base.0.add(dst.at),
            1,
            dst.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `y[n, out] (+)= alpha·x[n, in]·W[out, in]ᵀ`.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn linear(
    par: Par,
    x: &[f32],
    w: &[f32],
    inputs: usize,
    outputs: usize,
    y: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let n = x.len() / inputs;
    assert_eq!((n * inputs, n * outputs, outputs * inputs), (x.len(), y.len(), w.len()), "linear: shapes disagree");
    let (a, b) = (View::rows(x, inputs), View::transposed(w, inputs));
    // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
    unsafe { product(par, (n, outputs, inputs), Target::rows(y, outputs), accumulate, alpha, a, b) };
}

/// `dx[n, in] (+)= alpha·dy[n, out]·W[out, in]`: the gradient of the input.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn linear_input_grad(
    par: Par,
    dy: &[f32],
    w: &[f32],
    inputs: usize,
    outputs: usize,
    dx: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let n = dy.len() / outputs;
    assert_eq!((n * outputs, n * inputs), (dy.len(), dx.len()), "linear_input_grad: shapes disagree");
    let (a, b) = (View::rows(dy, outputs), View::rows(w, inputs));
    // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
    unsafe { product(par, (n, inputs, outputs), Target::rows(dx, inputs), accumulate, alpha, a, b) };
}

/// `dW[out, in] += alpha·dy[n, out]ᵀ·x[n, in]`: the gradient of the weight.
pub fn linear_weight_grad(par: Par, dy: &[f32], x: &[f32], inputs: usize, outputs: usize, dw: &mut [f32], alpha: f32) {
    let n = dy.len() / outputs;
    assert_eq!(
        (n * outputs, n * inputs, outputs * inputs),
        (dy.len(), x.len(), dw.len()),
        "linear_weight_grad: shapes disagree"
    );
    let (a, b) = (View::transposed(dy, outputs), View::rows(x, inputs));
    // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
    unsafe { product(par, (outputs, inputs, n), Target::rows(dw, inputs), true, alpha, a, b) };
}
