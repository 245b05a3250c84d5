//! The language of a text, as the package langdetect finds it (a port of Cybozu's language-detection): a naive Bayes
//! classifier over n-grams of one to three characters, with the profiles of 55 languages (`data/README.md`).
//!
//! It draws n-grams of the text until one language is nearly certain, seven times with slightly different smoothing.
//! The draws are those of Python's generator, seeded with 0, so the result is langdetect's with
//! `DetectorFactory.seed = 0`.

use std::collections::HashMap;
use std::sync::LazyLock;

use fancy_regex::Regex;

use super::sentences::unpacked;
use crate::python_random::PythonRandom;

/// Most characters of a text that are read.
const MOST_CHARS: usize = 10_000;
const TRIALS: usize = 7;
const MOST_DRAWS: usize = 1000;
const CERTAIN: f64 = 0.99999;
const LEAST: f64 = 0.1;
const SMOOTHING: f64 = 0.5;
const SMOOTHING_WIDTH: f64 = 0.05;
const BASE_FREQUENCY: f64 = 10_000.0;

/// What the languages look like.
#[derive(Default)]
struct Profiles {
    codes: Vec<String>,
    /// For each n-gram the languages that have it, and how frequent it is there.
    grams: HashMap<String, Vec<(u8, f64)>>,
    /// Kanji that stand for others of their class.
    kanji: HashMap<char, char>,
    /// Letters and marks of Vietnamese, and the letters that they are together.
    letters: Vec<char>,
    marks: Vec<char>,
    marked: Vec<Vec<char>>,
    /// Characters of Latin-1 that are no letters.
    excluded: Vec<char>,
}

static PROFILES: LazyLock<Profiles> = LazyLock::new(|| {
    let mut own = Profiles::default();
    let mut totals: Vec<Vec<f64>> = vec![];
    for line in unpacked(include_bytes!("data/languages.gz")).split('\n') {
        let mut parts = line.split('\t');
        let (kind, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut chars = value.chars();
        match kind {
            "L" => {
                own.codes.push(value.to_owned());
                totals.push(parts.filter_map(|count| count.parse().ok()).collect());
            }
            "G" => {
                let length = value.chars().count();
                let frequency = |entry: &str| {
                    let (at, count) = entry.split_once(':')?;
                    let at: u8 = at.parse().ok()?;
                    Some((at, count.parse::<f64>().ok()? / totals.get(usize::from(at))?.get(length - 1)?))
                };
                let entries = parts.next().unwrap_or_default().split(' ').filter_map(frequency).collect();
                own.grams.insert(value.to_owned(), entries);
            }
            "K" => {
                if let Some(first) = chars.next() {
                    own.kanji.extend(std::iter::once(first).chain(chars).map(|kanji| (kanji, first)));
                }
            }
            "V" => own.letters = chars.collect(),
            "M" => own.marks = chars.collect(),
            "N" => own.marked.push(chars.collect()),
            "X" => own.excluded = chars.collect(),
            _ => {}
        }
    }
    own
});

/// The code of a text's language, `unknown` where none is likely; none for a text without anything to tell it by.
pub(super) fn detect(text: &str) -> Option<&'static str> {
    let profiles = &*PROFILES;
    let grams = grams(&cleaned(&shortened(text)));
    if grams.is_empty() {
        return None;
    }
    let mut random = PythonRandom::new(0);
    let count = profiles.codes.len();
    let mut total = vec![0.0; count];
    for _ in 0..TRIALS {
        let mut odds = vec![1.0 / count as f64; count];
        let weight = (SMOOTHING + random.gauss() * SMOOTHING_WIDTH) / BASE_FREQUENCY;
        for draw in 0.. {
            let mut frequencies = vec![0.0; count];
            for (language, frequency) in grams[random.below(grams.len())] {
                frequencies[usize::from(*language)] = *frequency;
            }
            odds.iter_mut().zip(&frequencies).for_each(|(odds, frequency)| *odds *= weight + frequency);
            if draw % 5 == 0 {
                let sum: f64 = odds.iter().sum();
                odds.iter_mut().for_each(|odds| *odds /= sum);
                if odds.iter().any(|odds| *odds > CERTAIN) || draw >= MOST_DRAWS {
                    break;
                }
            }
        }
        total.iter_mut().zip(&odds).for_each(|(total, odds)| *total += odds / TRIALS as f64);
    }
    let mut best: Option<usize> = None;
    for (at, odds) in total.iter().enumerate() {
        if *odds > LEAST && best.is_none_or(|best| *odds > total[best]) {
            best = Some(at);
        }
    }
    Some(best.map_or("unknown", |at| profiles.codes[at].as_str()))
}

/// The text without addresses, with letters and marks joined, and one space for several; as much of it as is read.
fn shortened(text: &str) -> Vec<char> {
    static URL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"https?://[-_.?&~;+=/#0-9A-Za-z]{1,2076}").expect("a fixed pattern"));
    static MAIL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]{1,255}[-_.0-9A-Za-z]{1,255}").expect("a fixed pattern")
    });
    let text = URL.replace_all(text, " ");
    let text = MAIL.replace_all(&text, " ");
    let profiles = &*PROFILES;
    let mut joined: Vec<char> = Vec::new();
    for c in text.chars() {
        let mark = profiles.marks.iter().position(|mark| *mark == c);
        let letter = joined.last().and_then(|last| profiles.letters.iter().position(|letter| letter == last));
        match (mark, letter) {
            (Some(mark), Some(letter)) => {
                if let (Some(last), Some(made)) =
                    (joined.last_mut(), profiles.marked.get(mark).and_then(|made| made.get(letter)))
                {
                    *last = *made;
                }
            }
            _ => joined.push(c),
        }
    }
    joined.truncate(MOST_CHARS);
    joined.dedup_by(|second, first| *second == ' ' && *first == ' ');
    joined
}

/// The text without Latin letters, where most are others.
fn cleaned(text: &[char]) -> Vec<char> {
    let is_latin = |c: &char| ('A'..='z').contains(c);
    let latin = text.iter().filter(|c| is_latin(c)).count();
    let other = text.iter().filter(|c| **c >= '\u{300}').count();
    match latin * 2 < other {
        true => text.iter().filter(|c| !is_latin(c)).copied().collect(),
        false => text.to_vec(),
    }
}

/// The n-grams of a text that any language has, each with the languages that have it.
fn grams(text: &[char]) -> Vec<&'static [(u8, f64)]> {
    let known = &PROFILES.grams;
    let mut found: Vec<&'static [(u8, f64)]> = Vec::new();
    let mut window = vec![' '];
    // Whether a second capital was seen: words of capitals are left out.
    let mut capitals = false;
    for c in text.iter().map(|c| normalized(*c)) {
        let last = window.last().copied().unwrap_or(' ');
        if last == ' ' {
            window = vec![' '];
            capitals = false;
        } else if window.len() >= 3 {
            window.remove(0);
        }
        if last != ' ' || c != ' ' {
            window.push(c);
            capitals = if c.is_uppercase() { capitals || last.is_uppercase() } else { false };
        }
        if capitals {
            continue;
        }
        for length in 1..=window.len() {
            let gram: String = window[window.len() - length..].iter().collect();
            if gram != " "
                && let Some(languages) = known.get(&gram)
            {
                found.push(languages);
            }
        }
    }
    found
}

/// What a character counts as: many kinds of characters are one.
fn normalized(c: char) -> char {
    match c {
        '\0'..='\u{7f}' if !c.is_ascii_alphabetic() => ' ',
        '\u{80}'..='\u{ff}' if PROFILES.excluded.contains(&c) => ' ',
        // Romanian letters with a comma are those with a cedilla.
        '\u{219}' => '\u{15f}',
        '\u{21b}' => '\u{163}',
        '\u{2000}'..='\u{206f}' => ' ',
        // The Persian yeh is the Arabic one.
        '\u{6cc}' => '\u{64a}',
        '\u{1ea0}'..='\u{1eff}' => '\u{1ec3}',
        '\u{3040}'..='\u{309f}' => '\u{3042}',
        '\u{30a0}'..='\u{30ff}' => '\u{30a2}',
        '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' => '\u{3105}',
        '\u{4e00}'..='\u{9fff}' => PROFILES.kanji.get(&c).copied().unwrap_or(c),
        '\u{ac00}'..='\u{d7af}' => '\u{ac00}',
        _ => c,
    }
}
