//! Matrix products: thin, checked wrappers around the `f32` kernels of the `gemm` crates for the three products that a
//! linear layer `y = x·Wᵀ` needs. All matrices are dense and row-major; `W` is `[out, in]` as in
//! PyTorch, in memory, as its checkpoint stores it, or in NF4.

#[cfg(target_arch = "x86_64")]
use super::bf16::{Instructions, Lines};
use super::weight::Operand;
#[cfg(target_arch = "x86_64")]
use super::weight::{Format, Weight};
use super::{MatmulOptions, SharedMut, Threads};
use gemm_common::Parallelism;
use gemm_f32::gemm::f32::get_gemm_fn;
use rayon::prelude::*;

/// Multiply-adds below which splitting one product over threads costs more than it gains.
const PARALLEL_FROM: usize = 1 << 20;
/// Values of a stored or quantised weight that are `f32` at a time.
const BLOCK_VALUES: usize = 1 << 20;

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

    #[cfg(target_arch = "x86_64")]
    fn lines(&self, line_stride: usize, inner_stride: usize) -> Lines<'a> {
        Lines::of_f32(self.data, line_stride, inner_stride)
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

    fn check(&self, rows: usize, cols: usize) {
        assert!(self.at + (rows - 1) * self.row_stride + cols <= self.total, "matrix result is too short");
    }
}

/// `dst[m, n] (+)= alpha·a[m, k]·b[k, n]`.
///
/// # Safety
/// `dst.base` points to `dst.total` live elements, no operand overlaps the elements written, and
/// nobody else reads or writes those during the call.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(crate) unsafe fn matmul(
    options: MatmulOptions,
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
    dst.check(m, n);
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = options.bf16().filter(|_| k > 0) {
        let (a, b) = (a.lines(a.row_stride, a.col_stride), b.lines(b.col_stride, b.row_stride));
        // SAFETY: the instructions exist, the bounds were checked, and overlap is the caller's promise.
        unsafe { super::bf16::matmul(instructions, (m, n, k), dst, accumulate, alpha, a, b) };
        return;
    }
    let threads = options.threads.count();
    let parallelism =
        if threads > 1 && m * n * k >= PARALLEL_FROM { Parallelism::Rayon(threads) } else { Parallelism::None };
    let (a_strides, b_strides) = ((a.col_stride, a.row_stride), (b.col_stride, b.row_stride));
    // The kernels write columns: a result in rows is computed as its transpose, bᵀ·aᵀ.
    let (m, n, columns, lhs, lhs_strides, rhs, rhs_strides) = if dst.row_stride > 1 {
        let turned = |(col, row): (usize, usize)| (row, col);
        (n, m, (dst.row_stride, 1), b.data, turned(b_strides), a.data, turned(a_strides))
    } else {
        (m, n, (1, dst.row_stride), a.data, a_strides, b.data, b_strides)
    };
    // SAFETY: the bounds of all three operands were checked above; that the result overlaps
    // nothing is the caller's promise.
    unsafe {
        get_gemm_fn()(
            m,
            n,
            k,
            dst.base.0.add(dst.at),
            columns.0 as isize,
            columns.1 as isize,
            accumulate,
            lhs.as_ptr(),
            lhs_strides.0 as isize,
            lhs_strides.1 as isize,
            rhs.as_ptr(),
            rhs_strides.0 as isize,
            rhs_strides.1 as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Calls `f` with all rows of `weight` as `f32`: at once where that is how they are, else a block at a time
/// with the number of its first row.
pub(crate) fn each_block(threads: Threads, weight: Operand<'_>, mut f: impl FnMut(usize, &[f32])) {
    if let Some(values) = weight.floats() {
        return f(0, values);
    }
    thread_local! {
        static VALUES: std::cell::Cell<Vec<f32>> = const { std::cell::Cell::new(Vec::new()) };
    }
    // Taken and not borrowed: while a product waits for other threads, this one may begin another.
    let mut values = VALUES.take();
    let rows = (BLOCK_VALUES / weight.inputs()).max(64);
    for first in (0..weight.rows()).step_by(rows) {
        let block = weight.slice(first..(first + rows).min(weight.rows()));
        values.resize(block.rows() * block.inputs(), 0.0);
        if threads.count() > 1 {
            let piece = values.len().div_ceil(threads.count());
            values.par_chunks_mut(piece).enumerate().for_each(|(at, values)| block.read(at * piece, values));
        } else {
            block.read(0, &mut values);
        }
        f(first, &values);
    }
    VALUES.set(values);
}

/// `y[n, out] (+)= alpha·x[n, in]·W[out, in]ᵀ`.
pub fn linear<'w>(
    options: MatmulOptions,
    x: &[f32],
    w: impl Into<Operand<'w>>,
    y: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let w = w.into();
    let (inputs, outputs) = (w.inputs(), w.rows());
    let n = x.len() / inputs;
    assert_eq!((n * inputs, n * outputs), (x.len(), y.len()), "linear: shapes disagree");
    if n == 0 || outputs == 0 {
        return;
    }
    let target = Target::rows(y, outputs);
    #[cfg(target_arch = "x86_64")]
    if let Some((instructions, w)) = as_lines(options, w) {
        let (a, b) = (Lines::of_f32(x, inputs, 1), Lines { line_stride: inputs, inner_stride: 1, ..w });
        // SAFETY: the instructions exist, the shapes were checked, and the result is borrowed mutably.
        unsafe { super::bf16::matmul(instructions, (n, outputs, inputs), target, accumulate, alpha, a, b) };
        return;
    }
    each_block(options.threads, w, |first, w| {
        let (shape, target) = ((n, w.len() / inputs, inputs), Target { at: first, ..target });
        // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
        unsafe {
            matmul(options, shape, target, accumulate, alpha, View::rows(x, inputs), View::transposed(w, inputs))
        };
    });
}

/// `dx[n, in] (+)= alpha·dy[n, out]·W[out, in]`: the gradient of the input.
pub fn linear_input_grad<'w>(
    options: MatmulOptions,
    dy: &[f32],
    w: impl Into<Operand<'w>>,
    dx: &mut [f32],
    accumulate: bool,
    alpha: f32,
) {
    let w = w.into();
    let (inputs, outputs) = (w.inputs(), w.rows());
    let n = dy.len() / outputs;
    assert_eq!((n * outputs, n * inputs), (dy.len(), dx.len()), "linear_input_grad: shapes disagree");
    if n == 0 {
        return;
    }
    let target = Target::rows(dx, inputs);
    #[cfg(target_arch = "x86_64")]
    if let Some((instructions, w)) = as_lines(options, w) {
        let (a, b) = (Lines::of_f32(dy, outputs, 1), Lines { line_stride: 1, inner_stride: inputs, ..w });
        // SAFETY: the instructions exist, the shapes were checked, and the result is borrowed mutably.
        unsafe { super::bf16::matmul(instructions, (n, inputs, outputs), target, accumulate, alpha, a, b) };
        return;
    }
    each_block(options.threads, w, |first, w| {
        let dy = View { data: &dy[first..], row_stride: outputs, col_stride: 1 };
        let (shape, accumulate) = ((n, inputs, w.len() / inputs), accumulate || first > 0);
        // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
        unsafe { matmul(options, shape, target, accumulate, alpha, dy, View::rows(w, inputs)) };
    });
}

/// The bytes of a weight, without their order, where the product in bf16 reads them as they are. Others become `f32` a
/// block at a time, and are rounded from there.
#[cfg(target_arch = "x86_64")]
fn as_lines(options: MatmulOptions, w: Operand<'_>) -> Option<(Instructions, Lines<'_>)> {
    match w {
        Operand::Stored(Weight { bytes, format, .. }) if format != Format::F16 => {
            Some((options.bf16()?, Lines { bytes, format, line_stride: 0, inner_stride: 0 }))
        }
        _ => None,
    }
}

/// `dW[out, in] += alpha·dy[n, out]ᵀ·x[n, in]`: the gradient of the weight.
pub fn linear_weight_grad(
    options: MatmulOptions,
    dy: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
    dw: &mut [f32],
    alpha: f32,
) {
    let n = dy.len() / outputs;
    assert_eq!(
        (n * outputs, n * inputs, outputs * inputs),
        (dy.len(), x.len(), dw.len()),
        "linear_weight_grad: shapes disagree"
    );
    let (a, b) = (View::transposed(dy, outputs), View::rows(x, inputs));
    // SAFETY: the result is borrowed mutably, so it overlaps neither operand.
    unsafe { matmul(options, (outputs, inputs, n), Target::rows(dw, inputs), true, alpha, a, b) };
}
