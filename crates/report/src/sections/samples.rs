//! The same prompt answered by the uncut, the cut and the healed model.

use lopper_record::study::Sample;
use lopper_record::{Result, StudyRecord};

use crate::html::{Text, clipped};
use crate::sections::{answer_box, question};

/// Longest prompt or answer that is shown in full, in characters.
const LONGEST: usize = 3000;

/// The samples, or nothing without any.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.samples.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from(
        "<section id=\"samples\">\n<h2>What the models write</h2>\n<p class=\"small\">The same prompts \
         answered by each model. The first word that differs from the uncut model’s answer is marked.</p>\n",
    );
    let (alike, telling): (Vec<&Sample>, Vec<&Sample>) = record.samples.iter().partition(|sample| is_right(sample));
    telling.into_iter().for_each(|sample| out.push_str(&article(sample)));
    if !alike.is_empty() {
        let noun = if alike.len() == 1 { "prompt" } else { "prompts" };
        out.push_str(&format!("<details>\n<summary>{} {noun} that every model answers right</summary>\n", alike.len()));
        alike.into_iter().for_each(|sample| out.push_str(&article(sample)));
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
    Ok(out)
}

/// Whether every model answers it right, so that it shows nothing of what broke.
fn is_right(sample: &Sample) -> bool {
    [&sample.base, &sample.cut, &sample.healed].into_iter().flatten().all(|answer| answer.correct)
}

fn article(sample: &Sample) -> String {
    let mut out = format!("<article class=\"sample\">\n<h3>{}</h3>\n", Text(&sample.task.replace('_', " ")));
    out.push_str(&question(&sample.prompt, &sample.target, LONGEST));
    out.push_str("<div class=\"answers\">\n");
    let base = sample.base.as_ref().map(|answer| clipped(&answer.text, LONGEST));
    for (who, answer) in [("uncut", &sample.base), ("cut", &sample.cut), ("healed", &sample.healed)] {
        if let Some(answer) = answer {
            let removed = if answer.removed > 0 { format!(", {} removed", answer.removed) } else { String::new() };
            let [reasoning, text] = [&answer.reasoning, &answer.text].map(|text| clipped(text, LONGEST));
            let uncut = base.as_deref().filter(|_| who != "uncut");
            out.push_str(&answer_box(&format!("{who}{removed}"), &reasoning, &text, answer.correct, uncut));
        }
    }
    out.push_str("</div>\n</article>\n");
    out
}
