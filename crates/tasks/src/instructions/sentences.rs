//! Sentences of English, as nltk's Punkt finds them (Kiss and Strunk 2006, "Unsupervised Multilingual Sentence Boundary
//! Detection"), with the parameters that nltk ships (`data/README.md`).
//!
//! A mark of `.?!` before white space or closing punctuation may end a sentence. Whether it does is decided on the word
//! before it and the one after it: known abbreviations, initials and numbers end none unless what follows is known to
//! begin sentences. Not covered: training, other languages.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::sync::LazyLock;

use super::python::is_space;

const MARKS: [char; 3] = ['.', '?', '!'];
/// Capitals within a sentence, any capitals, small letters at a sentence's beginning, and any small letters: the
/// contexts that a word was seen in.
const MID_UPPER: u8 = 1 << 2;
const UPPER: u8 = (1 << 1) | MID_UPPER | (1 << 3);
const BEGIN_LOWER: u8 = 1 << 4;
const LOWER: u8 = BEGIN_LOWER | (1 << 5) | (1 << 6);
const NUMBER: &str = "##number##";

/// What Punkt learnt from English newspapers.
struct Parameters {
    abbreviations: HashSet<String>,
    collocations: HashSet<(String, String)>,
    starters: HashSet<String>,
    contexts: HashMap<String, u8>,
}

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| {
    let mut own = Parameters {
        abbreviations: HashSet::new(),
        collocations: HashSet::new(),
        starters: HashSet::new(),
        contexts: HashMap::new(),
    };
    for line in unpacked(include_bytes!("data/punkt_english.gz")).lines() {
        let mut parts = line.split('\t');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        match next().as_str() {
            "A" => drop(own.abbreviations.insert(next())),
            "C" => drop(own.collocations.insert((next(), next()))),
            "S" => drop(own.starters.insert(next())),
            _ => {
                let (word, flags) = (next(), next());
                own.contexts.insert(word, flags.parse().unwrap_or_default());
            }
        }
    }
    own
});

/// The text of data that comes with this crate.
pub(super) fn unpacked(data: &[u8]) -> String {
    let mut text = String::new();
    // It was made by a script of this repository, and a test reads all of it.
    let _ = flate2::read::GzDecoder::new(data).read_to_string(&mut text);
    text
}

/// The sentences of a text.
pub(super) fn sentences(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    realigned(&text, slices(&text)).into_iter().map(|range| text[range].iter().collect()).collect()
}

/// A mark that may end a sentence: its place, what follows it directly, and where the next word begins.
struct Candidate {
    at: usize,
    after: Range<usize>,
    next_word: Option<usize>,
}

fn candidates(text: &[char]) -> Vec<Candidate> {
    let mut all = Vec::new();
    for (at, _) in text.iter().enumerate().filter(|(_, c)| MARKS.contains(c)) {
        let Some(&next) = text.get(at + 1) else { break };
        if ends_words(next) {
            all.push(Candidate { at, after: at + 1..at + 2, next_word: None });
        } else if is_space(next) {
            let Some(word) = (at + 1..text.len()).find(|place| !is_space(text[*place])) else { break };
            let end = (word..text.len()).find(|place| is_space(text[*place])).unwrap_or(text.len());
            all.push(Candidate { at, after: at + 1..end, next_word: Some(word) });
        }
    }
    all
}

/// Where the sentences are, before punctuation is moved.
fn slices(text: &[char]) -> Vec<Range<usize>> {
    let mut slices = Vec::new();
    let mut from = 0;
    let mut decide = |candidate: &Candidate, word: &Range<usize>| {
        let context = text[word.clone()].iter().chain(&text[candidate.at..=candidate.at]);
        if is_break(&context.chain(&text[candidate.after.clone()]).copied().collect::<Vec<_>>()) {
            slices.push(from..candidate.at + 1);
            from = candidate.next_word.unwrap_or(candidate.at + 1);
        }
    };
    // Of several marks of one word the last decides.
    let mut previous: Option<(Candidate, Range<usize>)> = None;
    for candidate in candidates(text) {
        let before = previous.as_ref().map_or(0..0, |(_, word)| word.clone());
        let blank = (before.end..candidate.at).rev().find(|at| " \t\n\r\u{b}\u{c}".contains(text[*at]));
        let begin = match blank {
            // A blank at the very beginning is as good as none.
            Some(at) if at > before.end => at + 1,
            _ => before.start,
        };
        let word = begin..candidate.at;
        if let Some((last, its)) = &previous
            && its.end <= word.start
        {
            decide(last, its);
        }
        previous = Some((candidate, word));
    }
    if let Some((last, its)) = &previous {
        decide(last, its);
    }
    let end = text.iter().rposition(|c| !is_space(*c)).map_or(0, |at| at + 1);
    slices.push(from..end.max(from));
    slices
}

/// Moves closing quotes and brackets to the sentence that they close.
fn realigned(text: &[char], slices: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut made = Vec::new();
    let mut moved = 0;
    for (at, slice) in slices.iter().enumerate() {
        let from = (slice.start + moved).min(slice.end);
        let closing = slices.get(at + 1).and_then(|next| Some((next.start, closing(&text[next.clone()])?)));
        match closing {
            Some((next, (marks, all))) => {
                made.push(slice.start + moved..next + marks);
                moved = all;
            }
            None => {
                if from < slice.end {
                    made.push(from..slice.end);
                }
                moved = 0;
            }
        }
    }
    made
}

/// The number of quotes and brackets that close a sentence at the beginning of `text`, without and with what follows.
fn closing(text: &[char]) -> Option<(usize, usize)> {
    let marks = text.iter().take_while(|c| "\"')]}‘’“”«»".contains(**c)).count();
    for count in 1..=marks {
        let space = text[count..].iter().take_while(|c| is_space(**c)).count();
        if space > 0 || text[count..].starts_with(&['-', '-']) || count == text.len() {
            return Some((count, count + space));
        }
    }
    None
}

/// Whether a character ends a word before it.
fn ends_words(c: char) -> bool {
    ")\";}]*:@'({[‘’“”«»?!".contains(c)
}

/// The length of a dash, an ellipsis, or periods with white space between them at the beginning of `text`; 0 for none.
fn multiple(text: &[char]) -> usize {
    for mark in ['-', '.'] {
        let run = text.iter().take_while(|c| **c == mark).count();
        if run >= 2 {
            return run;
        }
    }
    let pairs = text.chunks_exact(2).take_while(|pair| pair[0] == '.' && is_space(pair[1])).count();
    // The last pair may be without its period, and then an earlier one ends it all.
    let pairs = if text.get(2 * pairs) == Some(&'.') { pairs } else { pairs.saturating_sub(1) };
    if pairs >= 2 { 2 * pairs + 1 } else { 0 }
}

/// The tokens of a line.
fn tokens(line: &[char]) -> Vec<&[char]> {
    let ends = |at: usize| match line.get(at) {
        None => true,
        Some(&c) => is_space(c) || ends_words(c) || is_multiple(&line[at..]),
    };
    let mut made = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let length = match (multiple(&line[at..]), line[at]) {
            (length, _) if length > 0 => length,
            (_, c) if is_space(c) => {
                at += 1;
                continue;
            }
            (_, c) if "(\"`{[:;&#*@)}]-,".contains(c) => 1,
            _ => {
                let end = (at + 1..line.len()).find(|&end| ends(end) || (line[end] == ',' && ends(end + 1)));
                end.unwrap_or(line.len()) - at
            }
        };
        made.push(&line[at..at + length]);
        at += length;
    }
    made
}

/// Whether a dash, an ellipsis or spaced periods begin here.
fn is_multiple(text: &[char]) -> bool {
    match text {
        ['-', '-', ..] | ['.', '.', ..] => true,
        ['.', a, '.', b, '.', ..] => is_space(*a) && is_space(*b),
        _ => false,
    }
}

/// A token, and what it is taken for.
#[derive(Default)]
struct Token {
    text: String,
    /// In small letters; a number is `##number##`.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

impl Token {
    fn new(text: &[char]) -> Self {
        let text: String = text.iter().collect();
        let lower = text.to_lowercase();
        let mut token =
            Self { kind: if is_number(&lower) { NUMBER.to_owned() } else { lower.clone() }, ..Self::default() };
        if text.chars().count() == 1 && text.chars().all(|c| MARKS.contains(&c)) {
            token.ends_sentence = true;
        } else if text.len() > 1 && text.chars().all(|c| c == '.') {
            token.ellipsis = true;
        } else if let Some(word) = lower.strip_suffix('.').filter(|word| !word.ends_with('.')) {
            let known = &PARAMETERS.abbreviations;
            token.abbreviation = known.contains(word) || word.rsplit('-').next().is_some_and(|end| known.contains(end));
            token.ends_sentence = !token.abbreviation;
        }
        Self { text, ..token }
    }

    fn kind_without_period(&self) -> &str {
        match self.kind.strip_suffix('.') {
            Some(word) if !word.is_empty() => word,
            _ => &self.kind,
        }
    }

    fn kind_in_sentence(&self) -> &str {
        if self.ends_sentence { self.kind_without_period() } else { &self.kind }
    }

    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let letter = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
        letter && chars.next() == Some('.') && chars.next().is_none()
    }

    fn begins(&self, holds: impl Fn(char) -> bool) -> bool {
        self.text.chars().next().is_some_and(holds)
    }

    fn contexts(&self) -> u8 {
        PARAMETERS.contexts.get(self.kind_in_sentence()).copied().unwrap_or_default()
    }

    /// Whether it begins a sentence, by how its word is written here and elsewhere; none if that says nothing.
    fn is_beginning(&self) -> Option<bool> {
        if let [mark] = self.text.as_bytes()
            && b";:,.!?".contains(mark)
        {
            return Some(false);
        }
        let seen = self.contexts();
        if self.begins(char::is_uppercase) && seen & LOWER != 0 && seen & MID_UPPER == 0 {
            return Some(true);
        }
        if self.begins(char::is_lowercase) && (seen & UPPER != 0 || seen & BEGIN_LOWER == 0) {
            return Some(false);
        }
        None
    }
}

/// `-?[.,]?\d[\d,.-]*\.?`, all of it.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.strip_prefix(['.', ',']).unwrap_or(text);
    let digit = |c: char| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric());
    text.starts_with(digit) && text.chars().all(|c| digit(c) || ",.-".contains(c))
}

/// Whether a sentence ends inside a text: at a token that is not the last.
fn is_break(text: &[char]) -> bool {
    let lines = text.split(|c| *c == '\n');
    let mut all: Vec<Token> = lines.flat_map(|line| tokens(line)).map(Token::new).collect();
    for at in 1..all.len() {
        let (before, rest) = all.split_at_mut(at);
        let (token, next) = (&mut before[at - 1], &rest[0]);
        reconsider(token, next);
        if token.ends_sentence {
            return true;
        }
    }
    false
}

/// Decides again whether a token with a period ends a sentence, knowing the next one.
fn reconsider(token: &mut Token, next: &Token) {
    if !token.text.ends_with('.') {
        return;
    }
    let pair = (token.kind_without_period().to_owned(), next.kind_in_sentence().to_owned());
    let initial = token.is_initial();
    if PARAMETERS.collocations.contains(&pair) {
        (token.ends_sentence, token.abbreviation) = (false, true);
        return;
    }
    if (token.abbreviation || token.ellipsis) && !initial {
        let starter = || next.begins(char::is_uppercase) && PARAMETERS.starters.contains(&pair.1);
        if next.is_beginning() == Some(true) || starter() {
            token.ends_sentence = true;
            return;
        }
    }
    if initial || pair.0 == NUMBER {
        let name = || initial && next.begins(char::is_uppercase) && next.contexts() & LOWER == 0;
        match next.is_beginning() {
            Some(false) => (token.ends_sentence, token.abbreviation) = (false, true),
            None if name() => (token.ends_sentence, token.abbreviation) = (false, true),
            _ => {}
        }
    }
}
