//! Causal attention with grouped queries over packed sequences, forward and backward.
//!
//! Works on blocks of query rows: only `[BLOCK, keys]` scores exist at a time, never a T×T matrix,
//! and the backward pass recomputes the probabilities from queries and keys instead of keeping
//! them (Dao et al., arXiv 2205.14135, without the on-line softmax, since a whole row fits).

use super::gemm::{Target, View, product};
use super::{Par, SharedMut, dot, exp, max, vectorised};
use crate::config::Config;
use rayon::prelude::*;

/// Query rows whose scores are held at a time.
const BLOCK: usize = 64;

/// Shapes of the heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of a head.
    pub dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

impl Heads {
    /// The heads of a model.
    pub fn of(config: &Config) -> Self {
        Self {
            query: config.num_attention_heads,
            key_value: config.num_key_value_heads,
            dim: config.head_dim,
            scale: config.attention_scale,
        }
    }

    fn group(&self) -> usize {
        self.query / self.key_value
    }
}

/// One (sequence, query head) pair of the packed batch.
#[derive(Clone, Copy)]
struct Job {
    start: usize,
    len: usize,
    head: usize,
}

/// Scores of query rows `first..first+rows` of a job, turned into probabilities:
/// `[rows, first+rows]`, zero above the diagonal.
fn probabilities(q: &[f32], k: &[f32], heads: Heads, job: Job, first: usize, rows: usize, scores: &mut [f32]) {
    let (d, keys) = (heads.dim, first + rows);
    let (q_row, k_row) = (heads.query * d, heads.key_value * d);
    let queries = View { data: &q[(job.start + first) * q_row + job.head * d..], row_stride: q_row, col_stride: 1 };
    let keys_t =
        View { data: &k[job.start * k_row + job.head / heads.group() * d..], row_stride: 1, col_stride: k_row };
    let (base, total) = (SharedMut(scores.as_mut_ptr()), scores.len());
    let dst = Target { base, total, at: 0, row_stride: keys };
    // SAFETY: the scores are borrowed mutably.
    unsafe { product(Par::Sequential, (rows, keys, d), dst, false, heads.scale, queries, keys_t) };
    vectorised(
        #[inline(always)]
        || {
            for (i, row) in scores.chunks_exact_mut(keys).take(rows).enumerate() {
                let (seen, future) = row.split_at_mut(first + i + 1);
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
                future.fill(0.0);
            }
        },
    );
}

fn jobs(bounds: &[usize], heads: usize) -> Vec<Job> {
    bounds.windows(2).flat_map(|w| (0..heads).map(move |head| Job { start: w[0], len: w[1] - w[0], head })).collect()
}

fn for_each<T: Send>(par: Par, jobs: Vec<T>, f: impl Fn(T) + Send + Sync) {
    if par.threads() > 1 { jobs.into_par_iter().for_each(f) } else { jobs.into_iter().for_each(f) }
}

/// `out[n, query·dim]` of queries `[n, query·dim]`, keys and values `[n, key_value·dim]`.
/// `bounds` are the row numbers at which sequences begin, and the end: `[0, …, n]`.
pub fn attention(par: Par, q: &[f32], k: &[f32], v: &[f32], heads: Heads, bounds: &[usize], out: &mut [f32]) {
    check(q, k, v, heads, bounds);
    assert_eq!(q.len(), out.len(), "attention: shapes disagree");
    let (d, q_row, kv_row) = (heads.dim, heads.query * heads.dim, heads.key_value * heads.dim);
    let shared = SharedMut(out.as_mut_ptr());
    let total = out.len();
    for_each(par, jobs(bounds, heads.query), |job| {
        let mut scores = vec![0f32; BLOCK.min(job.len) * job.len];
        let values =
            View { data: &v[job.start * kv_row + job.head / heads.group() * d..], row_stride: kv_row, col_stride: 1 };
        for first in (0..job.len).step_by(BLOCK) {
            let rows = BLOCK.min(job.len - first);
            let keys = first + rows;
            probabilities(q, k, heads, job, first, rows, &mut scores[..rows * keys]);
            let at = (job.start + first) * q_row + job.head * d;
            let dst = Target { base: shared, total, at, row_stride: q_row };
            let scores = View::rows(&scores[..rows * keys], keys);
            // SAFETY: a job writes only columns `head·d..head·d+d` of its own sequence's rows, and
            // no two jobs share both.
            unsafe { product(Par::Sequential, (rows, d, keys), dst, false, 1.0, scores, values) };
        }
    });
}

/// Gradients of [`attention`]; `dq`, `dk` and `dv` are overwritten.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn attention_grad(
    par: Par,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    dout: &[f32],
    heads: Heads,
    bounds: &[usize],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    check(q, k, v, heads, bounds);
    assert!(
        out.len() == q.len()
            && dout.len() == q.len()
            && dq.len() == q.len()
            && dk.len() == k.len()
            && dv.len() == v.len(),
        "attention_grad: shapes disagree"
    );
    let (d, q_row, kv_row) = (heads.dim, heads.query * heads.dim, heads.key_value * heads.dim);
    dk.fill(0.0);
    dv.fill(0.0);
    let (dq_len, dkv_len) = (dq.len(), dk.len());
    let (dq, dk, dv) = (SharedMut(dq.as_mut_ptr()), SharedMut(dk.as_mut_ptr()), SharedMut(dv.as_mut_ptr()));
    // One job per key/value head: the query heads of its group add to the same key gradients.
    for_each(par, jobs(bounds, heads.key_value), |kv_job| {
        let (dq, dk, dv) = (dq, dk, dv);
        let len = kv_job.len;
        let mut p = vec![0f32; BLOCK.min(len) * len];
        let mut ds = vec![0f32; BLOCK.min(len) * len];
        let kv_at = kv_job.start * kv_row + kv_job.head * d;
        let (keys_view, values_t) = (
            View { data: &k[kv_at..], row_stride: kv_row, col_stride: 1 },
            View { data: &v[kv_at..], row_stride: 1, col_stride: kv_row },
        );
        for head in kv_job.head * heads.group()..(kv_job.head + 1) * heads.group() {
            let job = Job { head, ..kv_job };
            for first in (0..len).step_by(BLOCK) {
                let rows = BLOCK.min(len - first);
                let keys = first + rows;
                let (p, ds) = (&mut p[..rows * keys], &mut ds[..rows * keys]);
                probabilities(q, k, heads, job, first, rows, p);
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
                    product(Par::Sequential, (rows, keys, d), ds_target, false, 1.0, dout_view, values_t);
                    product(Par::Sequential, (keys, d, rows), dv, true, 1.0, p_t, dout_view);
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
                    },
                );
                let (ds_view, ds_t) = (View::rows(ds, keys), View::transposed(ds, keys));
                let queries = View { data: &q[q_span], row_stride: q_row, col_stride: 1 };
                // SAFETY: as above.
                unsafe {
                    product(Par::Sequential, (rows, d, keys), dq, false, heads.scale, ds_view, keys_view);
                    product(Par::Sequential, (keys, d, rows), dk, true, heads.scale, ds_t, queries);
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
