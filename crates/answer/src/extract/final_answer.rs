//! "The final answer is …".

/// Phrases before an answer, in lower case, in the order of preference.
const ANNOUNCEMENTS: [&str; 5] = ["final answer is", "final answer:", "answer is", "answer:", "answer**:"];
/// Sentences that may follow the answer on its line.
const FAREWELLS: [&str; 2] = ["i hope it is correct", "i hope this is correct"];

/// The text after the last announcement of a final answer, up to the end of the sentence or line: the content of dollar
/// signs if it begins with them; without emphasis, a full stop, or "I hope it is correct".
pub fn final_answer(response: &str) -> Option<&str> {
    // Only ASCII letters change case, so that byte positions in both texts are the same.
    let lower = response.to_ascii_lowercase();
    let after = ANNOUNCEMENTS.iter().find_map(|words| lower.rfind(words).map(|at| at + words.len()))?;
    let lead = |c: char| c.is_whitespace() || c == ':' || c == '*';
    let rest = response[after..].trim_start_matches(lead);
    for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
        if let Some((inside, _)) = rest.strip_prefix(open).and_then(|inside| inside.split_once(close)) {
            // `$5` is money: dollar signs around a formula close on the same line.
            if open != "$" || !inside.contains('\n') && !inside.trim().is_empty() {
                return trimmed(inside);
            }
        }
    }
    let line = rest.lines().next()?;
    let lower = line.to_ascii_lowercase();
    let end = FAREWELLS.iter().filter_map(|words| lower.find(words)).min().unwrap_or(line.len());
    // A sentence ends at a full stop before a space.
    let sentence = &line[..end];
    let end = sentence.find(". ").unwrap_or(sentence.len());
    trimmed(&sentence[..end])
}

fn trimmed(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '*').trim_end_matches(['.', '!', ' ', '*']);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read_to_their_end() {
        for (response, expected) in [
            ("The final answer is 42.", Some("42")),
            ("The final answer is $\\frac{1}{2}$. I hope it is correct.", Some("\\frac{1}{2}")),
            ("The final answer is 3.5. I hope it is correct.", Some("3.5")),
            ("**Final answer:** 7", Some("7")),
            ("**Final Answer**: x\nThe answer is 9", Some("9")),
            ("Final Answer: \\(x+1\\)", Some("x+1")),
            ("the answer is $5 and no more", Some("$5 and no more")),
            ("Answer: (B)\nBecause", Some("(B)")),
            ("The answer is 3. So the final answer is **4**!", Some("4")),
            ("the answer is", None),
            ("answer: \u{130}", Some("\u{130}")),
            ("none given", None),
        ] {
            assert_eq!(final_answer(response), expected, "{response}");
        }
    }
}
