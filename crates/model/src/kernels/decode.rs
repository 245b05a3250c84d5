//! Attention of new rows over a sequence's key/value cache, for decoding: one query row against
//! all keys so far, bound by reading the cache.

use super::attention::Heads;
use super::{axpy, dot, exp, max, vectorised};

/// Attention of `q` (`[new, query·dim]`) over cached keys and values (`[past+new, key_value·dim]`,
/// the new rows already appended): row `i` sees the first `past+i+1`.
pub fn cached_attention(q: &[f32], keys: &[f32], values: &[f32], heads: Heads, out: &mut [f32]) {
    let (d, q_row, kv_row) = (heads.dim, heads.query * heads.dim, heads.key_value * heads.dim);
    let (new, total) = (q.len() / q_row, keys.len() / kv_row);
    assert!(new <= total && values.len() == keys.len() && out.len() == q.len(), "cached_attention: shapes disagree");
    let group = heads.query / heads.key_value;
    let mut scores = vec![0f32; total];
    vectorised(
        #[inline(always)]
        || {
            for i in 0..new {
                let seen = total - new + i + 1;
                let scores = &mut scores[..seen];
                for head in 0..heads.query {
                    let q = &q[i * q_row + head * d..][..d];
                    let column = head / group * d;
                    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(kv_row)) {
                        *score = dot(q, &key[column..column + d]) * heads.scale;
                    }
                    let peak = max(scores);
                    let mut sum = 0f32;
                    for score in scores.iter_mut() {
                        *score = exp(*score - peak);
                    }
                    for score in scores.iter() {
                        sum += score;
                    }
                    let out = &mut out[i * q_row + head * d..][..d];
                    out.fill(0.0);
                    let inverse = 1.0 / sum;
                    for (score, value) in scores.iter().zip(values.chunks_exact(kv_row)) {
                        axpy(score * inverse, &value[column..column + d], out);
                    }
                }
            }
        },
    );
}
