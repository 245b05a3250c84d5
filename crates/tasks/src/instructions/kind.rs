//! The kinds of instructions, and their arguments from a row.

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::python;

/// Longest pattern or text of an argument, in bytes.
const LONGEST: usize = 1 << 16;

/// How often something may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    LessThan(u64),
    AtLeast(u64),
}

impl Relation {
    pub fn holds(self, count: usize) -> bool {
        match self {
            Self::LessThan(bound) => (count as u64) < bound,
            Self::AtLeast(bound) => count as u64 >= bound,
        }
    }
}

/// An instruction with its arguments.
#[derive(Debug, Clone)]
pub(crate) enum Instruction {
    Keywords(Vec<Regex>),
    KeywordFrequency(Regex, Relation),
    ForbiddenWords(Vec<Regex>),
    LetterFrequency(char, Relation),
    ResponseLanguage(String),
    Sentences(Relation),
    Words(Relation),
    /// Paragraphs between `***`.
    Paragraphs(u64),
    /// Paragraphs between blank lines, and the first word of the nth.
    FirstWord {
        paragraphs: u64,
        nth: u64,
        word: String,
    },
    Placeholders(u64),
    Postscript(Regex),
    Bullets(u64),
    ConstrainedResponse,
    Highlights(u64),
    Sections(Regex, u64),
    Json,
    Title,
    TwoResponses,
    RepeatPrompt(String),
    EndPhrase(String),
    CapitalWords(Relation),
    AllUpper,
    AllLower,
    NoComma,
    Quotation,
}

/// The instructions of a row: their names, and for each the arguments that are not null.
///
/// # Errors
/// What is wrong, where a name is not known, or an argument is missing, not allowed, or of another kind.
pub(crate) fn parse(names: &Value, arguments: &Value) -> Result<Vec<Instruction>, String> {
    let (Some(names), Some(arguments)) = (names.as_array(), arguments.as_array()) else {
        return Err("instructions and their arguments are not two lists".to_owned());
    };
    if names.is_empty() || names.len() != arguments.len() {
        return Err(format!("{} instructions with the arguments of {}", names.len(), arguments.len()));
    }
    let each = names.iter().zip(arguments);
    each.map(|(name, arguments)| {
        let name = name.as_str().ok_or("the name of an instruction is no text")?;
        one(name, arguments).map_err(|reason| format!("the instruction `{name}`: {reason}"))
    })
    .collect()
}

fn one(name: &str, arguments: &Value) -> Result<Instruction, String> {
    let mut arguments = Arguments::new(arguments)?;
    let own = &mut arguments;
    let instruction = match name {
        "keywords:existence" => {
            Instruction::Keywords(own.texts("keywords")?.iter().map(|word| folded(word)).collect::<Result<_, _>>()?)
        }
        "keywords:frequency" => {
            let word = folded(python::strip(&own.text("keyword")?))?;
            Instruction::KeywordFrequency(word, own.relation("relation", "frequency")?)
        }
        "keywords:forbidden_words" => {
            let words = own.texts("forbidden_words")?;
            Instruction::ForbiddenWords(words.iter().map(|word| whole_word(word)).collect::<Result<_, _>>()?)
        }
        "keywords:letter_frequency" => {
            let letter = own.text("letter")?.to_lowercase();
            let mut letters = letter.chars();
            let (Some(letter), None) = (letters.next(), letters.next()) else {
                return Err("`letter` is not one character".to_owned());
            };
            Instruction::LetterFrequency(letter, own.relation("let_relation", "let_frequency")?)
        }
        "language:response_language" => Instruction::ResponseLanguage(own.text("language")?),
        "length_constraints:number_sentences" => Instruction::Sentences(own.relation("relation", "num_sentences")?),
        "length_constraints:number_words" => Instruction::Words(own.relation("relation", "num_words")?),
        "length_constraints:number_paragraphs" => Instruction::Paragraphs(own.number("num_paragraphs")?),
        "length_constraints:nth_paragraph_first_word" => {
            let (paragraphs, nth) = (own.number("num_paragraphs")?, own.number("nth_paragraph")?);
            if nth > paragraphs {
                return Err(format!("`nth_paragraph` is {nth} of {paragraphs}"));
            }
            Instruction::FirstWord { paragraphs, nth, word: own.text("first_word")?.to_lowercase() }
        }
        "detectable_content:number_placeholders" => Instruction::Placeholders(own.number("num_placeholders")?),
        "detectable_content:postscript" => {
            Instruction::Postscript(postscript(python::strip(&own.text("postscript_marker")?))?)
        }
        "detectable_format:number_bullet_lists" => Instruction::Bullets(own.number("num_bullets")?),
        "detectable_format:constrained_response" => Instruction::ConstrainedResponse,
        "detectable_format:number_highlighted_sections" => Instruction::Highlights(own.number("num_highlights")?),
        "detectable_format:multiple_sections" => {
            let splitter = own.text("section_spliter")?;
            let pattern = format!(r"{S}?{}{S}?\d+{S}?", python::strip(&splitter), S = python::SPACE);
            Instruction::Sections(regex(&pattern)?, own.number("num_sections")?)
        }
        "detectable_format:json_format" => Instruction::Json,
        "detectable_format:title" => Instruction::Title,
        "combination:two_responses" => Instruction::TwoResponses,
        "combination:repeat_prompt" => {
            Instruction::RepeatPrompt(python::strip(&own.text("prompt_to_repeat")?).to_lowercase())
        }
        "startend:end_checker" => Instruction::EndPhrase(python::strip(&own.text("end_phrase")?).to_lowercase()),
        "startend:quotation" => Instruction::Quotation,
        "change_case:capital_word_frequency" => {
            Instruction::CapitalWords(own.relation("capital_relation", "capital_frequency")?)
        }
        "change_case:english_capital" => Instruction::AllUpper,
        "change_case:english_lowercase" => Instruction::AllLower,
        "punctuation:no_comma" => Instruction::NoComma,
        _ => return Err("there is no such kind".to_owned()),
    };
    arguments.none_left()?;
    Ok(instruction)
}

/// The arguments of one instruction that say something: the others are null, empty or zero, which the harness drops.
struct Arguments(Map<String, Value>);

impl Arguments {
    fn new(arguments: &Value) -> Result<Self, String> {
        let given = match arguments {
            Value::Null => Map::new(),
            Value::Object(given) => given.clone(),
            _ => return Err("its arguments are no object".to_owned()),
        };
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Number(number) => number.as_f64() != Some(0.0),
            _ => true,
        };
        Ok(Self(given.into_iter().filter(|(_, value)| says(value)).collect()))
    }

    fn take(&mut self, name: &str) -> Result<Value, String> {
        self.0.remove(name).ok_or_else(|| format!("it has no `{name}`"))
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name)? {
            Value::String(text) if text.len() <= LONGEST => Ok(text),
            _ => Err(format!("`{name}` is no text, or too long")),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        let Value::Array(list) = self.take(name)? else { return Err(format!("`{name}` is no list")) };
        let texts = list.into_iter().map(|value| match value {
            Value::String(text) if text.len() <= LONGEST => Ok(text),
            _ => Err(format!("`{name}` holds what is no text, or too long")),
        });
        texts.collect()
    }

    /// A whole number from 1; some files have it as `3.0`.
    fn number(&mut self, name: &str) -> Result<u64, String> {
        let value = self.take(name)?;
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && (1.0..1e15).contains(number));
        value.as_u64().or(whole.map(|number| number as u64)).ok_or_else(|| format!("`{name}` is no number from 1"))
    }

    fn relation(&mut self, relation: &str, count: &str) -> Result<Relation, String> {
        let number = self.number(count)?;
        match self.text(relation)?.as_str() {
            "less than" => Ok(Relation::LessThan(number)),
            "at least" => Ok(Relation::AtLeast(number)),
            other => Err(format!("`{relation}` is `{other}`, neither `less than` nor `at least`")),
        }
    }

    fn none_left(&self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("it takes no `{name}`")),
            None => Ok(()),
        }
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))
}

/// A keyword, in any case; the harness reads it as a pattern.
fn folded(word: &str) -> Result<Regex, String> {
    regex(&format!("(?i){word}"))
}

/// A word between borders of words, in any case.
fn whole_word(word: &str) -> Result<Regex, String> {
    let w = python::WORD;
    let border = format!("(?:(?<={w})(?!{w})|(?<!{w})(?={w}))");
    regex(&format!("(?i){border}{word}{border}"))
}

/// A postscript that begins with `marker`, in lower case.
fn postscript(marker: &str) -> Result<Regex, String> {
    let s = python::SPACE;
    regex(&match marker {
        "P.P.S" => format!(r"(?m){s}*p\.{s}?p\.{s}?s.*$"),
        "P.S." => format!(r"(?m){s}*p\.{s}?s\..*$"),
        other => format!(r"(?m){s}*{}.*$", other.to_lowercase()),
    })
}
