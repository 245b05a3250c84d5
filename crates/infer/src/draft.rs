//! A draft that is checked while a sequence decodes: where it may continue the sequence, and how many tokens to try.

/// Tokens at the end of the sequence that must match the draft.
const MATCH: usize = 3;
/// How far the draft may have moved against the sequence.
const MAX_SHIFT: usize = 48;
/// Most tokens to try at a time.
const MAX_TRY: usize = 16;

/// Another candidate's answer to the same request, as a draft; an empty one proposes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Draft<'a> {
    text: &'a [u32],
    /// Tokens to try next time.
    length: usize,
}

impl<'a> Draft<'a> {
    pub fn new(text: &'a [u32]) -> Self {
        Self { text, length: 4 }
    }

    /// At most `room` tokens that may come after `own`.
    pub fn propose(&self, own: &[u32], room: usize) -> &'a [u32] {
        let Some(next) = self.match_end(own) else { return &[] };
        let rest = &self.text[next..];
        &rest[..rest.len().min(self.length).min(room)]
    }

    /// The end of the match of the newest tokens of `own` in the draft; of several, the one that shifts it least.
    fn match_end(&self, own: &[u32]) -> Option<usize> {
        if own.len() < MATCH {
            return None;
        }
        let tail = &own[own.len() - MATCH..];
        let center = own.len();
        let ends = center.saturating_sub(MAX_SHIFT).max(MATCH)..=(center + MAX_SHIFT).min(self.text.len());
        ends.filter(|end| &self.text[end - MATCH..*end] == tail).min_by_key(|end| end.abs_diff(center))
    }

    /// Adapts the number of tokens to try: the candidate would have generated `right` of the `tried` tokens itself.
    pub fn checked(&mut self, tried: usize, right: usize) {
        if tried == 0 {
            return;
        }
        let length = if right == tried { self.length * 2 } else { right.max(1).next_power_of_two() };
        self.length = length.min(MAX_TRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_again_after_a_difference() {
        let draft: Vec<u32> = (0..40).collect();
        let mut d = Draft::new(&draft);
        assert!(d.propose(&[0, 1], 8).is_empty(), "too short a match");
        assert_eq!(d.propose(&[0, 1, 2], 8), [3, 4, 5, 6]);
        d.checked(4, 4);
        assert_eq!(d.propose(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [8, 9, 10], "no more than there is room for");
        d.checked(3, 0);
        assert!(d.propose(&[0, 1, 2, 90], 8).is_empty());
        // One token longer than the draft, and equal again.
        assert_eq!(d.propose(&[0, 1, 2, 90, 3, 4, 5], 8), [6]);
        d.checked(1, 1);
        assert_eq!(d.propose(&[0, 1, 2, 90, 3, 4, 5, 6, 7], 8), [8, 9]);
        assert!(d.propose(&(0..40).collect::<Vec<_>>(), 8).is_empty(), "the draft is over");
    }
}
