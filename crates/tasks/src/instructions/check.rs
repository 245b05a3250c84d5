//! What each kind of instruction asks of a response.

use std::sync::LazyLock;

use fancy_regex::Regex;
use lopper_record::Fault;

use super::kind::Instruction;
use super::python::{self, SPACE, strip};
use super::{language, sentences, words};

/// What a constrained response has to contain one of.
const CONSTRAINED: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];

/// Patterns of the kinds that have no arguments in them.
struct Patterns {
    placeholder: Regex,
    star_bullet: Regex,
    dash_bullet: Regex,
    highlight: Regex,
    double_highlight: Regex,
    divider: Regex,
    title: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a fixed pattern");
    Patterns {
        placeholder: regex(r"\[.*?\]"),
        star_bullet: regex(&format!(r"(?m)^{SPACE}*\*[^\*].*$")),
        dash_bullet: regex(&format!(r"(?m)^{SPACE}*-.*$")),
        highlight: regex(r"\*[^\n\*]*\*"),
        double_highlight: regex(r"\*\*[^\n\*]*\*\*"),
        divider: regex(&format!(r"{SPACE}?\*\*\*{SPACE}?")),
        title: regex(r"<<[^\n]+>>"),
    }
});

/// Whether a response, which is not empty, follows an instruction.
pub(super) fn follows(instruction: &Instruction, text: &str) -> Result<bool, Fault> {
    Ok(match instruction {
        Instruction::Keywords(keywords) => all(keywords, |keyword| is_in(keyword, text))?,
        Instruction::KeywordFrequency(keyword, relation) => relation.holds(found(keyword, text)?.len()),
        Instruction::ForbiddenWords(words) => all(words, |word| Ok(!is_in(word, text)?))?,
        Instruction::LetterFrequency(letter, relation) => {
            relation.holds(text.to_lowercase().chars().filter(|c| c == letter).count())
        }
        // A text without a letter has no language, and is then in the right one.
        Instruction::ResponseLanguage(code) => language::detect(text).is_none_or(|found| found == code),
        Instruction::AllUpper => python::is_upper(text) && is_english(text),
        Instruction::AllLower => python::is_lower(text) && is_english(text),
        Instruction::Sentences(relation) => relation.holds(sentences::sentences(text).len()),
        Instruction::Words(relation) => relation.holds(words::count(text)),
        Instruction::CapitalWords(relation) => {
            relation.holds(words::tokens(text)?.iter().filter(|word| python::is_upper(word)).count())
        }
        Instruction::Paragraphs(wanted) => divided(text)? == Some(*wanted as usize),
        Instruction::FirstWord { paragraphs, nth, word } => has_first_word(text, *paragraphs, *nth, word),
        Instruction::Placeholders(wanted) => found(&PATTERNS.placeholder, text)?.len() as u64 >= *wanted,
        Instruction::Postscript(pattern) => is_in(pattern, &text.to_lowercase())?,
        Instruction::Bullets(wanted) => {
            let (stars, dashes) = (found(&PATTERNS.star_bullet, text)?, found(&PATTERNS.dash_bullet, text)?);
            (stars.len() + dashes.len()) as u64 == *wanted
        }
        Instruction::ConstrainedResponse => CONSTRAINED.iter().any(|option| text.contains(option)),
        Instruction::Highlights(wanted) => {
            let says = |text: &&str| !strip(text.trim_matches('*')).is_empty();
            let within = |text: &&str| {
                let inner = text.strip_prefix("**").unwrap_or(text);
                !strip(inner.strip_suffix("**").unwrap_or(inner)).is_empty()
            };
            let single = found(&PATTERNS.highlight, text)?.into_iter().filter(says).count();
            let double = found(&PATTERNS.double_highlight, text)?.into_iter().filter(within).count();
            (single + double) as u64 >= *wanted
        }
        Instruction::Sections(splitter, wanted) => found(splitter, text)?.len() as u64 >= *wanted,
        Instruction::Json => is_fenced_json(text),
        Instruction::Title => {
            let says = |title: &str| !strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty();
            found(&PATTERNS.title, text)?.into_iter().any(says)
        }
        Instruction::TwoResponses => is_two_responses(text),
        Instruction::RepeatPrompt(prompt) => strip(text).to_lowercase().starts_with(prompt.as_str()),
        Instruction::EndPhrase(phrase) => strip(text).trim_matches('"').to_lowercase().ends_with(phrase.as_str()),
        Instruction::NoComma => !text.contains(','),
        Instruction::Quotation => {
            let text = strip(text);
            text.len() > 1 && text.starts_with('"') && text.ends_with('"')
        }
    })
}

fn too_slow(pattern: &Regex) -> Fault {
    Fault::new("a pattern among an instruction's arguments takes too long on a response")
        .got(format!("`{}`", pattern.as_str()))
        .hint("take the row out")
}

fn is_in(pattern: &Regex, text: &str) -> Result<bool, Fault> {
    pattern.is_match(text).map_err(|_| too_slow(pattern))
}

/// All matches, from left to right and without overlap.
fn found<'t>(pattern: &Regex, text: &'t str) -> Result<Vec<&'t str>, Fault> {
    let one = |found: Result<fancy_regex::Match<'t>, _>| found.map(|found| found.as_str());
    pattern.find_iter(text).map(one).collect::<Result<_, _>>().map_err(|_| too_slow(pattern))
}

fn all(patterns: &[Regex], holds: impl Fn(&Regex) -> Result<bool, Fault>) -> Result<bool, Fault> {
    for pattern in patterns {
        if !holds(pattern)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_english(text: &str) -> bool {
    language::detect(text).is_none_or(|found| found == "en")
}

/// The number of paragraphs between dividers; none where one in the middle is empty.
fn divided(text: &str) -> Result<Option<usize>, Fault> {
    let pattern = &PATTERNS.divider;
    let paragraphs: Vec<&str> = pattern.split(text).collect::<Result<_, _>>().map_err(|_| too_slow(pattern))?;
    let mut count = paragraphs.len();
    for (at, paragraph) in paragraphs.iter().enumerate() {
        if strip(paragraph).is_empty() {
            if at != 0 && at != paragraphs.len() - 1 {
                return Ok(None);
            }
            count = count.saturating_sub(1);
        }
    }
    Ok(Some(count))
}

fn has_first_word(text: &str, wanted: u64, nth: u64, word: &str) -> bool {
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let count = paragraphs.iter().filter(|paragraph| !strip(paragraph).is_empty()).count() as u64;
    // The nth of all, empty ones among them, though only as far as there are others.
    if nth > count {
        return false;
    }
    let paragraph = strip(paragraphs[nth as usize - 1]);
    let Some(first) = paragraph.split(python::is_space).next().filter(|first| !first.is_empty()) else { return false };
    let first = first.trim_start_matches('\'').trim_start_matches('"');
    let first: String = first.chars().take_while(|c| !".,?!'\"".contains(*c)).collect();
    count == wanted && first.chars().flat_map(char::to_lowercase).collect::<String>() == word
}

fn is_fenced_json(text: &str) -> bool {
    let mut text = strip(text);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    python::is_json(strip(text.strip_suffix("```").unwrap_or(text)))
}

fn is_two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").collect();
    let last = parts.len() - 1;
    let empty = |at: usize| strip(parts[at]).is_empty();
    if (1..last).any(empty) {
        return false;
    }
    let said: Vec<&str> = (0..parts.len()).filter(|at| !empty(*at)).map(|at| strip(parts[at])).collect();
    matches!(said[..], [first, second] if first != second)
}
