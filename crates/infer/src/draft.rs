//! Where a sibling's answer may go on like this one, and how much of it to try.

/// Tokens that two texts must have in common to count as meeting.
const MEETING: usize = 3;
/// How far apart the places where they meet may be.
const REACH: usize = 48;
/// Most tokens to try at a time.
const LONGEST: usize = 16;

/// A sibling's answer as a draft of this candidate's own.
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
        let Some(next) = self.meeting(own) else { return &[] };
        let rest = &self.text[next..];
        &rest[..rest.len().min(self.length).min(room)]
    }

    /// Where the newest tokens of `own` stand in the draft, nearest to where they would stand if the
    /// texts were equally long so far.
    fn meeting(&self, own: &[u32]) -> Option<usize> {
        if own.len() < MEETING {
            return None;
        }
        let tail = &own[own.len() - MEETING..];
        let center = own.len();
        let ends = center.saturating_sub(REACH).max(MEETING)..=(center + REACH).min(self.text.len());
        ends.filter(|end| &self.text[end - MEETING..*end] == tail).min_by_key(|end| end.abs_diff(center))
    }

    /// What became of the tokens tried: `right` of `tried` were what the candidate said itself.
    pub fn checked(&mut self, tried: usize, right: usize) {
        if tried == 0 {
            return;
        }
        if right == tried {
            self.length = (self.length * 2).min(LONGEST);
        } else {
            self.length = right.max(1).next_power_of_two().min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_meet_again_after_a_difference() {
        let draft: Vec<u32> = (0..40).collect();
        let mut d = Draft::new(&draft);
        assert!(d.propose(&[0, 1], 8).is_empty(), "too little in common");
        assert_eq!(d.propose(&[0, 1, 2], 8), [3, 4, 5, 6]);
        d.checked(4, 4);
        assert_eq!(d.propose(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [8, 9, 10], "no more than there is room for");
        d.checked(3, 0);
        assert!(d.propose(&[0, 1, 2, 90], 8).is_empty());
        // One token longer than the draft, and together again.
        assert_eq!(d.propose(&[0, 1, 2, 90, 3, 4, 5], 8), [6]);
        d.checked(1, 1);
        assert_eq!(d.propose(&[0, 1, 2, 90, 3, 4, 5, 6, 7], 8), [8, 9]);
        assert!(d.propose(&(0..40).collect::<Vec<_>>(), 8).is_empty(), "the draft is over");
    }
}
