//! Words of a text, and tokens as nltk's `word_tokenize` makes them: the Penn Treebank's, of one sentence after the
//! other.

use std::sync::LazyLock;

use fancy_regex::Regex;
use lopper_record::Fault;

use super::python::is_space;
use super::sentences::sentences;

/// The number of words: runs of letters, marks, digits and underscores.
pub(super) fn count(text: &str) -> usize {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w+").expect("a fixed pattern"));
    WORD.find_iter(text).count()
}

/// What is replaced by what, in this order. A rule without a pattern puts a space at both ends.
const RULES: [(&str, &str); 30] = [
    // Quotes that open.
    ("([«“‘„]|[`]+)", " ${1} "),
    ("^\"", "``"),
    ("(``)", " ${1} "),
    (r#"([ \(\[{<])("|'{2})"#, "${1} `` "),
    (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "${1} "),
    // Punctuation.
    (r#"([^\.])(\.)([\]\)}>"'»”’ ]*+)\s*(?=\n?\z)"#, "${1} ${2} ${3} "),
    (r"([:,])([^\d])", " ${1} ${2}"),
    (r"([:,])(?=\n?\z)", " ${1} "),
    (r"\.{2,}", " ${0} "),
    (r"[;@#$%&]", " ${0} "),
    (r"[\x{2012}-\x{2015}]", " ${0} "),
    (r#"([^\.])(\.)([\]\)}>"']*)\s*(?=\n?\z)"#, "${1} ${2}${3} "),
    (r"[?!]", " ${0} "),
    (r"([^'])' ", "${1} ' "),
    (r"[*]", " ${0} "),
    (r"[\]\[\(\)\{\}<>]", " ${0} "),
    ("--", " -- "),
    ("", ""),
    // Quotes that close, and what is written in one word.
    ("([»”’])", " ${1} "),
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    ("([^' ])('[sS]|'[mM]|'[dD]|') ", "${1} ${2} "),
    ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
    (r"(?i)\b(can)(not)\b", " ${1} ${2} "),
    (r"(?i)\b(d)('ye)\b", " ${1} ${2} "),
    (r"(?i)\b(gim|lem)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b", " ${1}${3}${5} ${2}${4}${6} "),
    (r"(?i)\b(more)('n)\b", " ${1} ${2} "),
    (r"(?i)\b(wan)(na)(?=\s)", " ${1} ${2} "),
    (r"(?i) ('t)(is|was)\b", " ${1} ${2} "),
];

static COMPILED: LazyLock<Vec<(Option<Regex>, &str)>> = LazyLock::new(|| {
    let compiled = |(pattern, with): &(&str, &'static str)| {
        ((!pattern.is_empty()).then(|| Regex::new(pattern).expect("a fixed pattern")), *with)
    };
    RULES.iter().map(compiled).collect()
});

/// The tokens of a text.
///
/// # Errors
/// A [`Fault`] where a rule takes too many steps.
pub(super) fn tokens(text: &str) -> Result<Vec<String>, Fault> {
    let mut tokens = Vec::new();
    for mut text in sentences(text) {
        for (pattern, with) in COMPILED.iter() {
            text = match pattern {
                None => format!(" {text} "),
                Some(pattern) => pattern
                    .try_replacen(&text, 0, *with)
                    .map_err(|_| Fault::new("a response cannot be split into words in time").got(pattern.as_str()))?
                    .into_owned(),
            };
        }
        tokens.extend(text.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned));
    }
    Ok(tokens)
}
