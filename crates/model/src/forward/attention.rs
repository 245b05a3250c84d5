//! Which keys and values each sequence of a batch attends to.

mod texts;

use super::Past;
use crate::batch::Batch;
use crate::cache::LayerCache;
use crate::kernels::attention::Heads;
use crate::kernels::attention_infer::{Job, KeysValues, KvLayout, Spans, attend as kernel};
use crate::kernels::{SharedMut, Threads};
use std::ops::Range;
use texts::Texts;

/// Attention of every row of the batch; keys and values are those of the batch's own tokens. `log_sums`, where they are
/// wanted, are log2 Σ exp(score) of each query: `[n, query]`. `words` is overwritten.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub(crate) fn attend(
    threads: Threads,
    heads: Heads,
    layout: KvLayout,
    batch: &Batch,
    (q, k, v): (&[f32], &[f32], &[f32]),
    past: Past<'_, '_>,
    out: &mut [f32],
    log_sums: Option<&mut [f32]>,
    words: &mut Vec<u32>,
) {
    let (q_row, kv_row) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let n = batch.len();
    assert!(q.len() == n * q_row && k.len() == n * kv_row && v.len() == k.len() && out.len() == q.len(), "attention");
    let source = match past {
        Past::Batch => {
            let texts = Texts::of(batch);
            texts.write(threads, layout, k, v, words);
            Source::Batch { starts: texts.starts(layout), texts, words }
        }
        Past::Caches(caches) => {
            assert_eq!(caches.len(), batch.sequences(), "one cache per sequence");
            for (cache, rows) in caches.iter_mut().zip(batch.bounds.windows(2)) {
                let new = rows[0] * kv_row..rows[1] * kv_row;
                cache.append(&k[new.clone()], &v[new], layout);
            }
            Source::Caches(caches)
        }
    };
    assert!(log_sums.as_ref().is_none_or(|sums| sums.len() == n * heads.query), "attention: sums");
    let (shared, log_sums) = (SharedMut(out.as_mut_ptr()), log_sums.map(|sums| SharedMut(sums.as_mut_ptr())));
    let run = |Part { sequence, head, rows }: Part| {
        let own = batch.bounds[sequence] * q_row..batch.bounds[sequence + 1] * q_row;
        let (tokens, spans) = source.text(batch, sequence);
        let kv = KeysValues { layout, tokens, head, spans };
        let log_sums = log_sums.map(|sums| sums.at(own.start / heads.dim));
        let job = Job { q: &q[own.clone()], kv, heads, rows, out: shared.at(own.start), log_sums };
        // SAFETY: what is written are these rows of the sequence, and the channels of the query heads of the key head;
        // no two parts have both in common.
        unsafe { kernel(job) };
    };
    let own = (0..batch.sequences()).map(|sequence| batch.bounds[sequence + 1] - batch.bounds[sequence]);
    let most = if threads.count() > 1 { PART } else { usize::MAX };
    threads.for_each_of(parts(own, heads.key_value, most), run);
}

/// Where keys and values are.
enum Source<'a> {
    Batch { texts: Texts, starts: Vec<usize>, words: &'a [u32] },
    Caches(&'a [&'a mut LayerCache]),
}

impl Source<'_> {
    /// The length and the blocks of the text that a sequence ends.
    fn text(&self, batch: &Batch, sequence: usize) -> (usize, Spans<'_>) {
        match self {
            Self::Batch { texts, starts, words } => {
                let list = texts.blocks_of(sequence);
                (batch.text_len(sequence), Spans::Listed { words, starts, list })
            }
            Self::Caches(caches) => (caches[sequence].tokens, Spans::Blocks(&caches[sequence].blocks)),
        }
    }
}

/// Some rows of a sequence, and a key head.
struct Part {
    sequence: usize,
    head: usize,
    rows: Range<usize>,
}

/// Rows that a thread takes at a time.
const PART: usize = 64;

/// All rows and key heads of sequences with `rows` new tokens each, at most `most` rows at a time: a long text is
/// divided between threads. The last rows, which see most and take longest, come first.
fn parts(rows: impl Iterator<Item = usize>, heads: usize, most: usize) -> Vec<Part> {
    let mut parts = vec![];
    for (sequence, rows) in rows.enumerate() {
        for head in 0..heads {
            let some = |first: usize| Part { sequence, head, rows: first..rows.min(first.saturating_add(most)) };
            parts.extend((0..rows).step_by(most).map(some));
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.rows.end));
    parts
}
