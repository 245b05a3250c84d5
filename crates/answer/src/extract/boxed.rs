//! The last `\boxed{…}` of a response.

/// The content of the last closed `\boxed{…}` or `\fbox{…}`, without white space around it. Braces are balanced, `\{`
/// and `\}` not counting as braces; of a box inside a box, the inner one is the later. A box that is not closed at the
/// end of the response is ignored. `\boxed 5` without braces contains one word.
///
/// Takes time linear in the length of the response.
pub fn boxed(response: &str) -> Option<&str> {
    let bytes = response.as_bytes();
    // For each open brace, where the content begins, if it is the brace of a box.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                let rest = &response[at..];
                match ["\\boxed", "\\fbox"].into_iter().find(|command| rest.starts_with(command)) {
                    Some(command) => {
                        let after = at + command.len();
                        let gap = response[after..].len() - response[after..].trim_start_matches([' ', '\t']).len();
                        if bytes.get(after + gap) == Some(&b'{') {
                            open.push(Some(after + gap + 1));
                            at = after + gap + 1;
                        } else {
                            let word = &response[after + gap..];
                            let end = word.find(|c: char| c.is_whitespace() || c == '$').unwrap_or(word.len());
                            if gap > 0 && end > 0 {
                                last = later(last, (after + gap, after + gap + end));
                            }
                            at = after;
                        }
                    }
                    // The backslash escapes the next character, which may be a brace.
                    None => at += 1 + response[at + 1..].chars().next().map_or(0, char::len_utf8),
                }
            }
            b'{' => {
                open.push(None);
                at += 1;
            }
            b'}' => {
                if let Some(Some(start)) = open.pop() {
                    last = later(last, (start, at));
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    last.map(|(start, end)| response[start..end].trim())
}

fn later(last: Option<(usize, usize)>, found: (usize, usize)) -> Option<(usize, usize)> {
    last.filter(|last| last.0 > found.0).or(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_balanced_box_is_found() {
        for (response, expected) in [
            (r"so $\boxed{5}$.", Some("5")),
            (r"\boxed{1} then \boxed{ \frac{1}{2} }", Some(r"\frac{1}{2}")),
            (r"\fbox{x}", Some("x")),
            (r"\boxed {7}", Some("7")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed{\left\{ x } y", Some(r"\left\{ x")),
            (r"\boxed{\boxed{3}}", Some("3")),
            (r"\boxed{a \text{if } \boxed{b} c}", Some("b")),
            (r"\boxed{4} and \boxed{5", Some("4")),
            (r"\boxed 12$", Some("12")),
            (r"\boxedx", None),
            (r"\boxed", None),
            (r"\boxed{", None),
            (r"} \boxed{é\}}", Some(r"é\}")),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(boxed(response), expected, "{response}");
        }
    }

    #[test]
    fn many_open_boxes_take_linear_time() {
        let response = r"\boxed{".repeat(200_000) + "1}";
        assert_eq!(boxed(&response), Some("1"));
    }
}
