//! The answer first: the depth budget in words, and the model that it is about.

use lopper_record::study::{BudgetLine, ModelCard};
use lopper_record::{Result, StudyRecord};

use crate::format::{NONE, count, percent};
use crate::html::Text;
use crate::order::{groups, strategy_title};

/// The title, the budget's tiles and sentences, and whether the study has finished.
pub fn html(record: &StudyRecord) -> Result<String> {
    let model = &record.model;
    let name = if model.name.is_empty() { "the model" } else { &model.name };
    let version = Text(&record.lopper_version);
    let mut out = format!("<header>\n<p class=\"kicker\">Lopper {version} · depth budget</p>\n");
    out.push_str(&format!("<h1>How many layers can {} lose?</h1>\n", Text(name)));
    out.push_str(&format!("<p class=\"card\">{}</p>\n", card(model)));
    if !record.complete {
        out.push_str(
            "<p class=\"note\"><strong>This study has not finished.</strong> The page shows what had been measured when \
             it stopped; the same command continues it.</p>\n",
        );
    }
    out.push_str("</header>\n<section id=\"budget\">\n");
    let lines: Vec<&BudgetLine> = record.budget.iter().filter(|line| line.strategy == record.main_strategy).collect();
    let lines = if lines.is_empty() { record.budget.iter().collect() } else { lines };
    if lines.is_empty() {
        out.push_str("<p>No depth budget has been decided yet.</p>\n");
    } else {
        out.push_str("<div class=\"tiles\">\n");
        for (index, group) in ordered_groups(record, &lines).into_iter().enumerate() {
            out.push_str(&tile(group, index, &lines, model.num_layers));
        }
        out.push_str("</div>\n<ul class=\"budget\">\n");
        for line in &lines {
            let sentence = record.statement(line);
            // "≥ 90 %" stays on one line.
            let sentence = sentence.replace(" %", "\u{a0}%").replace("≥ ", "≥\u{a0}");
            out.push_str(&format!("<li>{}</li>\n", Text(&sentence)));
        }
        out.push_str(&format!(
            "</ul>\n<p class=\"small\">Layers chosen by {}. A number of layers can be removed if the one-sided 95 % lower \
             bound of the retention (score ÷ uncut model’s score on the same items) reaches the threshold.</p>\n",
            Text(&strategy_title(&lines[0].strategy))
        ));
    }
    out.push_str("</section>\n");
    Ok(out)
}

fn card(model: &ModelCard) -> String {
    let mut parts = Vec::new();
    if !model.family.is_empty() {
        parts.push(format!("{}", Text(&model.family)));
    }
    if model.num_layers > 0 {
        parts.push(format!("{} layers", model.num_layers));
    }
    if model.parameters > 0 {
        parts.push(format!("{} parameters", count(model.parameters)));
    }
    if let Some(&largest) = model.parameters_per_layer.iter().max() {
        parts.push(format!("{} in a layer", count(largest)));
    }
    if model.hidden_size > 0 {
        parts.push(format!("width {}", model.hidden_size));
    }
    if !model.dtype.is_empty() {
        parts.push(format!("{}", Text(&model.dtype)));
    }
    if !model.hash.is_empty() {
        let short: String = model.hash.chars().take(12).collect();
        parts.push(format!("hash <code>{}</code>", Text(&short)));
    }
    parts.join(" · ")
}

fn ordered_groups<'a>(record: &'a StudyRecord, lines: &[&'a BudgetLine]) -> Vec<&'a str> {
    let mut found = groups(record);
    for line in lines {
        if !found.contains(&line.group.as_str()) {
            found.push(&line.group);
        }
    }
    found.retain(|group| lines.iter().any(|line| line.group == *group));
    found
}

/// A group's budget at a glance. With several thresholds the first one is shown.
fn tile(group: &str, index: usize, lines: &[&BudgetLine], num_layers: usize) -> String {
    let find = |healed: bool| {
        let own = || lines.iter().filter(|line| line.group == group && line.healed == healed);
        own().find(|line| line.headline).or_else(|| own().next())
    };
    let number = |line: Option<&&BudgetLine>| {
        line.and_then(|line| line.max_layers).map_or(NONE.to_owned(), |most| most.to_string())
    };
    let threshold = lines.iter().find(|line| line.group == group).map_or(f64::NAN, |line| line.threshold);
    let keep = percent(threshold, 0);
    let mut out = format!("<div class=\"tile g{}\">\n<h2>{}</h2>\n<p class=\"small\">", index % 4, Text(group));
    out.push_str(&format!("of {num_layers} layers, how many can be removed to keep ≥ {keep} %</p>\n<dl>\n"));
    out.push_str(&format!("<div><dt>as cut</dt><dd>{}</dd></div>\n", number(find(false))));
    if find(true).is_some() {
        out.push_str(&format!("<div><dt>after healing</dt><dd>{}</dd></div>\n", number(find(true))));
    }
    out.push_str("</dl>\n</div>\n");
    out
}
