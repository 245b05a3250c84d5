//! A prefix tree of the texts to score, so that what several texts begin with is computed once.

use crate::layer_trie::BATCH_TOKENS;
use crate::loglik::LoglikRequest;
use lopper_model::{Batch, Model, Target};
use std::collections::HashMap;

/// Tokens that texts must have in common for it to be worth a segment of its own.
const MIN_SHARED: usize = 4;

/// Which request, and which of its continuations, a target belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub request: usize,
    pub choice: usize,
}

/// A batch, and the tokens to score in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScoringBatch {
    pub batch: Batch,
    /// Tokens of the packed batch that come before a target, each once.
    pub rows: Vec<usize>,
    /// The tokens to score; `row` is an index into `rows`.
    pub targets: Vec<Target>,
    /// Whose token each target is; those of one owner are in order.
    pub owners: Vec<Owner>,
}

impl ScoringBatch {
    /// Scores every token after the first of whole sequences, of which the first is request number `first`.
    pub fn of_sequences(sequences: &[Vec<u32>], first: usize) -> Self {
        let mut scoring = Self { batch: Batch::new(sequences), ..Self::default() };
        for (at, sequence) in sequences.iter().enumerate() {
            let start = scoring.batch.bounds[at];
            for (i, token) in sequence.iter().enumerate().skip(1) {
                let row = scoring.add_row(start + i - 1);
                scoring.add_target(row, *token, Owner { request: first + at, choice: 0 });
            }
        }
        scoring
    }

    /// Adds a token of the batch that comes before targets; returns its index among `rows`.
    fn add_row(&mut self, row: usize) -> usize {
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// Adds `token` as a target after a row that was added.
    fn add_target(&mut self, row: usize, token: u32, owner: Owner) {
        self.targets.push(Target { row, token });
        self.owners.push(owner);
    }
}

/// A node of the tree: tokens that all texts below it go through.
struct Segment {
    parent: Option<usize>,
    children: Vec<usize>,
    /// Position of its first token in each of its texts.
    start: usize,
    tokens: Vec<u32>,
}

/// A text of the tree, and what is scored of it.
struct Text {
    /// The segment it ended in when it was added; later splits put new segments above that one.
    segment: usize,
    owner: Owner,
    /// Tokens to score, each with the position of the token before it.
    targets: Vec<(usize, u32)>,
}

#[derive(Default)]
struct PrefixTree {
    roots: Vec<usize>,
    segments: Vec<Segment>,
    texts: Vec<Text>,
    /// Tokens of all segments.
    tokens: usize,
}

impl PrefixTree {
    fn children(&self, of: Option<usize>) -> &[usize] {
        of.map_or(&self.roots, |segment| &self.segments[segment].children)
    }

    /// Follows a text down the tree. Returns the last segment that it goes through whole, the position where it leaves
    /// that, and the child worth splitting, with the number of tokens that the text shares with it.
    fn follow(&self, text: &[u32]) -> (Option<usize>, usize, Option<(usize, usize)>) {
        let (mut at, mut position) = (None, 0);
        loop {
            let shared = self
                .children(at)
                .iter()
                .map(|&child| (common_prefix(&self.segments[child].tokens, &text[position..]), child));
            let Some((shared, child)) = shared.max_by_key(|(shared, _)| *shared) else { return (at, position, None) };
            let whole = self.segments[child].tokens.len();
            if shared == whole {
                (at, position) = (Some(child), position + shared);
            } else if shared >= MIN_SHARED || (shared > 0 && position + shared == text.len()) {
                return (at, position, Some((child, shared)));
            } else {
                return (at, position, None);
            }
        }
    }

    /// Tokens that a text would add.
    fn cost(&self, text: &[u32]) -> usize {
        let (_, position, partly) = self.follow(text);
        text.len() - position - partly.map_or(0, |(_, shared)| shared)
    }

    /// Adds a text, and returns the segment it ends in. Without `share` it becomes a root of its own.
    fn insert(&mut self, text: &[u32], share: bool) -> usize {
        let (mut at, mut position, partly) = if share { self.follow(text) } else { (None, 0, None) };
        if let Some((child, shared)) = partly {
            if position + shared == text.len() {
                return child;
            }
            (at, position) = (Some(self.split(child, shared)), position + shared);
        }
        match at {
            Some(segment) if position == text.len() => segment,
            _ => self.append(at, position, text[position..].to_vec()),
        }
    }

    fn append(&mut self, parent: Option<usize>, start: usize, tokens: Vec<u32>) -> usize {
        let segment = self.segments.len();
        self.tokens += tokens.len();
        self.segments.push(Segment { parent, children: vec![], start, tokens });
        match parent {
            Some(parent) => self.segments[parent].children.push(segment),
            None => self.roots.push(segment),
        }
        segment
    }

    /// Moves the first `tokens` tokens of `segment` into a new segment above it, and returns that.
    fn split(&mut self, segment: usize, tokens: usize) -> usize {
        let upper = self.segments.len();
        let Segment { parent, start, .. } = self.segments[segment];
        let lower = self.segments[segment].tokens.split_off(tokens);
        let first = std::mem::replace(&mut self.segments[segment].tokens, lower);
        self.segments[segment].start = start + tokens;
        self.segments[segment].parent = Some(upper);
        self.segments.push(Segment { parent, children: vec![segment], start, tokens: first });
        let siblings = match parent {
            Some(parent) => &mut self.segments[parent].children,
            None => &mut self.roots,
        };
        siblings.iter_mut().filter(|child| **child == segment).for_each(|child| *child = upper);
        upper
    }

    /// Adds the texts and targets of a request.
    fn add(&mut self, index: usize, request: &LoglikRequest, share: bool) {
        let before = request.context.len() - 1;
        for (choice, continuation) in request.continuations.iter().enumerate() {
            let segment = self.insert(&text_of(request, continuation), share);
            let targets = continuation.iter().enumerate().map(|(at, token)| (before + at, *token)).collect();
            self.texts.push(Text { segment, owner: Owner { request: index, choice }, targets });
        }
    }

    /// The batch of all segments, each continuing its parent.
    fn scoring_batch(&self) -> ScoringBatch {
        let mut scoring = ScoringBatch::default();
        // For each segment: its sequence in the batch, and where that begins.
        let mut sequences = vec![(0, 0); self.segments.len()];
        let mut waiting: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(at) = waiting.pop() {
            let segment = &self.segments[at];
            let parent = segment.parent.map(|parent| sequences[parent].0);
            let sequence = scoring.batch.branch(&segment.tokens, parent);
            sequences[at] = (sequence, scoring.batch.bounds[sequence]);
            waiting.extend(segment.children.iter().rev());
        }
        let mut rows = HashMap::new();
        for text in &self.texts {
            for &(position, token) in &text.targets {
                let mut segment = &self.segments[text.segment];
                let mut start = sequences[text.segment].1;
                while let Some(parent) = segment.parent.filter(|_| segment.start > position) {
                    (segment, start) = (&self.segments[parent], sequences[parent].1);
                }
                let row = start + position - segment.start;
                let row = *rows.entry(row).or_insert_with(|| scoring.add_row(row));
                scoring.add_target(row, token, text.owner);
            }
        }
        scoring
    }
}

/// What a model reads to score a continuation: all but its last token, which is only predicted.
fn text_of(request: &LoglikRequest, continuation: &[u32]) -> Vec<u32> {
    request.context.iter().chain(&continuation[..continuation.len() - 1]).copied().collect()
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Divides requests into batches, in order. Within a batch, what texts begin with is computed once: few-shot examples
/// that neighbouring contexts share, contexts, and beginnings that choices share.
pub(crate) fn scoring_batches(model: &Model, requests: &[LoglikRequest]) -> Vec<ScoringBatch> {
    let mut trees: Vec<PrefixTree> = Vec::new();
    let mut last_shares = true;
    for (at, request) in requests.iter().enumerate() {
        // Nothing can be shared where a token is computed differently in a longer text (rotary scaling by length).
        let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
        let share = !model.depends_on_length(1, request.context.len() + longest);
        if !(share && last_shares && trees.last().is_some_and(|tree| fits(tree, request))) {
            trees.push(PrefixTree::default());
        }
        last_shares = share;
        if let Some(tree) = trees.last_mut() {
            tree.add(at, request, share);
        }
    }
    trees.iter().map(PrefixTree::scoring_batch).collect()
}

/// Whether a request should go into the batch of a tree: because all is few tokens, or because it shares most of its
/// context with the tree.
fn fits(tree: &PrefixTree, request: &LoglikRequest) -> bool {
    let context = request.context.len();
    let new = tree.cost(&request.context);
    let own = new + request.continuations.iter().map(|c| c.len() - 1).sum::<usize>();
    let shared = context - new;
    tree.tokens + own <= BATCH_TOKENS || (2 * shared >= context && tree.tokens + own <= 4 * shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_model::Config;
    use proptest::prelude::*;

    fn model() -> Model {
        let config = Config { vocab_size: 4, hidden_size: 4, intermediate_size: 4, ..Config::plain(1, 1, 4) };
        Model::random(config, 0.1, 1).unwrap()
    }

    /// The text up to and with a row of a batch.
    fn text(batch: &Batch, row: usize) -> Vec<u32> {
        let mut sequence = batch.bounds.partition_point(|bound| *bound <= row) - 1;
        let mut tokens = batch.tokens[batch.bounds[sequence]..=row].to_vec();
        while let Some(parent) = batch.parent(sequence) {
            assert!(parent < sequence);
            tokens.splice(0..0, batch.tokens[batch.bounds[parent]..batch.bounds[parent + 1]].iter().copied());
            sequence = parent;
        }
        tokens
    }

    proptest! {
        #[test]
        fn every_token_is_scored_after_its_own_text(
            requests in prop::collection::vec(
                (prop::collection::vec(0..2_u32, 1..40), prop::collection::vec(prop::collection::vec(0..2_u32, 1..9), 1..4)),
                1..12,
            )
        ) {
            let requests: Vec<LoglikRequest> =
                requests.into_iter().map(|(context, continuations)| LoglikRequest { context, continuations }).collect();
            let mut found = vec![];
            let (mut computed, mut unshared) = (0, 0);
            for scoring in scoring_batches(&model(), &requests) {
                computed += scoring.batch.len();
                let mut rows = scoring.rows.clone();
                rows.sort_unstable();
                rows.dedup();
                prop_assert_eq!(rows.len(), scoring.rows.len(), "each row once");
                prop_assert_eq!(scoring.targets.len(), scoring.owners.len());
                for (target, owner) in scoring.targets.iter().zip(&scoring.owners) {
                    let before = text(&scoring.batch, scoring.rows[target.row]);
                    found.push(((owner.request, owner.choice), before, target.token));
                }
            }
            let mut wanted = vec![];
            for (index, request) in requests.iter().enumerate() {
                for (choice, continuation) in request.continuations.iter().enumerate() {
                    unshared += request.context.len() + continuation.len() - 1;
                    for (at, token) in continuation.iter().enumerate() {
                        let before = [request.context.as_slice(), &continuation[..at]].concat();
                        wanted.push(((index, choice), before, *token));
                    }
                }
            }
            prop_assert_eq!(found, wanted);
            prop_assert!(computed <= unshared);
        }
    }

    #[test]
    fn what_texts_begin_with_is_computed_once() {
        let request = |context: &[u32], continuations: &[&[u32]]| LoglikRequest {
            context: context.to_vec(),
            continuations: continuations.iter().map(|tokens| tokens.to_vec()).collect(),
        };
        // Two choices that differ at their end, and two contexts that do.
        let (a, b) =
            (request(&[1, 2, 3, 1, 2], &[&[0, 1, 2, 3, 1], &[0, 1, 2, 3, 2, 2]]), request(&[1, 2, 3, 1, 3], &[&[1]]));
        let batches = scoring_batches(&model(), &[a, b]);
        assert_eq!((batches.len(), batches[0].batch.len()), (1, 4 + 1 + 4 + 1 + 1));
        // The first five tokens of both choices are predicted by the same rows.
        assert_eq!((batches[0].rows.len(), batches[0].targets.len()), (5 + 1 + 1, 5 + 6 + 1));
    }
}
