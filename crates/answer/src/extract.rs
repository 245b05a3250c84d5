//! Extracts the answer from a response: pure functions of text, which do not decide whether the answer is right.
//!
//! - [`boxed`](self::boxed()): the last `\boxed{…}`;
//! - [`final_answer`]: the text after "the final answer is";
//! - [`chat_answer`]: the first of these that the response has;
//! - [`RegexFilter`], [`ChoiceFilter`], [`ExactMatch`]: lm-evaluation-harness's filters `regex` and
//!   `multi_choice_regex`, and its `exact_match`;
//! - [`code_blocks`], [`python_block`]: fenced code.

mod boxed;
mod choice_filter;
mod code;
mod exact_match;
mod final_answer;
mod pattern;
mod regex_filter;

pub use boxed::boxed;
pub use choice_filter::ChoiceFilter;
pub use code::{CodeBlock, code_blocks, python_block};
pub use exact_match::{ExactMatch, ExactMatchSettings};
pub use final_answer::final_answer;
pub use pattern::Pattern;
pub use regex_filter::RegexFilter;

/// The answer of a free-form response: the last box, or else what is announced as the final answer.
pub fn chat_answer(response: &str) -> Option<&str> {
    boxed(response).or_else(|| final_answer(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_preferred_to_an_announcement() {
        assert_eq!(chat_answer(r"The final answer is 4, so \boxed{5}."), Some("5"));
        assert_eq!(chat_answer("The final answer is: 4."), Some("4"));
        assert_eq!(chat_answer("I do not know."), None);
    }
}
