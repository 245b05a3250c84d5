//! `lopper budget`: the depth budget from samples that were measured anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lopper_measure::{SampleScores, SampledCut, ScoreChoice, samples_budget};
use lopper_record::Result;
use lopper_record::study::{BudgetDepth, BudgetLine, Scope, Verdict};
use serde::Serialize;

use crate::args::BudgetArgs;
use crate::context::Context;
use crate::table;

/// The JSON document.
#[derive(Serialize)]
struct Document {
    keep: f64,
    confidence: f64,
    groups: BTreeMap<String, GroupBudget>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct GroupBudget {
    /// Items of the judged tasks.
    n: usize,
    depths: Vec<Depth>,
    at_most: Option<usize>,
    /// Tasks that the uncut model scores too little on to judge by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    statement: String,
}

#[derive(Serialize)]
struct Depth {
    removed: usize,
    /// Cut ÷ uncut score.
    retention: Option<f64>,
    /// One-sided 95 % bounds of `corrected`.
    lower: Option<f64>,
    upper: Option<f64>,
    /// Retention above chance, which is judged; `retention` where a guess scores nothing.
    corrected: Option<f64>,
    verdict: Verdict,
    items_needed: Option<usize>,
    /// The task that keeps least.
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<String>,
}

pub fn run(context: &Context, args: &BudgetArgs) -> Result<()> {
    let choice = ScoreChoice { metric: args.metric.clone(), filter: args.filter.clone() };
    let base = SampleScores::read(&args.base, &choice)?;
    let mut paths: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
    for (removed, path) in &args.cut {
        paths.entry(*removed).or_default().push(path.clone());
    }
    let cuts = paths
        .into_iter()
        .map(|(removed, paths)| Ok(SampledCut { removed, scores: SampleScores::read(&paths, &choice)? }))
        .collect::<Result<Vec<_>>>()?;
    let found = samples_budget(&base, &cuts, args.keep)?;
    if args.json {
        let groups = found.lines.iter().flat_map(|line| names(line).into_iter().map(move |name| (name, line)));
        let groups = groups.map(|(name, line)| (name, group(line, args.layers))).collect();
        return context.printer.json(&Document { keep: args.keep, confidence: 0.95, groups, remarks: found.remarks });
    }
    found.remarks.iter().for_each(|remark| context.printer.note(remark));
    context.printer.result(&human(&found.lines, args.layers))
}

/// What a budget is called: the only task of all is also the worst and the mean.
fn names(line: &BudgetLine) -> Vec<String> {
    match line.scope {
        Scope::Mean => vec!["all".to_owned()],
        Scope::Worst => vec!["worst".to_owned()],
        Scope::Task => {
            let own = line.task.clone().unwrap_or_default();
            if line.headline { vec![own, "worst".to_owned(), "all".to_owned()] } else { vec![own] }
        }
    }
}

fn group(line: &BudgetLine, layers: Option<usize>) -> GroupBudget {
    let depth = |depth: &BudgetDepth| Depth {
        removed: depth.removed,
        retention: depth.ratio,
        lower: depth.retention.map(|retention| retention.lower95),
        upper: depth.retention.map(|retention| retention.upper95),
        corrected: depth.retention.map(|retention| retention.value),
        verdict: depth.verdict,
        items_needed: depth.needed.as_ref().map(|needed| needed.items),
        worst: depth.worst.clone(),
    };
    GroupBudget {
        n: line.items(),
        depths: line.depths.iter().map(depth).collect(),
        at_most: line.max_layers,
        left_out: line.left_out.clone(),
        statement: line.sentence(layers),
    }
}

/// The first answer in words, a table of all, and the answer about the mean.
fn human(lines: &[BudgetLine], layers: Option<usize>) -> String {
    let mut blocks: Vec<String> = lines.iter().filter(|line| line.headline).map(|line| line.sentence(layers)).collect();
    let depths: Vec<usize> =
        lines.first().map_or_else(Vec::new, |line| line.depths.iter().map(|d| d.removed).collect());
    let mut header = vec!["keeps, %".to_owned(), "items".to_owned(), "at most".to_owned()];
    header.extend(depths.iter().map(|removed| format!("-{removed}")));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    blocks.push(table::render_rows(&header, &lines.iter().map(row).collect::<Vec<_>>()));
    blocks.push(
        "[one-sided 95 % bounds], above chance where a task has choices; + holds, x fails, ? undecided".to_owned(),
    );
    blocks.join("\n\n")
}

fn row(line: &BudgetLine) -> Vec<String> {
    let name = match line.scope {
        Scope::Task => line.task.clone().unwrap_or_default(),
        Scope::Worst => "worst task".to_owned(),
        Scope::Mean => "mean".to_owned(),
    };
    let at_most = line.max_layers.map_or_else(|| "?".to_owned(), |most| most.to_string());
    let mut row = vec![name, line.items().to_string(), at_most];
    row.extend(line.depths.iter().map(|depth| {
        let Some(kept) = depth.retention else { return "not judged".to_owned() };
        let percent = |share: f64| format!("{:.0}", share * 100.0);
        let mark = match depth.verdict {
            Verdict::Holds => '+',
            Verdict::Fails => 'x',
            Verdict::Undecided => '?',
        };
        format!("{} [{} to {}] {mark}", percent(kept.value), percent(kept.lower95), percent(kept.upper95))
    }));
    row
}
