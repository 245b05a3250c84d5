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
    let sequences = (0..batch.sequences()).filter(|s| !rows(*s).is_empty());
    let heads_of = |sequence: usize| (0..heads.key_value).map(move |kv_head| Job { sequence, kv_head });
    let jobs: Vec<Job> = sequences.flat_map(heads_of).collect();
    // Queries of a job's sequence, and attention of some of its rows.
    let run = |Job { sequence, kv_head }: Job, kv: KeysValues<'_>, part: Range<usize>, scratch: &mut Vec<f32>| {
        let queries = &q[rows(sequence).start * q_row..rows(sequence).end * q_row];
        // SAFETY: what is written are these rows of the sequence, and the channels of the query heads of the key head;
        // no two calls share both.
        unsafe { kernel(queries, kv, heads, kv_head, part, shared.at(batch.bounds[sequence] * q_row), scratch) };
    };
    let parallel = threads.count() > 1;
    match past {
        Past::Batch if parallel => {
            let text = |job: &Job| Text::of(batch, job.sequence, k, v, heads, job.kv_head);
            let texts: Vec<Text> = jobs.par_iter().map(text).collect();
            let parts = parts(&jobs, |sequence| rows(sequence).len());
            parts.into_par_iter().for_each_init(Vec::new, |scratch, (at, part)| {
                run(jobs[at], texts[at].keys_values(heads.dim), part, scratch);
            });
        }
        Past::Batch => {
            for job in jobs {
                let text = Text::of(batch, job.sequence, k, v, heads, job.kv_head);
                run(job, text.keys_values(heads.dim), 0..rows(job.sequence).len(), scores);
            }
        }
        Past::Caches(caches) => {
            assert_eq!(caches.len(), batch.sequences(), "one cache per sequence");
            for (sequence, cache) in caches.iter_mut().enumerate() {
                let new = rows(sequence).start * kv_row..rows(sequence).end * kv_row;
                cache.append(&k[new.clone()], &v[new], kv_row);
            }
            let caches = &*caches;
            let keys_values = |Job { sequence, kv_head }: Job| {
                let (keys, values) = (&caches[sequence].keys[..], &caches[sequence].values[..]);
                KeysValues { keys, values, kv_row, column: kv_head * heads.dim }
            };
            if parallel {
                let parts = parts(&jobs, |sequence| rows(sequence).len());
                parts.into_par_iter().for_each_init(Vec::new, |scratch, (at, part)| {
                    run(jobs[at], keys_values(jobs[at]), part, scratch);
                });
            } else {
                jobs.into_iter().for_each(|job| run(job, keys_values(job), 0..rows(job.sequence).len(), scores));
            }
        }
    }
}

/// A sequence and one of its key heads.
#[derive(Clone, Copy)]
struct Job {
    sequence: usize,
    kv_head: usize,
}

/// Rows that a thread takes at a time.
const PART: usize = 64;

/// The number of each job with some of its rows: a long text is shared out between threads. The last rows, which see
/// most and take longest, come first.
fn parts(jobs: &[Job], rows: impl Fn(usize) -> usize) -> Vec<(usize, Range<usize>)> {
    let of_job = |(at, job): (usize, &Job)| {
        let rows = rows(job.sequence);
        (0..rows).step_by(PART).map(move |first| (at, first..(first + PART).min(rows))).collect::<Vec<_>>()
    };
    let mut parts: Vec<_> = jobs.iter().enumerate().flat_map(of_job).collect();
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(part.end));
    parts
}

/// Keys and values of one key head for a whole text, gathered from the sequences that make it up.
struct Text {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Text {
    fn keys_values(&self, dim: usize) -> KeysValues<'_> {
        KeysValues { keys: &self.keys, values: &self.values, kv_row: dim, column: 0 }
    }

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
