//! One layer removed at a time, as the paper (arXiv 2602.01997) draws it: the score kept by task, the change in
//! repetition, the arithmetic probe, how the programs ended.

use lopper_record::study::{AblatedLayer, Diagnosis, Mean, Programs};
use lopper_record::{Result, StudyRecord};

use crate::chart::{At, Bar, Size, Unit, profile, stacked};
use crate::format::short;
use crate::html::{Text, figure, multiples};
use crate::order::tasks_by_group;
use crate::sections::diagnosis::{PROGRAM_COLOURS, legend, program_tasks};

const SMALL: Size = Size { width: 360, height: 230 };
const WIDE: Size = Size { width: 860, height: 300 };
const NARROW: Size = Size { width: 360, height: 280 };

/// The charts, or nothing without a removal that was diagnosed.
pub fn html(record: &StudyRecord) -> Result<String> {
    let mut rows: Vec<&AblatedLayer> = record.ablation.iter().collect();
    rows.sort_by_key(|row| row.layer);
    let base = record.ablation_base.as_ref();
    let mut tasks = String::new();
    for task in tasks_by_group(record) {
        let marks: Vec<At> = rows
            .iter()
            .filter_map(|row| {
                let kept = row.tasks.iter().find(|result| result.task == task.name)?.retention?;
                Some(At { layer: row.layer, value: kept.value, ci95: finite(kept.ci95) })
            })
            .collect();
        let title = format!("{} ({})", task.name.replace('_', " "), task.group);
        tasks.push_str(&chart(&title, &marks, Some(1.0), Unit::Percent)?);
    }
    let mut out = multiples("One layer removed: score kept by task", &tasks);
    out.push_str(&multiples("One layer removed: text and arithmetic", &changes(&rows, base)?));
    out.push_str(&programs(&rows)?);
    Ok(out)
}

fn changes(rows: &[&AblatedLayer], base: Option<&Diagnosis>) -> Result<String> {
    type Read = fn(&Diagnosis) -> Option<Mean>;
    let plain = |value: f64| Mean { value, ci95: None, n: 0 };
    let of = |read: &dyn Fn(&Diagnosis) -> Option<Mean>| -> Vec<At> {
        let marks = rows.iter().filter_map(|row| {
            let mean = read(row.diagnosis.as_ref()?)?;
            Some(At { layer: row.layer, value: mean.value, ci95: mean.ci95.and_then(finite) })
        });
        marks.collect()
    };
    let change = |read: Read| -> Vec<At> {
        let Some(before) = base.and_then(read) else { return vec![] };
        let own = |diagnosis: &Diagnosis| read(diagnosis).map(|mean| plain(mean.value - before.value));
        of(&own)
    };
    let rep: Read = |d| d.degeneration.as_ref()?.rep_4;
    let bleu: Read = |d| d.degeneration.as_ref()?.self_bleu_4;
    let accuracy: Read = |d| d.arithmetic.as_ref()?.accuracy;
    let nats: Read =
        |d| Some(Mean { value: d.perplexity?.ln(), ci95: d.perplexity_ci95.map(|ends| ends.map(f64::ln)), n: 0 });
    let brackets: Read = |d| d.brackets.as_ref()?.balanced;
    let of_base = |read: Read| base.and_then(read).map(|mean| mean.value);
    let mut out = String::new();
    for (title, marks, uncut, unit) in [
        ("change in Rep-4, points", change(rep), Some(0.0), Unit::Number),
        ("change in Self-BLEU-4", change(bleu), Some(0.0), Unit::Number),
        ("held-out text, nats per token", of(&nats), of_base(nats), Unit::Number),
        ("arithmetic: right first digit", of(&accuracy), of_base(accuracy), Unit::Percent),
        (
            "arithmetic: change in its log-probability",
            of(&|d| d.arithmetic.as_ref()?.logprob_change),
            Some(0.0),
            Unit::Number,
        ),
        ("brackets closed", of(&brackets), of_base(brackets), Unit::Percent),
    ] {
        out.push_str(&chart(title, &marks, uncut, unit)?);
    }
    Ok(out)
}

fn programs(rows: &[&AblatedLayer]) -> Result<String> {
    let tasks = program_tasks(rows.iter().filter_map(|row| row.diagnosis.as_ref()));
    let mut charts = String::new();
    for task in &tasks {
        charts.push_str(&programs_of(rows, task.as_deref())?);
    }
    if charts.is_empty() {
        return Ok(charts);
    }
    let legend = legend(Programs::NAMES.iter().copied().zip(PROGRAM_COLOURS));
    Ok(format!("<h3>One layer removed: how programs ended</h3>\n{legend}{charts}"))
}

/// The chart of one task, or of all.
fn programs_of(rows: &[&AblatedLayer], task: Option<&str>) -> Result<String> {
    let found: Vec<(usize, Programs)> =
        rows.iter().filter_map(|row| Some((row.layer, row.diagnosis.as_ref()?.programs_of(task)?))).collect();
    let bars: Vec<Bar> = found
        .iter()
        .map(|(layer, programs)| {
            let total = programs.total().max(1) as f64;
            let shares = programs.counts().iter().map(|count| *count as f64 / total).collect();
            Bar { at: *layer as f64, half: 0.38, shares }
        })
        .collect();
    let words: Vec<String> = found
        .iter()
        .map(|(layer, programs)| format!("layer {layer}: {} of {} passed", programs.passed, programs.total()))
        .collect();
    let of = task.map_or(String::new(), |task| format!(" of {task}"));
    let label = format!("How programs{of} ended, by removed layer. {}.", words.join(", "));
    let draw = |drawing| stacked(&bars, &PROGRAM_COLOURS, "removed layer", drawing);
    let name = format!("one-layer-programs{of}");
    let Some(wide) = draw(WIDE.drawing("wide", &label).named(&name))? else { return Ok(String::new()) };
    let narrow = draw(NARROW.drawing("narrow", ""))?.unwrap_or_default();
    let caption =
        task.map_or(String::new(), |task| format!("<figcaption>{}</figcaption>\n", Text(&task.replace('_', " "))));
    Ok(format!("<figure>\n{caption}{wide}{narrow}</figure>\n"))
}

fn finite(ci: [f64; 2]) -> Option<[f64; 2]> {
    ci.iter().all(|end| end.is_finite()).then_some(ci)
}

fn chart(title: &str, marks: &[At], uncut: Option<f64>, unit: Unit) -> Result<String> {
    let values: Vec<String> = marks.iter().map(|mark| format!("{}: {}", mark.layer, short(mark.value))).collect();
    let label = format!("{title}, by removed layer. {}.", values.join(", "));
    let drawn = profile(marks, uncut, unit, SMALL.drawing("small", &label).named(&format!("one-layer-{title}")))?;
    Ok(drawn.map_or_else(String::new, |chart| figure(title, &chart)))
}
