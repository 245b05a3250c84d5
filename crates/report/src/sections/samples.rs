//! The same prompt answered by the uncut, the cut and the healed model.

use anyhow::Result;
use lopper_record::StudyRecord;
use lopper_record::study::{Answer, Sample};

use crate::html::{Text, clipped};

/// Longest prompt or answer that is shown in full, in characters.
const LONGEST: usize = 3000;

/// The samples, or nothing without any.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.samples.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<section id=\"samples\">\n<h2>What the models write</h2>\n");
    for sample in &record.samples {
        out.push_str(&article(sample));
    }
    out.push_str("</section>\n");
    Ok(out)
}

fn article(sample: &Sample) -> String {
    let mut out = format!("<article class=\"sample\">\n<h3>{}</h3>\n", Text(&sample.task.replace('_', " ")));
    out.push_str(&format!("<pre class=\"prompt\">{}</pre>\n", Text(&clipped(&sample.prompt, LONGEST))));
    let target = clipped(sample.target.trim(), LONGEST);
    out.push_str(&format!("<p class=\"small\">Right answer: <code>{}</code></p>\n", Text(&target)));
    out.push_str("<div class=\"answers\">\n");
    for (who, answer) in [("uncut", &sample.base), ("cut", &sample.cut), ("healed", &sample.healed)] {
        if let Some(answer) = answer {
            out.push_str(&column(who, answer));
        }
    }
    out.push_str("</div>\n</article>\n");
    out
}

fn column(who: &str, answer: &Answer) -> String {
    let (class, verdict) = if answer.correct { ("right", "✓ right") } else { ("wrong", "✗ wrong") };
    let removed = if answer.removed > 0 { format!(", {} removed", answer.removed) } else { String::new() };
    let text = clipped(&answer.text, LONGEST);
    let body = if text.trim().is_empty() { "<em>(nothing)</em>".to_owned() } else { Text(&text).to_string() };
    let head = format!("<strong>{who}{removed}</strong> <span class=\"verdict\">{verdict}</span>");
    format!("<div class=\"answer {class}\">\n<p class=\"who\">{head}</p>\n<pre>{body}</pre>\n</div>\n")
}
