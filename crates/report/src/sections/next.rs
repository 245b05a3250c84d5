//! What to do next: what the record says that a reader can act on, the most pressing first.

use lopper_record::study::{BudgetLine, Point, Verdict};
use lopper_record::{Result, StudyRecord, format_ranges};

use crate::answer::{answer, headlines, limit, skipped, undecided};
use crate::format::{about, percent};
use crate::html::Text;
use crate::order::{main_points, plain, strategy_title};

/// More would not be read.
const MOST: usize = 10;

/// The list, or nothing where there is nothing to say.
pub fn html(record: &StudyRecord) -> Result<String> {
    let mut items = Vec::new();
    if !record.complete && !record.command.is_empty() {
        items.push(format!("Let the study finish: <code>{}</code>.", Text(&record.command)));
    }
    for text in [undecided_depths(record), untried_depths(record), doubts(record), gap(record), left_out(record)]
        .concat()
        .into_iter()
        .chain(in_distribution(record))
        .chain(record.better_buys.iter().map(|sentence| capitalised(sentence)))
        .chain(not_healed(record))
        .chain(own_use(record))
    {
        let text = with_code(&text);
        if !items.contains(&text) {
            items.push(text);
        }
    }
    if items.is_empty() || record.points.is_empty() {
        return Ok(String::new());
    }
    let items: String = items.iter().take(MOST).map(|item| format!("<li>{item}</li>\n")).collect();
    Ok(format!("<section id=\"next\">\n<h2>What to do next</h2>\n<ul class=\"next\">\n{items}</ul>\n</section>\n"))
}

/// Both states with their name.
fn states(record: &StudyRecord) -> Vec<(&'static str, Vec<&BudgetLine>)> {
    vec![("as cut", headlines(record, false)), ("healed", headlines(record, true))]
}

fn layers(count: usize) -> String {
    if count == 1 { "1 layer".into() } else { format!("{count} layers") }
}

fn undecided_depths(record: &StudyRecord) -> Vec<String> {
    let mut out = Vec::new();
    for (state, lines) in states(record) {
        for line in lines {
            let Some(depth) = undecided(line) else { continue };
            let removed = layers(depth.removed);
            out.push(match &depth.needed {
                Some(needed) => {
                    let of = match &needed.task {
                        Some(task) => plain(task),
                        None => format!("the {} tasks together", plain(&line.group)),
                    };
                    format!(
                        "Measure more items: about {} of {of} decide whether {removed} can go, {state} ({} were \
                         measured).",
                        about(needed.items),
                        needed.measured
                    )
                }
                None => format!(
                    "Whether {removed} can go, {state}, is too close to call for any reasonable number of {} items: \
                     what is kept is about the floor.",
                    plain(&line.group)
                ),
            });
        }
    }
    out
}

fn untried_depths(record: &StudyRecord) -> Vec<String> {
    let mut out = Vec::new();
    for (state, healed, key) in [("as cut", false, "cuts.depths"), ("healed", true, "heal.depths")] {
        let Some(line) = limit(record, healed) else { continue };
        let most = line.max_layers.unwrap_or(0);
        let Some(deepest) = line.depths.last().map(|depth| depth.removed) else { continue };
        let between = skipped(line);
        if !between.is_empty() {
            let ranges = format_ranges(&between).replace(',', ", ");
            let why = match most {
                0 => "shallower than every cut that was measured".to_owned(),
                most => format!("between {}, which may go, and the next depth that was measured", layers(most)),
            };
            out.push(format!("Try {ranges} removed, {state} (`{key}`): {why}."));
        } else if most == deepest {
            let more = deepest.saturating_add(1);
            out.push(format!(
                "Try {more} and more removed, {state} (`{key}`): the deepest cut that was measured holds."
            ));
        }
    }
    out
}

fn healed(record: &StudyRecord) -> Vec<&Point> {
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    main_points(record, &main).into_iter().filter(|point| point.healed.is_some()).collect()
}

/// Healing that cannot have done anything, or did nothing.
fn doubts(record: &StudyRecord) -> Vec<String> {
    let healed = healed(record);
    let mut out: Vec<String> = Vec::new();
    for point in &healed {
        for doubt in point.healed.as_ref().map_or_else(Vec::new, |heal| heal.doubts_of_training()) {
            let text = format!("Do not judge healing by this study: {doubt}.");
            if !out.contains(&text) {
                out.push(text);
            }
        }
    }
    let risen: Vec<&&Point> = healed
        .iter()
        .filter(|point| point.healed.as_ref().is_some_and(|heal| heal.doubt_of_loss().is_some()))
        .collect();
    if let Some(doubt) = risen.first().and_then(|point| point.healed.as_ref()?.doubt_of_loss()) {
        let depths: Vec<usize> = risen.iter().map(|point| point.removed).collect();
        let which = format!("Healing did nothing with {} removed", format_ranges(&depths).replace(',', ", "));
        out.push(format!("{which}: {doubt}. Try other prompts, more of them, or another learning rate."));
    }
    out
}

fn gap(record: &StudyRecord) -> Vec<String> {
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    let points = main_points(record, &main);
    let alarmed = points.iter().find(|point| point.gap.is_some());
    let Some((point, gap)) = alarmed.and_then(|point| Some((point, point.gap.as_ref()?))) else { return vec![] };
    vec![format!(
        "Judge by generated text, not by classification: from {} removed on ({}), {}.",
        layers(point.removed),
        strategy_title(&point.strategy),
        gap.sentence()
    )]
}

fn left_out(record: &StudyRecord) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for line in record.headlines() {
        for task in &line.left_out {
            if !names.contains(&task.as_str()) {
                names.push(task);
            }
        }
    }
    let describe = |task: &&str| {
        let result = record.base.as_ref().and_then(|base| base.task(task));
        let score = result.map_or(String::new(), |result| {
            let chance = result.chance.map_or(String::new(), |chance| format!(", guessing {} %", percent(chance, 0)));
            format!(" ({} %{chance})", percent(result.score.value, 0))
        });
        format!("{}{score}", plain(task))
    };
    if names.is_empty() {
        return vec![];
    }
    let names: Vec<String> = names.iter().map(describe).collect();
    vec![format!(
        "Replace tasks that say nothing, because the uncut model scores too little on them, or measure more of their \
         items: {}.",
        names.join("; ")
    )]
}

fn in_distribution(record: &StudyRecord) -> Option<String> {
    let own = healed(record).into_iter().any(|point| point.healed.as_ref().is_some_and(|heal| heal.in_distribution));
    own.then(|| {
        "Expect less of healing elsewhere: it learned from the training splits of the very tasks that are measured \
         (in-distribution). General instructions as `heal.data` show what it brings to others."
            .to_owned()
    })
}

fn not_healed(record: &StudyRecord) -> Option<String> {
    let answer = answer(record)?;
    let any = record.points.iter().any(|point| point.healed.is_some());
    let next = answer.line.depths.iter().find(|depth| depth.verdict != Verdict::Holds && !depth.holds)?;
    (!any).then(|| {
        format!("Heal a cut: none was; `heal.depths = [{}]` measures what finetuning brings back.", next.removed)
    })
}

fn own_use(record: &StudyRecord) -> Option<String> {
    answer(record)?.cut?;
    Some(
        "Before you use the cut, measure it on your own task: write one as a file and run `lopper eval … --tasks \
         ./own.toml --compare`. These figures hold for the tasks above."
            .to_owned(),
    )
}

/// Escaped, with what is between backticks as code.
fn with_code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // Names may have backticks of their own.
    if parts.len().is_multiple_of(2) {
        return Text(text).to_string();
    }
    let part = |(at, part): (usize, &&str)| match at % 2 {
        0 => Text(part).to_string(),
        _ => format!("<code>{}</code>", Text(part)),
    };
    parts.iter().enumerate().map(part).collect()
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect::<String>() + ".",
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::study::{BudgetDepth, HealInfo, ItemsNeeded, Scope};

    #[test]
    fn what_the_items_leave_open_and_what_was_not_tried_is_named_with_numbers() {
        let depth =
            |removed, verdict| BudgetDepth { removed, verdict, holds: verdict == Verdict::Holds, ..Default::default() };
        let mut open = depth(6, Verdict::Undecided);
        open.needed = Some(ItemsNeeded { items: 334, measured: 120, task: Some("word_problems".into()) });
        let line = BudgetLine {
            scope: Scope::Worst,
            headline: true,
            group: "generative".into(),
            tasks: vec!["word_problems".into()],
            left_out: vec!["code".into()],
            strategy: "bi".into(),
            max_layers: Some(3),
            depths: vec![depth(3, Verdict::Holds), open],
            ..Default::default()
        };
        let heal = HealInfo { steps: 5, warmup: 50, examples: 34, in_distribution: true, ..Default::default() };
        let point = |removed, healed| Point { strategy: "bi".into(), removed, healed, ..Default::default() };
        let record = StudyRecord {
            complete: true,
            main_strategy: "bi".into(),
            budget: vec![line],
            points: vec![point(3, None), point(6, Some(heal))],
            better_buys: vec!["3 layers removed is the better buy than 6".into()],
            ..StudyRecord::default()
        };
        let page = html(&record).unwrap();
        for text in [
            "about 340 of word problems decide whether 6 layers can go, as cut (120 were measured)",
            "Try 4, 5 removed, as cut (<code>cuts.depths</code>)",
            "5 steps on 34 answers are too few",
            "Replace tasks that say nothing",
            "in-distribution",
            "<li>3 layers removed is the better buy than 6.</li>",
            "measure it on your own task",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert_eq!(html(&StudyRecord::default()).unwrap(), "");
    }
}
