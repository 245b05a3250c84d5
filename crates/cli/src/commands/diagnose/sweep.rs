//! What every single removal did, as tables for a person.

use std::collections::BTreeSet;

use lopper_record::study::{Diagnosis, Programs, StudyRecord};

use super::table::{mean, with_interval};
use crate::table;

/// The figures of every removal; and of programs, how they ended.
pub fn tables(record: &StudyRecord) -> String {
    let mut out = figures(record);
    let diagnoses = || record.ablation.iter().filter_map(|ablated| ablated.diagnosis.as_ref());
    let tasks: BTreeSet<&String> = diagnoses().flat_map(|diagnosis| diagnosis.programs_by_task.keys()).collect();
    match tasks.is_empty() {
        true => out.push_str(&ends(record, None)),
        false => tasks.into_iter().for_each(|task| out.push_str(&ends(record, Some(task)))),
    }
    out
}

/// How the programs of a task, or of the only one, ended without each layer; nothing where none ran.
fn ends(record: &StudyRecord, task: Option<&str>) -> String {
    let base = record.base.iter().filter_map(|base| Some(("none".to_owned(), base.diagnosis.as_ref()?)));
    let removals = record.ablation.iter().filter_map(|own| Some((own.layer.to_string(), own.diagnosis.as_ref()?)));
    let rows: Vec<Vec<String>> = base
        .chain(removals)
        .filter_map(|(layer, diagnosis)| {
            let programs = diagnosis.programs_of(task)?;
            let share = |count: usize| format!("{:.0}", 100.0 * count as f64 / programs.total().max(1) as f64);
            let shares = programs.counts().into_iter().map(share);
            Some(std::iter::once(layer).chain(shares).chain([programs.total().to_string()]).collect())
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<&str> = std::iter::once("without").chain(Programs::NAMES).chain(["n"]).collect();
    let of = task.map_or(String::new(), |task| format!(" of {task}"));
    format!("\n\nhow programs{of} ended, %\n{}", table::render_rows(&head, &rows))
}

/// A row for each removed layer.
fn figures(record: &StudyRecord) -> String {
    let base = record.base.as_ref().and_then(|base| base.diagnosis.as_ref());
    let rows: Vec<[String; 9]> = record
        .ablation
        .iter()
        .filter_map(|ablated| {
            let own = ablated.diagnosis.as_ref()?;
            let change = |read: &dyn Fn(&Diagnosis) -> Option<f64>, decimals: usize| {
                base.and_then(read).zip(read(own)).map_or("-".into(), |(a, b)| format!("{:+.decimals$}", b - a))
            };
            let rep = |d: &Diagnosis| Some(d.degeneration.as_ref()?.rep_4?.value);
            let bleu = |d: &Diagnosis| Some(d.degeneration.as_ref()?.self_bleu_4?.value);
            let arithmetic = own.arithmetic.as_ref();
            let lost = own.ledger.as_ref().map_or("-".into(), |l| format!("{} of {}", l.lost, l.compared));
            Some([
                ablated.layer.to_string(),
                with_interval(own.perplexity, own.perplexity_ci95, 2).unwrap_or("-".into()),
                change(&rep, 1),
                change(&bleu, 3),
                mean(arithmetic.and_then(|a| a.accuracy.as_ref()), 100.0, 0),
                arithmetic.and_then(|a| a.logprob_change).map_or("-".into(), |m| format!("{:+.2}", m.value)),
                mean(own.brackets.as_ref().and_then(|b| b.balanced.as_ref()), 100.0, 0),
                own.programs.map_or("-".into(), |p| format!("{} of {}", p.passed, p.total())),
                lost,
            ])
        })
        .collect();
    table::render(
        ["without", "perplexity", "Rep-4", "Self-BLEU-4", "digit right, %", "log p", "brackets, %", "passed", "lost"],
        &rows,
    )
}
