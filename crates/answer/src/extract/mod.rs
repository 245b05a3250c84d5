//! Taking the answer out of a response. Pure functions of text, none of which judges it.
//!
//! - [`boxed`](self::boxed()): the last `\boxed{…}`;
//! - [`final_answer`]: what follows "the final answer is";
//! - [`chat_answer`]: the first of these that is there;
//! - [`RegexFilter`], [`ExactMatch`]: lm-evaluation-harness's `regex` filter and `exact_match`, with
//!   GSM8K's settings;
//! - [`code_blocks`], [`python_block`]: fenced code.

mod boxed;
mod code;
mod exact_match;
mod final_answer;
mod pattern;
mod regex_filter;

pub use boxed::boxed;
pub use code::{CodeBlock, code_blocks, python_block};
pub use exact_match::{ExactMatch, ExactMatchSettings};
pub use final_answer::final_answer;
pub use pattern::Pattern;
pub use regex_filter::RegexFilter;

/// The answer of a free response: the last box, or else what is announced as the final answer.
pub fn chat_answer(response: &str) -> Option<&str> {
    boxed(response).or_else(|| final_answer(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_counts_for_more_than_an_announcement() {
        assert_eq!(chat_answer(r"The final answer is 4, so \boxed{5}."), Some("5"));
        assert_eq!(chat_answer("The final answer is: 4."), Some("4"));
        assert_eq!(chat_answer("I do not know."), None);
    }
}
