//! The report's parts, in the order a reader wants them. Each gives its HTML, or nothing when the
//! study did not get that far.

pub mod curves;
pub mod diagnosis;
pub mod headline;
pub mod layer_charts;
pub mod layers;
pub mod ledger;
pub mod probe_charts;
pub mod provenance;
pub mod samples;
pub mod scores;

use lopper_record::study::TaskMeta;

use crate::html::Text;

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
