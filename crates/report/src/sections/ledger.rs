//! The failure ledger: items that a cut lost, by cause, and items that it gained, with both models' answers.

use lopper_record::study::LedgerEntry;
use lopper_record::{Result, StudyRecord};

use crate::html::{Text, clipped};
use crate::sections::{answer_box, question};

/// Longest text that is shown in full, in characters.
const LONGEST: usize = 1500;

/// The ledger, or nothing without an entry.
pub fn html(record: &StudyRecord) -> Result<String> {
    if record.ledger.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from(
        "<section id=\"ledger\">\n<h2>What was lost, and why</h2>\n<p class=\"small\">A few items of each cause that the \
         uncut model gets right and the cut model wrong, and a few that only the cut model gets right. The file \
         <code>ledger.jsonl</code> in the directory of this page has all of them.</p>\n",
    );
    let same = |a: &LedgerEntry, b: &LedgerEntry| (&a.dropped, a.healed) == (&b.dropped, b.healed);
    for model in record.ledger.chunk_by(same) {
        let healed = if model[0].healed { ", healed" } else { "" };
        let noun = if model.len() == 1 { "item" } else { "items" };
        let title = format!("without {}{healed}: {} {noun}", model[0].dropped, model.len());
        out.push_str(&format!("<details>\n<summary>{}</summary>\n", Text(&title)));
        let mut entries: Vec<&LedgerEntry> = model.iter().collect();
        entries.sort_by_key(|entry| (entry.gained, entry.cause));
        for entry in entries {
            out.push_str(&article(entry));
        }
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
    Ok(out)
}

fn article(entry: &LedgerEntry) -> String {
    let cause = match entry.cause {
        Some(cause) => cause.title(),
        None if entry.gained => "gained",
        None => "lost",
    };
    let detail = match entry.detail.as_str() {
        "" => String::new(),
        detail => format!(": <code>{}</code>", Text(&clipped(detail, LONGEST))),
    };
    let mut out = format!(
        "<article class=\"sample\">\n<h3>{}{detail} <span class=\"ci\">{}</span></h3>\n",
        Text(cause),
        Text(&entry.task.replace('_', " "))
    );
    out.push_str(&question(&entry.prompt, &entry.target, LONGEST));
    out.push_str("<div class=\"answers\">\n");
    let healed = if entry.healed { "healed" } else { "cut" };
    let [base_reasoning, base] = [&entry.base_reasoning, &entry.base].map(|text| clipped(text, LONGEST));
    let [cut_reasoning, cut] = [&entry.cut_reasoning, &entry.cut].map(|text| clipped(text, LONGEST));
    out.push_str(&answer_box("uncut", &base_reasoning, &base, !entry.gained, None));
    out.push_str(&answer_box(healed, &cut_reasoning, &cut, entry.gained, Some(&base)));
    out.push_str("</div>\n</article>\n");
    out
}
