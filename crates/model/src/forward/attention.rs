//! Which keys and values each sequence of a batch attends to.

use super::Past;
use crate::batch::Batch;
use crate::kernels::attention::Heads;
use crate::kernels::attention_infer::{KEY_BLOCK, KeysValues, append_keys, attend as kernel};
use crate::kernels::{SharedMut, Threads};
use rayon::prelude::*;
use std::ops::Range;

/// Attention of every row of the batch; keys and values are those of the batch's own tokens.
pub(super) fn attend(
    threads: Threads,
    heads: Heads,
    batch: &Batch,
    (q, k, v): (&[f32], &[f32], &[f32]),
    past: Past<'_, '_>,
    out: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let n = batch.len();
    assert!(q.len() == n * q_row && k.len() == n * kv_row && v.len() == k.len() && out.len() == q.len(), "attention");
    let shared = SharedMut(out.as_mut_ptr());
    let rows = |sequence: usize| batch.bounds[sequence]..batch.bounds[sequence + 1];
    let jobs = |sequence: usize| (0..heads.key_value).map(move |kv_head| (sequence, kv_head));
    let mut list = Vec::with_capacity(batch.sequences() * heads.key_value);
    list.extend((0..batch.sequences()).filter(|s| !rows(*s).is_empty()).flat_map(jobs));
    // SAFETY (of both calls below): a job's result is the rows of its sequence and the channels of the
    // query heads of its key head; no two jobs share both.
    let target = |sequence: usize| shared.at(batch.bounds[sequence] * q_row);
    match past {
        Past::Batch => each(threads, list, scores, |(sequence, kv_head), scores| {
            let text = Text::of(batch, sequence, k, v, heads, kv_head);
            let queries = &q[rows(sequence).start * q_row..rows(sequence).end * q_row];
            let kv = KeysValues { keys: &text.keys, values: &text.values, kv_row: heads.dim, column: 0 };
            // SAFETY: see above.
            unsafe { kernel(queries, kv, heads, kv_head, target(sequence), scores) };
        }),
        Past::Caches(caches) => {
            assert_eq!(caches.len(), batch.sequences(), "one cache per sequence");
            for (sequence, cache) in caches.iter_mut().enumerate() {
                let new = rows(sequence).start * kv_row..rows(sequence).end * kv_row;
                cache.append(&k[new.clone()], &v[new], kv_row);
            }
            let caches = &*caches;
            each(threads, list, scores, |(sequence, kv_head), scores| {
                let queries = &q[rows(sequence).start * q_row..rows(sequence).end * q_row];
                let (keys, values) = (&caches[sequence].keys, &caches[sequence].values);
                let kv = KeysValues { keys, values, kv_row, column: kv_head * heads.dim };
                // SAFETY: see above.
                unsafe { kernel(queries, kv, heads, kv_head, target(sequence), scores) };
            });
        }
    }
}

fn each<T: Send>(threads: Threads, list: Vec<T>, scores: &mut Vec<f32>, f: impl Fn(T, &mut Vec<f32>) + Send + Sync) {
    if threads.count() > 1 && list.len() > 1 {
        list.into_par_iter().for_each_init(Vec::new, |scores, job| f(job, scores));
    } else {
        list.into_iter().for_each(|job| f(job, scores));
    }
}

/// Keys and values of one key head for a whole text, gathered from the sequences that make it up.
struct Text {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Text {
    fn of(batch: &Batch, sequence: usize, k: &[f32], v: &[f32], heads: Heads, kv_head: usize) -> Self {
        let (dim, kv_row) = (heads.dim, heads.key_value * heads.dim);
        let tokens = batch.text_len(sequence);
        let mut text = Self { keys: Vec::with_capacity(tokens.next_multiple_of(KEY_BLOCK) * dim), values: vec![] };
        text.values.reserve(tokens * dim);
        let column = kv_head * dim..(kv_head + 1) * dim;
        let mut parts = vec![];
        let mut part = Some(sequence);
        while let Some(sequence) = part {
            parts.push(batch.bounds[sequence]..batch.bounds[sequence + 1]);
            part = batch.parent(sequence);
        }
        for rows in parts.into_iter().rev() {
            text.append(k, v, rows, kv_row, column.clone());
        }
        text
    }

    fn append(&mut self, k: &[f32], v: &[f32], rows: Range<usize>, kv_row: usize, column: Range<usize>) {
        let dim = column.len();
        let past = self.values.len() / dim;
        append_keys(&mut self.keys, past, rows.clone().map(|row| &k[row * kv_row..][column.clone()]), dim);
        for row in rows {
            self.values.extend_from_slice(&v[row * kv_row..][column.clone()]);
        }
    }
}
