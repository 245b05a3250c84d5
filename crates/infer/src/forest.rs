//! From requests to batches of texts that share what they have in common.

use crate::depths::CHUNK_TOKENS;
use crate::loglik::LoglikRequest;
use lopper_model::{Batch, Model, Target};

/// Tokens that contexts must have in common for it to be worth sharing.
const SHARED_FROM: usize = 32;

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

    /// Adds a request whose context goes on from `header`, of `shared` tokens.
    fn add(&mut self, request: usize, asked: &LoglikRequest, header: Option<usize>, shared: usize) {
        let context = self.batch.branch(&asked.context[shared..], header);
        let last = self.row(self.batch.bounds[context + 1] - 1);
        for (choice, continuation) in asked.continuations.iter().enumerate() {
            let owner = Owner { request, choice };
            self.ask(last, continuation[0], owner);
            if continuation.len() > 1 {
                let tail = self.batch.branch(&continuation[..continuation.len() - 1], Some(context));
                let first = self.batch.bounds[tail];
                for (i, token) in continuation[1..].iter().enumerate() {
                    let row = self.row(first + i);
                    self.ask(row, *token, owner);
                }
            }
        }
    }

    /// Adds a request with each continuation as a text of its own.
    fn add_whole(&mut self, request: usize, asked: &LoglikRequest) {
        for (choice, continuation) in asked.continuations.iter().enumerate() {
            let text: Vec<u32> = asked.context.iter().chain(&continuation[..continuation.len() - 1]).copied().collect();
            let sequence = self.batch.branch(&text, None);
            let first = self.batch.bounds[sequence] + asked.context.len() - 1;
            for (i, token) in continuation.iter().enumerate() {
                let row = self.row(first + i);
                self.ask(row, *token, Owner { request, choice });
            }
        }
    }
}

/// Tokens that a request takes beside what its context shares with others.
fn own_tokens(request: &LoglikRequest, shared: usize) -> usize {
    request.context.len() - shared + request.continuations.iter().map(|c| c.len() - 1).sum::<usize>()
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Tokens that a context and the next one begin with, where that is worth sharing. At least one token
/// of each context stays its own: the row that its choices come after.
fn shared_with_next(requests: &[LoglikRequest], at: usize) -> usize {
    let (Some(this), Some(next)) = (requests.get(at), requests.get(at + 1)) else { return 0 };
    let shared = common(&this.context, &next.context).min(this.context.len() - 1).min(next.context.len() - 1);
    if shared >= SHARED_FROM && 3 * shared >= this.context.len() { shared } else { 0 }
}

/// Divides requests into chunks, in order; neighbours whose contexts begin alike share that.
pub(crate) fn chunks(model: &Model, requests: &[LoglikRequest]) -> Vec<Chunk> {
    // Where a longer text is read otherwise than its beginning alone, nothing can be shared.
    let whole = |r: &LoglikRequest| {
        let longest = r.continuations.iter().map(Vec::len).max().unwrap_or(0);
        model.depends_on_length(1, r.context.len() + longest)
    };
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < requests.len() {
        let first = &requests[start];
        let mut chunk = Chunk::default();
        if whole(first) {
            chunk.add_whole(start, first);
            chunks.push(chunk);
            start += 1;
            continue;
        }
        let mut shared = shared_with_next(requests, start);
        let mut tokens = shared + own_tokens(first, shared);
        let mut end = start + 1;
        while let Some(request) = requests.get(end).filter(|r| !whole(r)) {
            if shared > 0 {
                // Further requests join as long as they share most of it.
                let still = common(&first.context[..shared], &request.context).min(request.context.len() - 1);
                if still < SHARED_FROM || 10 * still < 9 * shared {
                    break;
                }
                let more = tokens + (end - start - 1) * (shared - still) + own_tokens(request, still);
                if more > CHUNK_TOKENS.max(4 * still) {
                    break;
                }
                (tokens, shared) = (more, still);
            } else {
                tokens += own_tokens(request, 0);
                if tokens > CHUNK_TOKENS || shared_with_next(requests, end) > 0 {
                    break;
                }
            }
            end += 1;
        }
        let header = (shared > 0).then(|| chunk.batch.branch(&first.context[..shared], None));
        for (at, request) in requests.iter().enumerate().take(end).skip(start) {
            chunk.add(at, request, header, shared);
        }
        chunks.push(chunk);
        start = end;
    }
    chunks
}
