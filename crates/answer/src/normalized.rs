//! Short answers compared as text after LaTeX's spellings are made one: what lm-evaluation-harness does in its AIME and
//! MATH tasks (`tasks/aime/utils.py`, 0.4.13), mistakes included, so that scores are the same.
//!
//! Its normalisation fails on some texts (an exception in Python, `None` here); two such texts are compared as they
//! are. `fixtures/answers/make_normalized.py` holds both to the harness's own functions. Known difference: Python
//! reads digits of other scripts as numbers, which matters for the fraction `a/b` only.

/// The answer that a response is judged by, and whether anything marks it as one: what the last `\boxed` holds; else
/// the text between the first and the last dollar sign; else the whole response.
pub fn marked_answer(response: &str) -> (&str, bool) {
    let between = match (response.find('$'), response.rfind('$')) {
        (Some(first), Some(last)) if first < last => Some(&response[first + 1..last]),
        _ => None,
    };
    match box_content(response).or(between) {
        Some(answer) => (answer, true),
        None => (response, false),
    }
}

/// What the last box holds.
fn box_content(response: &str) -> Option<&str> {
    // A box without braces holds all up to a dollar sign.
    if let Some((_, after)) = response.rsplit_once("\\boxed ") {
        return Some(after.split('$').next().unwrap_or(after));
    }
    let begin = response.rfind("\\boxed")?;
    let (mut open, mut end) = (0_i64, None);
    for (at, c) in response[begin..].char_indices() {
        match c {
            '{' => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    end = Some(begin + at);
                    break;
                }
            }
            _ => {}
        }
    }
    response[begin..end?].strip_prefix("\\boxed{")
}

/// Whether two answers are the same text once they are normalised.
pub fn same_normalized(answer: &str, reference: &str) -> bool {
    match (normalized(answer), normalized(reference)) {
        (Some(answer), Some(reference)) => answer == reference,
        _ => answer == reference,
    }
}

/// The text with one spelling of what LaTeX has several for.
fn normalized(text: &str) -> Option<String> {
    let mut text = text.replace('\n', "").replace("\\!", "").replace("\\\\", "\\");
    for (from, to) in [("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", "")] {
        text = text.replace(from, to);
    }
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "");
    // Units come last, each behind a space.
    if let Some((value, unit)) = text.split_once("\\text{ ") {
        if unit.contains("\\text{ ") {
            return None;
        }
        text = value.to_owned();
    }
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    // `x = 5` is 5.
    if let Some((name, value)) = text.split_once('=')
        && !value.contains('=')
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    let text = braced_fractions(&braced_roots(&text)?.replace(' ', ""))?;
    slashed_fraction(if text == "0.5" { "\\frac{1}{2}".to_owned() } else { text })
}

/// `\sqrt3` as `\sqrt{3}`.
fn braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let first = part.chars().next()?;
        match first {
            '{' => out.push_str(&format!("\\sqrt{part}")),
            _ => out.push_str(&format!("\\sqrt{{{first}}}{}", &part[first.len_utf8()..])),
        }
    }
    Some(out)
}

/// `\frac12` and `\frac1{2}` as `\frac{1}{2}`.
fn braced_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let mut chars = part.chars();
        let numerator = chars.next()?;
        out.push_str("\\frac");
        if numerator == '{' {
            out.push_str(part);
            continue;
        }
        // One character alone is no fraction, and the text stays as it is.
        let Some(denominator) = chars.next() else { return Some(text.to_owned()) };
        match denominator {
            '{' => out.push_str(&format!("{{{numerator}}}{{{}", chars.as_str())),
            _ => out.push_str(&format!("{{{numerator}}}{{{denominator}}}{}", chars.as_str())),
        }
    }
    Some(out)
}

/// `3/4` as `\frac{3}{4}`.
fn slashed_fraction(text: String) -> Option<String> {
    let Some((above, below)) = text.split_once('/').filter(|(_, below)| !below.contains('/')) else {
        return Some(text);
    };
    let (above, below) = (whole_number(above)?, whole_number(below)?);
    match (above, below) {
        (Some(above), Some(below)) => Some(format!("\\frac{{{above}}}{{{below}}}")),
        _ => Some(text),
    }
}

/// A whole number as Python prints it; none inside where it is written otherwise, and none at all where Python reads no
/// whole number.
fn whole_number(text: &str) -> Option<Option<&str>> {
    const MOST_DIGITS: usize = 4300;
    let visible = text.trim();
    let digits = visible.strip_prefix(['+', '-']).unwrap_or(visible);
    let groups = digits.split('_');
    let readable = groups.clone().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    if !readable || digits.bytes().filter(u8::is_ascii_digit).count() > MOST_DIGITS {
        return None;
    }
    let plain = digits == "0" || !digits.starts_with('0');
    let sign = visible.len() == digits.len() || (visible.starts_with('-') && digits != "0");
    Some((plain && sign && visible.len() == text.len() && !digits.contains('_')).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fixtures/answers/make_normalized.py` with lm_eval 0.4.13: response, target, and its `exact_match`.
    #[test]
    fn responses_are_judged_as_the_harness_judges_them() {
        let cases: Vec<(String, String, u8)> =
            serde_json::from_str(include_str!("../../../fixtures/answers/normalized.json")).unwrap();
        assert!(cases.len() > 300 && cases.iter().filter(|(_, _, right)| *right == 1).count() > 80);
        for (response, target, right) in cases {
            let (answer, _) = marked_answer(&response);
            assert_eq!(same_normalized(answer, &target), right == 1, "{response:?} {answer:?} {target:?}");
        }
    }

    #[test]
    fn what_marks_an_answer_is_told() {
        assert_eq!(marked_answer("It is $5$, so \\boxed{4}."), ("4", true));
        assert_eq!(marked_answer("It is $5$."), ("5", true));
        assert_eq!(marked_answer("5 $"), ("5 $", false));
    }
}
