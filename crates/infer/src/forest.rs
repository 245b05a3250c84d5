//! From requests to batches of texts that share what they have in common.

use crate::depths::CHUNK_TOKENS;
use crate::loglik::LoglikRequest;
use lopper_model::{Batch, Model, Target};
use std::collections::HashMap;

/// Tokens that texts must have in common for it to be worth a segment of its own.
const SHARED_FROM: usize = 4;

/// Which request, and which of its continuations, a target belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub request: usize,
    pub choice: usize,
}

/// A batch, and the tokens whose probabilities are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk {
    pub batch: Batch,
    /// The rows of the batch after which a token is asked for, each once.
    pub rows: Vec<usize>,
    /// The tokens, by the number of their row among `rows`.
    pub targets: Vec<Target>,
    /// Whose token each is; those of one owner stand in order.
    pub owners: Vec<Owner>,
}

impl Chunk {
    /// Every token of whole sequences after the first.
    pub fn of_sequences(sequences: &[Vec<u32>], first: usize) -> Self {
        let mut chunk = Self { batch: Batch::new(sequences), ..Self::default() };
        for (at, sequence) in sequences.iter().enumerate() {
            let row = chunk.batch.bounds[at];
            for (i, token) in sequence.iter().enumerate().skip(1) {
                let row = chunk.row(row + i - 1);
                chunk.ask(row, *token, Owner { request: first + at, choice: 0 });
            }
        }
        chunk
    }

    /// Notes that tokens are asked for after the row `row` of the batch; gives its number.
    fn row(&mut self, row: usize) -> usize {
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// Asks for the probability of `token` after a row that was noted.
    fn ask(&mut self, row: usize, token: u32, owner: Owner) {
        self.targets.push(Target { row, token });
        self.owners.push(owner);
    }
}

/// A piece of text that all texts below it go through.
struct Segment {
    parent: Option<usize>,
    /// Segments that go on from it.
    children: Vec<usize>,
    /// Place of its first token in each of its texts.
    start: usize,
    tokens: Vec<u32>,
}

/// A text of the tree, and what is asked of it.
struct Text {
    /// The segment in which it ends, or once ended: what was divided later lies above it.
    segment: usize,
    owner: Owner,
    /// Tokens that are asked for, and the places after which.
    asked: Vec<(usize, u32)>,
}

/// Texts that have a beginning in common have it once.
#[derive(Default)]
struct Tree {
    roots: Vec<usize>,
    segments: Vec<Segment>,
    texts: Vec<Text>,
    /// Tokens of all segments.
    tokens: usize,
}

impl Tree {
    fn children(&self, of: Option<usize>) -> &[usize] {
        of.map_or(&self.roots, |segment| &self.segments[segment].children)
    }

    /// How far a text goes along the tree: the last segment that it goes through whole, the place where it leaves it,
    /// and the child that it shares a beginning with, worth dividing it for.
    fn follow(&self, text: &[u32]) -> (Option<usize>, usize, Option<(usize, usize)>) {
        let (mut at, mut place) = (None, 0);
        loop {
            let shared =
                self.children(at).iter().map(|&child| (common(&self.segments[child].tokens, &text[place..]), child));
            let Some((shared, child)) = shared.max_by_key(|(shared, _)| *shared) else { return (at, place, None) };
            let whole = self.segments[child].tokens.len();
            if shared == whole {
                (at, place) = (Some(child), place + shared);
            } else if shared >= SHARED_FROM || (shared > 0 && place + shared == text.len()) {
                return (at, place, Some((child, shared)));
            } else {
                return (at, place, None);
            }
        }
    }

    /// Tokens that a text would add.
    fn cost(&self, text: &[u32]) -> usize {
        let (_, place, partly) = self.follow(text);
        text.len() - place - partly.map_or(0, |(_, shared)| shared)
    }

    /// Adds a text; without `share` by itself.
    fn insert(&mut self, text: &[u32], share: bool) -> usize {
        let (mut at, mut place, partly) = if share { self.follow(text) } else { (None, 0, None) };
        if let Some((child, shared)) = partly {
            if place + shared == text.len() {
                return child;
            }
            at = Some(self.divide(child, shared));
            place += shared;
        }
        match at {
            Some(segment) if place == text.len() => segment,
            _ => self.append(at, place, text[place..].to_vec()),
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

    /// Puts the first `tokens` tokens of `segment` into a new one above it, and gives that.
    fn divide(&mut self, segment: usize, tokens: usize) -> usize {
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

    /// Adds a request, and what it asks.
    fn add(&mut self, request: usize, asked: &LoglikRequest, share: bool) {
        for (choice, continuation) in asked.continuations.iter().enumerate() {
            let segment = self.insert(&text_of(asked, continuation), share);
            let first = asked.context.len() - 1;
            let asked = continuation.iter().enumerate().map(|(at, token)| (first + at, *token)).collect();
            self.texts.push(Text { segment, owner: Owner { request, choice }, asked });
        }
    }

    /// The batch of all segments, each after what it goes on from.
    fn chunk(&self) -> Chunk {
        let mut chunk = Chunk::default();
        let mut rows = vec![(0, 0); self.segments.len()];
        let mut waiting: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(at) = waiting.pop() {
            let segment = &self.segments[at];
            let sequence = chunk.batch.branch(&segment.tokens, segment.parent.map(|parent| rows[parent].0));
            rows[at] = (sequence, chunk.batch.bounds[sequence]);
            waiting.extend(segment.children.iter().rev());
        }
        let mut numbers = HashMap::new();
        for text in &self.texts {
            for (place, token) in &text.asked {
                let mut segment = text.segment;
                while let Some(parent) = self.segments[segment].parent.filter(|_| self.segments[segment].start > *place)
                {
                    segment = parent;
                }
                let row = rows[segment].1 + place - self.segments[segment].start;
                let number = *numbers.entry(row).or_insert_with(|| chunk.row(row));
                chunk.ask(number, *token, text.owner);
            }
        }
        chunk
    }
}

/// What a model reads to score a continuation: all but its last token, which is only asked for.
fn text_of(request: &LoglikRequest, continuation: &[u32]) -> Vec<u32> {
    request.context.iter().chain(&continuation[..continuation.len() - 1]).copied().collect()
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Divides requests into chunks, in order. What texts of a chunk begin with alike is read once: what neighbouring contexts
/// share (worked examples), contexts, and what choices share.
pub(crate) fn chunks(model: &Model, requests: &[LoglikRequest]) -> Vec<Chunk> {
    // Where a longer text is read otherwise than its beginning alone, nothing can be shared.
    let whole = |r: &LoglikRequest| {
        let longest = r.continuations.iter().map(Vec::len).max().unwrap_or(0);
        model.depends_on_length(1, r.context.len() + longest)
    };
    let mut trees: Vec<Tree> = Vec::new();
    let mut alone = false;
    for (at, request) in requests.iter().enumerate() {
        let share = !whole(request);
        let joins = trees.last().is_some_and(|tree| share && !alone && fits(tree, request));
        if !joins {
            trees.push(Tree::default());
        }
        alone = !share;
        if let Some(tree) = trees.last_mut() {
            tree.add(at, request, share);
        }
    }
    trees.iter().map(Tree::chunk).collect()
}

/// Whether a request should be read along with those of a chunk: they are few tokens together, or it shares most of what
/// it reads with them.
fn fits(tree: &Tree, request: &LoglikRequest) -> bool {
    let context = request.context.len();
    let new = tree.cost(&request.context);
    let own = new + request.continuations.iter().map(|c| c.len() - 1).sum::<usize>();
    let shared = context - new;
    tree.tokens + own <= CHUNK_TOKENS || (2 * shared >= context && tree.tokens + own <= 4 * shared)
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
        fn every_token_is_asked_for_after_its_own_text(
            requests in prop::collection::vec(
                (prop::collection::vec(0..2_u32, 1..40), prop::collection::vec(prop::collection::vec(0..2_u32, 1..9), 1..4)),
                1..12,
            )
        ) {
            let requests: Vec<LoglikRequest> =
                requests.into_iter().map(|(context, continuations)| LoglikRequest { context, continuations }).collect();
            let mut asked = vec![];
            let (mut read, mut apart) = (0, 0);
            for chunk in chunks(&model(), &requests) {
                read += chunk.batch.len();
                let mut rows = chunk.rows.clone();
                rows.sort_unstable();
                rows.dedup();
                prop_assert_eq!(rows.len(), chunk.rows.len(), "each row once");
                for (target, owner) in chunk.targets.iter().zip(&chunk.owners) {
                    asked.push(((owner.request, owner.choice), text(&chunk.batch, chunk.rows[target.row]), target.token));
                }
            }
            let mut wanted = vec![];
            for (at, request) in requests.iter().enumerate() {
                for (choice, continuation) in request.continuations.iter().enumerate() {
                    apart += request.context.len() + continuation.len() - 1;
                    for (place, token) in continuation.iter().enumerate() {
                        let before = [request.context.as_slice(), &continuation[..place]].concat();
                        wanted.push(((at, choice), before, *token));
                    }
                }
            }
            prop_assert_eq!(asked, wanted);
            prop_assert!(read <= apart);
        }
    }

    #[test]
    fn what_texts_begin_with_is_read_once() {
        let request = |context: &[u32], continuations: &[&[u32]]| LoglikRequest {
            context: context.to_vec(),
            continuations: continuations.iter().map(|tokens| tokens.to_vec()).collect(),
        };
        // Two choices that differ at their end, and two contexts that do.
        let (a, b) =
            (request(&[1, 2, 3, 1, 2], &[&[0, 1, 2, 3, 1], &[0, 1, 2, 3, 2, 2]]), request(&[1, 2, 3, 1, 3], &[&[1]]));
        let chunks = chunks(&model(), &[a, b]);
        assert_eq!((chunks.len(), chunks[0].batch.len()), (1, 4 + 1 + 4 + 1 + 1));
        // The first five tokens of the choices are asked for after the same rows.
        assert_eq!((chunks[0].rows.len(), chunks[0].targets.len()), (5 + 1 + 1, 5 + 6 + 1));
    }
}
