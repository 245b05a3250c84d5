//! The answer first: how many layers, the commands that remove them, and the budget of each group at a glance.

use lopper_record::study::{BudgetDepth, BudgetLine, ModelCard, Scope, Verdict};
use lopper_record::{Result, StudyRecord, format_ranges};

use crate::answer::{Answer, answer, floor, others, undecided};
use crate::commands::{self, Steps};
use crate::format::{count, percent};
use crate::html::Text;
use crate::order::{groups, plain, strategy_title};
use crate::sections::decision::sign;

/// The title, the answer with its commands, the tiles, and whether the study has finished.
pub fn html(record: &StudyRecord) -> Result<String> {
    let model = &record.model;
    let name = if model.name.is_empty() { "the model" } else { &model.name };
    let version = Text(&record.lopper_version);
    let mut out = format!("<header>\n<p class=\"kicker\">Lopper {version} · depth budget</p>\n");
    // `lopper diagnose` writes the record of a diagnosis, which decides no budget.
    let diagnosis = record.complete && record.budget.is_empty();
    let question =
        if diagnosis { format!("What does {name} lose?") } else { format!("How many layers can {name} lose?") };
    out.push_str(&format!("<h1>{}</h1>\n", Text(&question)));
    out.push_str(&format!("<p class=\"card\">{}</p>\n", card(model)));
    if !record.complete {
        out.push_str(
            "<p class=\"note\"><strong>This study has not finished.</strong> The page shows what had been measured when \
             it stopped; the same command continues it.</p>\n",
        );
    }
    out.push_str("</header>\n");
    if diagnosis {
        return Ok(out);
    }
    out.push_str("<section id=\"budget\">\n");
    match answer(record) {
        Some(answer) => {
            out.push_str(&lead(record, &answer));
            out.push_str(&steps(record, &answer));
            out.push_str(&tiles(record));
        }
        None => out.push_str("<h2 class=\"lead\">No depth budget has been decided yet.</h2>\n"),
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

/// The sentence of the group that can spare least: its first part large, the rest below it.
fn lead(record: &StudyRecord, answer: &Answer<'_>) -> String {
    // "≥ 90 %" stays on one line.
    let statement = record.statement(answer.line).replace(" %", "\u{a0}%").replace("≥ ", "≥\u{a0}");
    let (first, rest) = match statement.split_once(". ") {
        Some((first, rest)) => (format!("{first}."), rest),
        None => (statement.clone(), ""),
    };
    let mut out = format!("<h2 class=\"lead\">{}</h2>\n", Text(&first));
    if let Some(cut) = answer.cut {
        let noun = if cut.removed == 1 { "Layer" } else { "Layers" };
        let healing = if answer.line.healed { ", then healed" } else { ", without healing" };
        out.push_str(&format!(
            "<p class=\"which\">{noun} <strong>{}</strong>{healing}; chosen by {}.</p>\n",
            cut.dropped,
            Text(&strategy_title(&cut.strategy))
        ));
    }
    for other in others(record, answer) {
        let Some(cut) = other.cut else { continue };
        let noun = if cut.removed == 1 { "layer" } else { "layers" };
        let healing = if other.line.healed { ", then healed" } else { "" };
        out.push_str(&format!(
            "<p class=\"which\">By the {} tasks alone: <strong>{}</strong> {noun} (<strong>{}</strong>){healing}.</p>\n",
            Text(&plain(&other.line.group)),
            cut.removed,
            cut.dropped
        ));
    }
    if !rest.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", Text(rest)));
    }
    out
}

/// The commands that make the cut, or those that would decide where nothing is decided.
fn steps(record: &StudyRecord, answer: &Answer<'_>) -> String {
    if let Some(cut) = answer.cut {
        let mut out = block("Make this cut", &commands::make(record, cut));
        if commands::needs_prompts(record, cut) {
            out.push_str(
                "<p class=\"small\">The study took its prompts from the training splits of its tasks; put a file of such \
                 prompts in place of <code>PROMPTS.jsonl</code>.</p>\n",
            );
        }
        return out;
    }
    let mut out = match needed(answer.line) {
        Some(items) => block("Decide it", &commands::decide(record, items)),
        None => String::new(),
    };
    for other in others(record, answer) {
        if let Some(cut) = other.cut {
            let title = format!("Make the cut that holds for the {} tasks alone", plain(&other.line.group));
            out.push_str(&block(&title, &commands::make(record, cut)));
        }
    }
    out
}

/// How many items of each task would decide the next depth.
pub fn needed(line: &BudgetLine) -> Option<usize> {
    let needed = undecided(line)?.needed.as_ref()?;
    Some(match needed.task {
        None if line.scope != Scope::Task => needed.items.div_ceil(line.tasks.len().max(1)),
        _ => needed.items,
    })
}

/// Commands to copy, each below a comment that says what it does.
pub fn block(title: &str, steps: &Steps) -> String {
    let mut text = String::new();
    for (what, command) in steps {
        text.push_str(&format!("<span class=\"comment\"># {}</span>\n", Text(what)));
        if !command.is_empty() {
            text.push_str(&format!("{}\n", Text(command)));
        }
    }
    format!("<h3>{}</h3>\n<pre class=\"command\">{}</pre>\n", Text(title), text.trim_end())
}

/// What each group of tasks can spare: the worst task, each task, their mean.
fn tiles(record: &StudyRecord) -> String {
    let own = |line: &&BudgetLine| {
        let main = line.strategy == record.main_strategy || record.headlines().contains(line);
        main && floor(record).is_some_and(|floor| floor.to_bits() == line.threshold.to_bits())
    };
    let lines: Vec<&BudgetLine> = record.budget.iter().filter(own).collect();
    let mut found = groups(record);
    for line in &lines {
        if !found.contains(&line.group.as_str()) {
            found.push(&line.group);
        }
    }
    let keep = percent(floor(record).unwrap_or(f64::NAN), 0);
    let layers = record.model.num_layers;
    let mut out = format!(
        "<h3>How many of {layers} layers each use can spare to keep ≥\u{a0}{keep}\u{a0}%</h3>\n<div class=\"tiles\">\n"
    );
    for (index, group) in found.into_iter().enumerate() {
        let own: Vec<&BudgetLine> = lines.iter().copied().filter(|line| line.group == group).collect();
        if !own.is_empty() {
            out.push_str(&tile(group, index, &own));
        }
    }
    out.push_str(
        "</div>\n<p class=\"small\">✓ holds: the one-sided 95 % lower bound of what is kept reaches the floor. ✗ fails: \
         the upper bound is below it. ? undecided: the items measured do not tell.</p>\n",
    );
    out
}

fn tile(group: &str, index: usize, lines: &[&BudgetLine]) -> String {
    let healed = lines.iter().any(|line| line.healed);
    let mut rows: Vec<(Scope, String)> = Vec::new();
    for scope in [Scope::Worst, Scope::Task, Scope::Mean] {
        for line in lines.iter().filter(|line| line.scope == scope) {
            let name = row_name(line);
            if !rows.contains(&(scope, name.clone())) {
                rows.push((scope, name));
            }
        }
    }
    let id = format!("tile-{index}");
    let mut out = format!("<div class=\"tile g{}\">\n<h4 id=\"{id}\">{}</h4>\n", index % 4, Text(&plain(group)));
    out.push_str(&format!(
        "<table aria-labelledby=\"{id}\">\n<thead><tr><th scope=\"col\" class=\"left\">to keep</th>"
    ));
    out.push_str("<th scope=\"col\" class=\"left\">as cut</th>");
    out.push_str(if healed {
        "<th scope=\"col\" class=\"left\">healed</th></tr></thead>\n<tbody>\n"
    } else {
        "</tr></thead>\n<tbody>\n"
    });
    for (scope, name) in &rows {
        let of = |healed: bool| {
            let own =
                lines.iter().find(|line| line.healed == healed && line.scope == *scope && row_name(line) == *name);
            own.map_or_else(|| "<td class=\"left\">not tried</td>".to_owned(), |line| cell(line))
        };
        let class = if *scope == Scope::Worst { " class=\"first\"" } else { "" };
        out.push_str(&format!("<tr{class}><th scope=\"row\" class=\"left\">{}</th>{}", Text(name), of(false)));
        out.push_str(&if healed { format!("{}</tr>\n", of(true)) } else { "</tr>\n".to_owned() });
    }
    out.push_str("</tbody>\n</table>\n");
    let left_out: Vec<String> = lines
        .iter()
        .find(|line| line.scope != Scope::Task)
        .map_or_else(Vec::new, |line| line.left_out.iter().map(|task| plain(task)).collect());
    if !left_out.is_empty() {
        out.push_str(&format!(
            "<p class=\"small\">Left out, because the uncut model scores too little to judge by: {}.</p>\n",
            Text(&left_out.join(", "))
        ));
    }
    out.push_str("</div>\n");
    out
}

fn row_name(line: &BudgetLine) -> String {
    match line.scope {
        Scope::Worst => "every task".into(),
        Scope::Mean => "their mean".into(),
        Scope::Task => {
            line.task.as_deref().or(line.tasks.first().map(String::as_str)).map_or_else(|| plain(&line.group), plain)
        }
    }
}

/// The number of layers, and what each depth came to.
fn cell(line: &BudgetLine) -> String {
    if line.tasks.is_empty() && !line.left_out.is_empty() {
        return "<td class=\"left\"><span class=\"ci\">left out</span></td>".into();
    }
    let most = line.max_layers.map_or("?".to_owned(), |most| most.to_string());
    format!("<td class=\"left\"><strong class=\"most\">{most}</strong> {}</td>", calls(line))
}

/// What each depth came to: depths with the same verdict together, with a sign and a word.
pub fn calls(line: &BudgetLine) -> String {
    let verdict = |depth: &BudgetDepth| if depth.holds { Verdict::Holds } else { depth.verdict };
    let mut words = Vec::new();
    for run in line.depths.chunk_by(|a, b| verdict(a) == verdict(b)).take(8) {
        let depths: Vec<usize> = run.iter().map(|depth| depth.removed).collect();
        let verdict = verdict(&run[0]);
        let (class, word) = match (verdict, depths.len()) {
            (Verdict::Holds, 1) => ("holds", "holds"),
            (Verdict::Holds, _) => ("holds", "hold"),
            (Verdict::Fails, 1) => ("fails", "fails"),
            (Verdict::Fails, _) => ("fails", "fail"),
            (Verdict::Undecided, _) => ("undecided", "undecided"),
        };
        let ranges = format_ranges(&depths).replace('-', "–").replace(',', ", ");
        words.push(format!("<span class=\"call {class}\">{} {ranges} {word}</span>", sign(verdict)));
    }
    words.join(" ")
}
