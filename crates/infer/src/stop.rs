//! Stop strings. The engine knows token ids only: it asks a [`StopCheck`], which knows the text.

use std::fmt;
use std::sync::Arc;

/// Decides after each token whether a generation ends.
pub trait StopCheck: Send + Sync + fmt::Debug {
    /// Whether the tokens generated so far, the newest last, complete a stop string. Called once
    /// after each token.
    fn stopped(&self, generated: &[u32]) -> bool;
}

/// Turns token ids into text.
pub type Decode = dyn Fn(&[u32]) -> String + Send + Sync;

/// Stops when the decoded text contains one of several strings, also across tokens.
///
/// Only the end of the generated text is decoded at each step: as much as a stop string that ends in the newest token
/// may take.
#[derive(Clone)]
pub struct StopStrings {
    decode: Arc<Decode>,
    strings: Vec<String>,
}

/// Bytes decoded beyond the length of a stop string: decoders may drop a leading space, or show half a character as a
/// replacement character.
const SLACK: usize = 8;

impl StopStrings {
    /// Stops at any of `strings` (empty ones are ignored) in the text that `decode` gives for the tokens.
    pub fn new(decode: Arc<Decode>, strings: impl IntoIterator<Item = String>) -> Self {
        Self { decode, strings: strings.into_iter().filter(|s| !s.is_empty()).collect() }
    }

    /// The byte at which the first stop string in `text` begins: the end of the answer.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.strings.iter().filter_map(|s| text.find(s.as_str())).min()
    }
}

impl StopCheck for StopStrings {
    fn stopped(&self, generated: &[u32]) -> bool {
        let Some(longest) = self.strings.iter().map(String::len).max() else { return false };
        let before = generated.len().saturating_sub(1);
        let mut window = longest + SLACK;
        loop {
            let start = before.saturating_sub(window);
            // Tokens may decode to nothing; the text before the newest one must be long enough.
            if start == 0 || (self.decode)(&generated[start..before]).len() >= longest + SLACK {
                return self.find(&(self.decode)(&generated[start..])).is_some();
            }
            window *= 2;
        }
    }
}

impl fmt::Debug for StopStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopStrings").field("strings", &self.strings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token 0 decodes to nothing, token t to the t-th piece.
    fn stop(strings: &[&str]) -> StopStrings {
        const PIECES: [&str; 6] = ["", "ab", "c\n", "\nQ", "Question:", "x"];
        let decode = |tokens: &[u32]| tokens.iter().map(|t| PIECES[*t as usize]).collect::<String>();
        StopStrings::new(Arc::new(decode), strings.iter().map(|s| (*s).to_owned()))
    }

    #[test]
    fn stop_strings_are_found_across_tokens() {
        let check = stop(&["\n\nQ"]);
        assert!(!check.stopped(&[1, 2]));
        assert!(check.stopped(&[1, 2, 3]));
        assert!(!check.stopped(&[1, 3, 2]));
        assert_eq!(check.find("abc\n\nQ"), Some(3));
    }

    #[test]
    fn tokens_without_text_do_not_hide_a_stop_string() {
        let check = stop(&["\n\nQ"]);
        let mut tokens = vec![5; 30];
        tokens.push(2);
        tokens.extend([0; 200]);
        assert!(!check.stopped(&tokens));
        tokens.push(3);
        assert!(check.stopped(&tokens));
    }

    #[test]
    fn a_stop_string_inside_one_long_token_counts() {
        assert!(stop(&["es"]).stopped(&[5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4]));
        assert!(!stop(&[]).stopped(&[4]));
        assert!(!stop(&[""]).stopped(&[4]));
    }
}
