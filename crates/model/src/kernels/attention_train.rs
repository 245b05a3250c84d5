//! Causal attention with grouped queries over packed sequences, forward and backward; over all
//! earlier tokens or a window of them, with scores capped by a tanh where a model does so (Gemma 2).
//!
//! In `f32` it works on blocks of query rows: only `[BLOCK, keys]` scores exist at a time, never a T×T matrix, and the
//! backward pass recomputes the probabilities from queries and keys instead of keeping them (Dao et al., arXiv
//! 2205.14135, without the on-line softmax, since a whole row fits). In bf16, where the processor has instructions for
//! it, the forward pass is that of [`super::attention_infer`], and the backward pass goes by squares ([`bf16_tiles`]).

#[cfg(target_arch = "x86_64")]
mod bf16_tiles;

use super::attention::{Heads, soft_cap};
use super::gemm::{Target, View, matmul};
use super::{MatmulOptions, SharedMut, Threads, dot, exp, max, vectorised};
use rayon::prelude::*;

/// What the gradients of attention are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// Queries, `[n, query·dim]`.
    pub q: &'a [f32],
    /// Keys, `[n, key_value·dim]`.
    pub k: &'a [f32],
    /// Values, shaped like the keys.
    pub v: &'a [f32],
    /// The result, shaped like the queries.
    pub out: &'a [f32],
    /// Its gradient.
    pub dout: &'a [f32],
    /// log2 Σ exp(score) of each query, `[n, query]`, where the forward pass left it: in bf16.
    pub log_sums: &'a [f32],
    /// Shapes and constants.
    pub heads: Heads,
}

/// Query rows whose scores are held at a time.
const BLOCK: usize = 64;

/// One (sequence, query head) pair of the packed batch.
#[derive(Clone, Copy)]
struct Job {
    start: usize,
    len: usize,
    head: usize,
}

/// A block of query rows of a job and the keys that any of them sees.
#[derive(Clone, Copy)]
struct Block {
    /// First query row, counted from the sequence's beginning.
    first: usize,
    rows: usize,
    /// First key, counted likewise.
    low: usize,
    /// Keys: up to the last query row.
    keys: usize,
}

fn blocks(heads: Heads, len: usize) -> impl Iterator<Item = Block> {
    (0..len).step_by(BLOCK).map(move |first| {
        let (rows, low) = (BLOCK.min(len - first), heads.first_seen(first));
        Block { first, rows, low, keys: first + rows - low }
    })
}

/// A block's queries, `[rows, dim]`, and its keys, `[dim, keys]`.
fn views<'a>(q: &'a [f32], k: &'a [f32], heads: Heads, job: Job, block: Block) -> [View<'a>; 2] {
    let d = heads.dim;
    let (q_row, k_row) = (heads.query * d, heads.key_value * d);
    let (q_at, k_at) = ((job.start + block.first) * q_row, (job.start + block.low) * k_row);
    [
        View { data: &q[q_at + job.head * d..], row_stride: q_row, col_stride: 1 },
        View { data: &k[k_at + job.head / heads.group() * d..], row_stride: 1, col_stride: k_row },
    ]
}

/// Scores of a block of query rows, turned into probabilities: `[rows, keys]`, zero where a key is
/// not seen. `slopes` is given what capping multiplies each score's gradient by.
fn probabilities(
    [queries, keys_t]: [View<'_>; 2],
    heads: Heads,
    block: Block,
    scores: &mut [f32],
    slopes: Option<&mut [f32]>,
) {
    let Block { first, rows, low, keys } = block;
    let (base, total) = (SharedMut(scores.as_mut_ptr()), scores.len());
    let dst = Target { base, total, at: 0, row_stride: keys };
    // SAFETY: the scores are borrowed mutably.
    unsafe { matmul(Threads::One.into(), (rows, keys, heads.dim), dst, false, heads.scale, queries, keys_t) };
    if let Some(cap) = heads.softcap {
        soft_cap(&mut scores[..rows * keys], cap, slopes);
    }
    vectorised(
        #[inline(always)]
        || {
            for (i, row) in scores.chunks_exact_mut(keys).take(rows).enumerate() {
                let (row, future) = row.split_at_mut(first + i + 1 - low);
                let (past, seen) = row.split_at_mut(heads.first_seen(first + i) - low);
                let peak = max(seen);
                let mut sum = 0f32;
                for v in seen.iter_mut() {
                    *v = exp(*v - peak);
                }
                let (chunks, rest) = seen.as_chunks::<16>();
                let mut lanes = [0f32; 16];
                for chunk in chunks {
                    for (l, v) in lanes.iter_mut().zip(chunk) {
                        *l += v;
                    }
                }
                sum += super::reduce(lanes) + rest.iter().sum::<f32>();
                let inverse = 1.0 / sum;
                for v in seen.iter_mut() {
                    *v *= inverse;
                }
                past.fill(0.0);
                future.fill(0.0);
            }
        },
    );
}

fn jobs(bounds: &[usize], heads: usize) -> Vec<Job> {
    bounds.windows(2).flat_map(|w| (0..heads).map(move |head| Job { start: w[0], len: w[1] - w[0], head })).collect()
}

fn for_each<T: Send>(threads: Threads, jobs: Vec<T>, f: impl Fn(T) + Send + Sync) {
    if threads.count() > 1 { jobs.into_par_iter().for_each(f) } else { jobs.into_iter().for_each(f) }
}

/// `out[n, query·dim]` of queries `[n, query·dim]`, keys and values `[n, key_value·dim]`.
/// `bounds` are the row numbers at which sequences begin, and the end: `[0, …, n]`.
pub fn attention(threads: Threads, q: &[f32], k: &[f32], v: &[f32], heads: Heads, bounds: &[usize], out: &mut [f32]) {
    check(q, k, v, heads, bounds);
    assert_eq!(q.len(), out.len(), "attention: shapes disagree");
    let (d, q_row, kv_row) = (heads.dim, heads.query * heads.dim, heads.key_value * heads.dim);
    let shared = SharedMut(out.as_mut_ptr());
    let total = out.len();
    for_each(threads, jobs(bounds, heads.query), |job| {
        let mut scores = vec![0f32; largest_block(heads, job.len)];
        for block in blocks(heads, job.len) {
            let Block { first, rows, low, keys } = block;
            probabilities(views(q, k, heads, job, block), heads, block, &mut scores[..rows * keys], None);
            let at = (job.start + first) * q_row + job.head * d;
            let dst = Target { base: shared, total, at, row_stride: q_row };
            let scores = View::rows(&scores[..rows * keys], keys);
            let values = View {
                data: &v[(job.start + low) * kv_row + job.head / heads.group() * d..],
                row_stride: kv_row,
                col_stride: 1,
            };
            // SAFETY: a job writes only columns `head·d..head·d+d` of its own sequence's rows, and
            // no two jobs share both.
            unsafe { matmul(Threads::One.into(), (rows, d, keys), dst, false, 1.0, scores, values) };
        }
    });
}

/// The scores of the largest block of a sequence.
fn largest_block(heads: Heads, len: usize) -> usize {
    blocks(heads, len).map(|block| block.rows * block.keys).max().unwrap_or(0)
}

/// Gradients of attention: `dq`, `dk` and `dv`, shaped like queries, keys and values, are overwritten. In bf16, with
/// the sums that the forward pass left, the operands of the products are rounded, probabilities among them.
pub fn attention_grad(
    options: MatmulOptions,
    operands: Operands<'_>,
    bounds: &[usize],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let Operands { q, k, v, out, dout, log_sums, heads } = operands;
    check(q, k, v, heads, bounds);
    assert!(
        out.len() == q.len()
            && dout.len() == q.len()
            && dq.len() == q.len()
            && dk.len() == k.len()
            && dv.len() == v.len(),
        "attention_grad: shapes disagree"
    );
    dk.fill(0.0);
    dv.fill(0.0);
    let threads = options.threads;
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = options.bf16() {
        assert_eq!(log_sums.len() * heads.dim, q.len(), "attention_grad: no sums of the forward pass");
        let [dq, dk, dv] = [dq, dk, dv].map(|values| SharedMut(values.as_mut_ptr()));
        let results = bf16_tiles::Gradients { dq, dk, dv };
        // SAFETY: the lengths are those asserted above, and no two jobs have a sequence and a key head in common.
        return for_each(threads, jobs(bounds, heads.key_value), |job| unsafe {
            bf16_tiles::head_grad(instructions, operands, job, results);
        });
    }
    let options = MatmulOptions::from(Threads::One);
    let (d, q_row, kv_row) = (heads.dim, heads.query * heads.dim, heads.key_value * heads.dim);
    let (dq_len, dkv_len) = (dq.len(), dk.len());
    let (dq, dk, dv) = (SharedMut(dq.as_mut_ptr()), SharedMut(dk.as_mut_ptr()), SharedMut(dv.as_mut_ptr()));
    // One job per key/value head: the query heads of its group add to the same key gradients.
    for_each(threads, jobs(bounds, heads.key_value), |kv_job| {
        let (dq, dk, dv) = (dq, dk, dv);
        let len = kv_job.len;
        let size = largest_block(heads, len);
        let mut p = vec![0f32; size];
        let mut ds = vec![0f32; size];
        let mut slopes = vec![0f32; if heads.softcap.is_some() { size } else { 0 }];
        for head in kv_job.head * heads.group()..(kv_job.head + 1) * heads.group() {
            let job = Job { head, ..kv_job };
            for block in blocks(heads, len) {
                let Block { first, rows, low, keys } = block;
                let (p, ds) = (&mut p[..rows * keys], &mut ds[..rows * keys]);
                let mut slopes = heads.softcap.map(|_| &mut slopes[..rows * keys]);
                probabilities(views(q, k, heads, job, block), heads, block, p, slopes.as_deref_mut());
                let kv_at = (kv_job.start + low) * kv_row + kv_job.head * d;
                let (keys_view, values_t) = (
                    View { data: &k[kv_at..], row_stride: kv_row, col_stride: 1 },
                    View { data: &v[kv_at..], row_stride: 1, col_stride: kv_row },
                );
                let q_at = (job.start + first) * q_row + head * d;
                let q_span = q_at..q_at + (rows - 1) * q_row + d;
                let (dout_rows, out_rows) = (&dout[q_span.clone()], &out[q_span.clone()]);
                let dq = Target { base: dq, total: dq_len, at: q_at, row_stride: q_row };
                let dk = Target { base: dk, total: dkv_len, at: kv_at, row_stride: kv_row };
                let dv = Target { base: dv, total: dkv_len, at: kv_at, row_stride: kv_row };
                let ds_target = Target { base: SharedMut(ds.as_mut_ptr()), total: ds.len(), at: 0, row_stride: keys };
                let dout_view = View { data: dout_rows, row_stride: q_row, col_stride: 1 };
                let p_t = View::transposed(p, keys);
                // SAFETY: `ds` is this job's own. Of the shared buffers a job writes only its own
                // key/value head's columns of its own sequence (and the query columns of the heads
                // in that group); no two jobs share both.
                unsafe {
                    matmul(options, (rows, keys, d), ds_target, false, 1.0, dout_view, values_t);
                    matmul(options, (keys, d, rows), dv, true, 1.0, p_t, dout_view);
                }
                vectorised(
                    #[inline(always)]
                    || {
                        for i in 0..rows {
                            let (g, o) = (&dout_rows[i * q_row..][..d], &out_rows[i * q_row..][..d]);
                            let delta = dot(g, o);
                            let (ds, p) = (&mut ds[i * keys..][..keys], &p[i * keys..][..keys]);
                            for (s, p) in ds.iter_mut().zip(p) {
                                *s = p * (*s - delta);
                            }
                        }
                        if let Some(slopes) = slopes {
                            for (s, slope) in ds.iter_mut().zip(slopes.iter()) {
                                *s *= slope;
                            }
                        }
                    },
                );
                let (ds_view, ds_t) = (View::rows(ds, keys), View::transposed(ds, keys));
                let queries = View { data: &q[q_span], row_stride: q_row, col_stride: 1 };
                // SAFETY: as above.
                unsafe {
                    matmul(options, (rows, d, keys), dq, false, heads.scale, ds_view, keys_view);
                    matmul(options, (keys, d, rows), dk, true, heads.scale, ds_t, queries);
                }
            }
        }
    });
}

fn check(q: &[f32], k: &[f32], v: &[f32], heads: Heads, bounds: &[usize]) {
    let n = bounds.last().copied().unwrap_or(0);
    assert!(bounds.is_sorted() && heads.query.is_multiple_of(heads.key_value), "attention: bad sequence bounds");
    assert!(
        q.len() == n * heads.query * heads.dim && k.len() == n * heads.key_value * heads.dim && v.len() == k.len(),
        "attention: shapes disagree"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::forward::{Past, attend};
    use crate::kernels::MatmulPrecision;
    use crate::kernels::attention_infer::KvLayout;
    use crate::kernels::bf16::Instructions;
    use lopper_testkit::{Feature, skip_unless};

    /// In bf16, the result and all gradients differ from those in `f32` by what rounding of the operands gives: of
    /// heads of any width, with and without windows and caps, for texts around the borders of blocks.
    #[test]
    fn bf16_is_close_to_f32() {
        let Some(instructions) = skip_unless(Feature::Bf16, Instructions::best()) else { return };
        for (query, key_value, dim, softcap, window) in [
            (4, 2, 40, Some(8.0), Some(90)),
            (3, 1, 64, None, None),
            (2, 2, 8, None, Some(1)),
            (1, 1, 128, None, Some(300)),
            (2, 1, 33, Some(3.0), None),
        ] {
            let heads = Heads { query, key_value, dim, scale: 0.16, softcap, window };
            let texts = [[0u32; 700].as_slice(), &[0], &[0; 128], &[0; 257]];
            let batch = Batch::new(&texts);
            // Rounded already, so that what is left is the rounding of weights and of their gradients.
            let waves = |row: usize, frequency: f32| -> Vec<f32> {
                let wave = |i| half::bf16::from_f32((i as f32 * frequency).sin()).to_f32();
                (0..batch.len() * row).map(wave).collect()
            };
            let (q_row, kv_row) = (query * dim, key_value * dim);
            let (q, k, v, dout) = (waves(q_row, 0.37), waves(kv_row, 0.71), waves(kv_row, 0.13), waves(q_row, 0.53));
            let run = |precision: MatmulPrecision| {
                let options = MatmulOptions { threads: Threads::One, precision };
                let (mut out, mut log_sums) = (vec![f32::NAN; q.len()], vec![]);
                match options.bf16() {
                    None => attention(Threads::One, &q, &k, &v, heads, &batch.bounds, &mut out),
                    Some(_) => {
                        let layout = KvLayout { heads: key_value, dim, instructions: Some(instructions) };
                        log_sums.resize(batch.len() * query, f32::NAN);
                        let (past, words) = (Past::Batch, &mut vec![]);
                        let sums = Some(log_sums.as_mut_slice());
                        attend(Threads::One, heads, layout, &batch, (&q, &k, &v), past, &mut out, sums, words);
                    }
                }
                let mut dq = vec![f32::NAN; q.len()];
                let (mut dk, mut dv) = (vec![f32::NAN; k.len()], vec![f32::NAN; k.len()]);
                let operands = Operands { q: &q, k: &k, v: &v, out: &out, dout: &dout, log_sums: &log_sums, heads };
                attention_grad(options, operands, &batch.bounds, &mut dq, &mut dk, &mut dv);
                [out, dq, dk, dv]
            };
            let exact = run(MatmulPrecision::F32);
            for (name, (exact, rounded)) in
                ["out", "dq", "dk", "dv"].iter().zip(exact.iter().zip(&run(MatmulPrecision::Bf16)))
            {
                let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
                let error = norm(&mut exact.iter().zip(rounded).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
                let only_itself = window == Some(1) && ["dq", "dk"].contains(name);
                assert!(error < 2e-2 || only_itself, "{query}/{key_value} heads of {dim}, {name}: {error}");
                assert!(error > 0.0 || window == Some(1), "{name}: bf16 was not used");
                // A token that sees itself alone: the weight is 1, whatever the score is.
                assert!(!only_itself || rounded.iter().all(|d| d.abs() < 0.1), "{name}");
            }
        }
    }
}
