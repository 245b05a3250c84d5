//! The report's parts, in the order a reader wants them. Each gives its HTML, or nothing when the
//! study did not get that far.

pub mod curves;
pub mod decision;
pub mod diagnosis;
pub mod headline;
pub mod healing;
pub mod layer_charts;
pub mod layers;
pub mod ledger;
pub mod next;
pub mod probe_charts;
pub mod provenance;
pub mod samples;
pub mod scores;
pub mod strategies;
pub mod tradeoff;

use lopper_record::study::TaskMeta;

use crate::chart::Series;
use crate::format::percent;
use crate::html::{Text, clipped};

/// The lines of a chart in words, for those who do not see it; `name` gives the first words for each line's group.
fn describe(title: &str, series: &[Series], name: impl Fn(usize) -> String) -> String {
    let mut out = title.to_owned();
    for line in series {
        let state = if line.healed { "healed" } else { "as cut" };
        let values = line.marks.iter().map(|mark| format!("{} removed {} %", mark.removed, percent(mark.value, 0)));
        out.push_str(&format!(" {}{state}: {}.", name(line.group), values.collect::<Vec<_>>().join(", ")));
    }
    out
}

/// A prompt and its right answer, each of at most `longest` characters.
fn question(prompt: &str, target: &str, longest: usize) -> String {
    let (prompt, target) = (clipped(prompt, longest), clipped(target.trim(), longest));
    format!(
        "<pre class=\"prompt\">{}</pre>\n<p class=\"small\">Right answer: <code>{}</code></p>\n",
        Text(&prompt),
        Text(&target)
    )
}

/// What a model thought, if anything, what it answered, and whether that is right. Where it first departs from
/// `uncut`, the uncut model's answer, is marked.
fn answer_box(who: &str, reasoning: &str, text: &str, right: bool, uncut: Option<&str>) -> String {
    let (class, verdict) = if right { ("right", "✓ right") } else { ("wrong", "✗ wrong") };
    let body = match uncut.and_then(|uncut| first_difference(uncut, text)) {
        _ if text.trim().is_empty() => "<em>(nothing)</em>".to_owned(),
        None => Text(text).to_string(),
        Some(word) => format!(
            "{}<mark>{}</mark>{}",
            Text(&text[..word.start]),
            Text(&text[word.clone()]),
            Text(&text[word.end..])
        ),
    };
    let head = format!("<strong>{who}</strong> <span class=\"verdict\">{verdict}</span>");
    let thought = match reasoning {
        "" => String::new(),
        _ => format!("<details>\n<summary>reasoning</summary>\n<pre>{}</pre>\n</details>\n", Text(reasoning)),
    };
    format!("<div class=\"answer {class}\">\n<p class=\"who\">{head}</p>\n{thought}<pre>{body}</pre>\n</div>\n")
}

/// The first word of `text` that `uncut` does not have in its place; nothing where it has all of them.
fn first_difference(uncut: &str, text: &str) -> Option<std::ops::Range<usize>> {
    let words = |text: &str| -> Vec<std::ops::Range<usize>> {
        text.split_whitespace()
            .map(|word| {
                let start = word.as_ptr() as usize - text.as_ptr() as usize;
                start..start + word.len()
            })
            .collect()
    };
    let before = words(uncut);
    words(text).into_iter().enumerate().find_map(|(at, word)| {
        let same = before.get(at).is_some_and(|other| uncut[other.clone()] == text[word.clone()]);
        (!same).then_some(word)
    })
}

/// The two heading rows of a table with a column per task: groups, then tasks, between columns
/// `before` and `after` of other kinds.
fn task_head(tasks: &[&TaskMeta], before: &[&str], after: &[&str]) -> String {
    let span = |width: usize, name: &str| {
        format!("<th colspan=\"{width}\" scope=\"colgroup\" class=\"group\">{}</th>", Text(name))
    };
    let mut out = format!("<thead>\n<tr><td colspan=\"{}\"></td>", before.len());
    for run in tasks.chunk_by(|a, b| a.group == b.group) {
        out.push_str(&span(run.len(), &run[0].group));
    }
    if !after.is_empty() {
        out.push_str(&span(after.len(), "layer scores"));
    }
    out.push_str("</tr>\n<tr>");
    let names = tasks.iter().map(|task| task.name.as_str());
    for name in before.iter().copied().chain(names).chain(after.iter().copied()) {
        out.push_str(&format!("<th scope=\"col\">{}</th>", Text(&name.replace('_', " "))));
    }
    out.push_str("</tr>\n</thead>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_that_differs_is_found_between_characters() {
        let at = |uncut: &str, text: &str| first_difference(uncut, text).map(|word| text[word].to_owned());
        assert_eq!(at("ä 8 * 3 = 24.", "ä 8 * 3 = 21. öh"), Some("21.".into()));
        assert_eq!(at("a b", "a\n b"), None);
        assert_eq!(at("a", "a b"), Some("b".into()));
        assert_eq!((at("", "ß"), at("x", "")), (Some("ß".into()), None));
    }
}
