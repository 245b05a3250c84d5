//! The `multi_choice_regex` filter of lm-evaluation-harness (`lm_eval/filters/extraction.py`, 0.4.13), followed by its
//! `take_first`: the letter of a choice from a response that gives the letter or the choice itself.

use std::collections::HashMap;

use lopper_record::Fault;

use super::exact_match::{ExactMatchSettings, Ignored};
use super::pattern::Pattern;
use super::regex_filter::{is_space, selected, trimmed};

/// The result where nothing is found.
const FALLBACK: &str = "[invalid]";
/// Characters that Python's `re.escape` writes with a backslash.
const ESCAPED: &str = "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}";

/// Finds which of several choices a response names: by a pattern; where that finds nothing, by the text of a choice,
/// which gives its letter in parentheses; and where that finds nothing either, by a letter after a colon.
#[derive(Debug, Clone)]
pub struct ChoiceFilter {
    pattern: Pattern,
    group_select: isize,
    ignored: Ignored,
    /// Punctuation, where that is ignored.
    punctuation: Option<Pattern>,
}

impl ChoiceFilter {
    /// A filter with a pattern in the syntax of Python's `re`; `settings` says what is ignored where the texts of
    /// choices are looked for. Punctuation is here that of Unicode, and numbers are not ignored.
    ///
    /// # Errors
    /// A [`Fault`] if a pattern is not valid.
    pub fn new(pattern: &str, group_select: isize, settings: ExactMatchSettings) -> Result<Self, Fault> {
        let (pattern, ignored) = (Pattern::new(pattern)?, Ignored::new(&settings)?);
        let punctuation = settings.ignore_punctuation.then(|| Pattern::new(r"\p{P}")).transpose()?;
        Ok(Self { pattern, group_select, ignored, punctuation })
    }

    /// The result where nothing is found.
    pub fn fallback(&self) -> &str {
        FALLBACK
    }

    /// The filter's result for a response to a question with these choices. A match that `group_select` picks and that
    /// does not exist, for which lm-evaluation-harness stops with an error, is none.
    ///
    /// # Errors
    /// A [`Fault`] if matching takes more steps than allowed.
    pub fn apply(&self, response: &str, choices: &[String]) -> Result<String, Fault> {
        let by_pattern = self.pattern.find_all(response)?;
        if let Some(found) = self.chosen(&by_pattern) {
            return Ok(found.to_owned());
        }
        let mut letters = HashMap::new();
        let mut texts = Vec::with_capacity(choices.len());
        for (letter, choice) in ('A'..='Z').zip(choices) {
            let text = self.simplified(trimmed(choice))?;
            // Of equal choices the last has the letter.
            letters.insert(text.clone(), letter);
            texts.push(text);
        }
        // The longest first, as they would be written in a pattern; of equally long ones the earlier.
        texts.sort_by_key(|text| {
            std::cmp::Reverse(text.chars().count() + text.chars().filter(|c| ESCAPED.contains(*c)).count())
        });
        let response_text = self.simplified(response)?;
        let by_text = occurrences(&response_text, &texts);
        if let Some(found) = self.chosen(&by_text) {
            return Ok(letters.get(found).map_or_else(|| found.to_owned(), |letter| format!("({letter})")));
        }
        let by_letter = after_colons(response, choices.len());
        Ok(self.chosen(&by_letter).map_or_else(|| FALLBACK.to_owned(), |letter| format!("({letter})")))
    }

    /// The match that is picked; none where it is empty.
    fn chosen<'t>(&self, found: &[Vec<&'t str>]) -> Option<&'t str> {
        selected(found, self.group_select).map(trimmed).filter(|text| !text.is_empty())
    }

    fn simplified(&self, text: &str) -> Result<String, Fault> {
        let text = self.ignored.removed(text)?;
        match &self.punctuation {
            Some(punctuation) => punctuation.removed(&text),
            None => Ok(text),
        }
    }
}

/// Where the first of `texts` that fits is found, from left to right and without overlap; an empty text fits anywhere.
fn occurrences<'t>(text: &'t str, texts: &[String]) -> Vec<Vec<&'t str>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at <= text.len() {
        let rest = &text[at..];
        let one = texts.iter().find(|one| rest.starts_with(one.as_str())).map(String::len);
        found.extend(one.map(|length| vec![&rest[..length]]));
        let step = rest.chars().next().map_or(1, char::len_utf8);
        at += one.filter(|length| *length > 0).unwrap_or(step);
    }
    found
}

/// The letters of the first `count` of the alphabet that follow a colon, with or without white space.
fn after_colons(text: &str, count: usize) -> Vec<Vec<&str>> {
    let follows = |(at, _): (usize, &str)| {
        let rest = text[at + 1..].trim_start_matches(is_space);
        let letter = rest.chars().next().filter(char::is_ascii_uppercase)?;
        ((letter as usize - 'A' as usize) < count).then(|| vec![&rest[..1]])
    };
    text.match_indices(':').filter_map(follows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fixtures/answers/make_choices.py` with lm_eval 0.4.13.
    #[test]
    fn letters_are_those_of_the_harness() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../../fixtures/answers/choices.json")).unwrap();
        assert!(cases.len() >= 40);
        for case in cases {
            let settings = ExactMatchSettings {
                ignore_case: case["ignore_case"].as_bool().unwrap(),
                ignore_punctuation: case["ignore_punctuation"].as_bool().unwrap(),
                ..ExactMatchSettings::default()
            };
            let group = case["group_select"].as_i64().unwrap() as isize;
            let filter = ChoiceFilter::new(case["pattern"].as_str().unwrap(), group, settings).unwrap();
            let choices: Vec<String> = serde_json::from_value(case["choices"].clone()).unwrap();
            let found = filter.apply(case["response"].as_str().unwrap(), &choices).unwrap();
            assert_eq!(found, case["found"].as_str().unwrap(), "{case}");
        }
    }
}
