//! What breaks: the gap alarm, the figures of the uncut, the cut and the healed models side by side, how programs ended
//! and why items were lost, and the charts by removed layer.

use std::collections::BTreeSet;

use lopper_record::study::{Cause, Diagnosis, Mean, Point, Programs};
use lopper_record::{Result, StudyRecord, format_ranges};

use crate::chart::{Bar, Size, stacked};
use crate::format::{NONE, percent, short, short_with_interval};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, figure, table_start, titled_table};
use crate::order::{main_points, plain, strategy_title};
use crate::sections::{layer_charts, probe_charts};

const SIZE: Size = Size { width: 420, height: 280 };
/// Colours of the classes of a program's end, in their order.
pub const PROGRAM_COLOURS: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];
/// Colours of the causes, in the order in which they are tried. A cause that programs have as well has their colour.
const CAUSE_COLOURS: [usize; 8] = [0, 2, 3, 1, 4, 5, 7, 6];

/// The section, or nothing before anything was diagnosed.
pub fn html(record: &StudyRecord) -> Result<String> {
    let models = models(record);
    let charts = layer_charts::html(record)?;
    if models.is_empty() && charts.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<section id=\"diagnosis\">\n<h2>What breaks</h2>\n");
    out.push_str(&alarms(record));
    if !models.is_empty() {
        out.push_str(&table(&models));
        out.push_str(&probe_charts::html(&models)?);
        out.push_str(&stacks(&models)?);
    }
    out.push_str(&charts);
    out.push_str("</section>\n");
    Ok(out)
}

/// The uncut model and the cuts of the main strategy, as cut and healed, by depth.
fn models(record: &StudyRecord) -> Vec<(&Point, &Diagnosis)> {
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    let found = record.base.iter().chain(main_points(record, &main));
    found.filter_map(|point| Some((point, point.diagnosis.as_ref()?))).collect()
}

fn alarms(record: &StudyRecord) -> String {
    let mut items = Vec::new();
    for strategy in record.strategies() {
        // Deeper cuts repeat it: the shallowest as cut, and the shallowest healed.
        let found = main_points(record, strategy);
        let first =
            |healed: bool| found.iter().find(|point| point.gap.is_some() && point.healed.is_some() == healed).copied();
        for point in [first(false), first(true)].into_iter().flatten() {
            let Some(gap) = &point.gap else { continue };
            let healed = if point.healed.is_some() { ", healed" } else { "" };
            let who = format!("{}, {} removed{healed} and deeper: ", strategy_title(strategy), point.removed);
            items.push(format!("<li>{}{}</li>\n", Text(&who), Text(&gap.sentence())));
        }
    }
    let mut out = String::new();
    if !items.is_empty() {
        out.push_str(&format!("<div class=\"note\">\n<h3>Gap alarm</h3>\n<ul>\n{}</ul>\n</div>\n", items.concat()));
    }
    if !record.stopped.is_empty() {
        out.push_str("<p class=\"small\">These strategies ended early, because the sentinels found nothing left of the model:</p>\n<ul>\n");
        for branch in &record.stopped {
            let what = format!(
                "{} at {} removed ({}); not measured: {}",
                strategy_title(&branch.strategy),
                branch.removed,
                branch.reason,
                format_ranges(&branch.skipped)
            );
            out.push_str(&format!("<li>{}</li>\n", Text(&what)));
        }
        out.push_str("</ul>\n");
    }
    out
}

fn share(mean: Option<&Mean>) -> String {
    mean.map_or(NONE.into(), |mean| percent(mean.value, 0))
}

fn number(mean: Option<&Mean>) -> String {
    mean.map_or(NONE.into(), |mean| short(mean.value))
}

/// A table with a row for each model.
fn table(models: &[(&Point, &Diagnosis)]) -> String {
    let columns = [
        Right("removed"),
        Left("state"),
        Right("perplexity"),
        Right("Rep-4, %"),
        Right("Self-BLEU-4"),
        Right("loops"),
        Right("first digit, %"),
        Right("Δ log p"),
        Right("brackets, %"),
        Right("programs, %"),
        Right("lost"),
        Right("gained"),
    ];
    let mut out = table_start("Uncut, cut and healed", &columns);
    out.push_str("<tbody>\n");
    for (point, diagnosis) in models {
        let state = match (&point.healed, point.removed) {
            (Some(_), _) => "healed",
            (None, 0) => "uncut",
            _ => "cut",
        };
        let text = diagnosis.degeneration.as_ref();
        let arithmetic = diagnosis.arithmetic.as_ref();
        let change = arithmetic.and_then(|figures| figures.logprob_change);
        let cells = [
            number(text.and_then(|text| text.rep_4.as_ref())),
            number(text.and_then(|text| text.self_bleu_4.as_ref())),
            text.map_or(NONE.into(), |text| format!("{} of {}", text.loops, text.responses)),
            share(arithmetic.and_then(|figures| figures.accuracy.as_ref())),
            change.map_or(NONE.into(), |mean| format!("{:+.2}", mean.value)),
            share(diagnosis.brackets.as_ref().and_then(|figures| figures.balanced.as_ref())),
            diagnosis.programs.map_or(NONE.into(), |p| percent(p.passed as f64 / p.total().max(1) as f64, 0)),
            diagnosis.ledger.as_ref().map_or(NONE.into(), |ledger| format!("{} of {}", ledger.lost, ledger.compared)),
            diagnosis.ledger.as_ref().map_or(NONE.into(), |ledger| ledger.gained.to_string()),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", Text(cell))).collect();
        let perplexity = short_with_interval(diagnosis.perplexity, diagnosis.perplexity_ci95);
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td class=\"left\">{state}</td><td>{perplexity}</td>{cells}</tr>\n",
            point.removed
        ));
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    out.push_str(
        "<p class=\"small\">Rep-4: 4-grams that repeat an earlier one. Self-BLEU-4: how similar the sentences of a \
         response are to each other. First digit: how often the right first digit of an arithmetic answer is the most \
         likely of the ten; Δ log p: the change in its log-probability. Brackets: closed correctly. Programs: passed \
         their tests. Lost: right in the uncut model and wrong here; gained: wrong in the uncut model and right \
         here.</p>\n",
    );
    out.push_str(&sources(models));
    titled_table("Uncut, cut and healed", models.len(), &out)
}

/// Where probes and texts come from, where it is not the study's tasks.
fn sources(models: &[(&Point, &Diagnosis)]) -> String {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (_, own) in models {
        let text = own.degeneration.as_ref().map_or("", |text| text.source.as_str());
        let arithmetic = own.arithmetic.as_ref().map_or("", |figures| figures.source.as_str());
        let brackets = own.brackets.as_ref().map_or("", |figures| figures.source.as_str());
        for entry in [("text", text), ("arithmetic", arithmetic), ("brackets", brackets)] {
            if !entry.1.is_empty() && !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    let words: Vec<String> = found.iter().map(|(what, source)| format!("{what} from {}", plain(source))).collect();
    if words.is_empty() {
        String::new()
    } else {
        format!("<p class=\"small\">Measured with: {}.</p>\n", Text(&words.join("; ")))
    }
}

/// How programs ended and why items were lost, by depth.
fn stacks(models: &[(&Point, &Diagnosis)]) -> Result<String> {
    let any_healed = models.iter().any(|(point, _)| point.healed.is_some());
    let position = |point: &Point| match (any_healed && point.removed > 0, point.healed.is_some()) {
        (false, _) => (point.removed as f64, 0.36),
        (true, false) => (point.removed as f64 - 0.2, 0.18),
        (true, true) => (point.removed as f64 + 0.2, 0.18),
    };
    let bars = |read: &dyn Fn(&Diagnosis) -> Option<Vec<f64>>| -> Vec<Bar> {
        let bar = |(point, diagnosis): &(&Point, &Diagnosis)| {
            let (at, half) = position(point);
            Some(Bar { at, half, shares: read(diagnosis)? })
        };
        models.iter().filter_map(bar).collect()
    };
    let causes = bars(&|diagnosis| {
        let ledger = diagnosis.ledger.as_ref()?;
        let total = ledger.compared.max(1) as f64;
        Some(Cause::ALL.iter().map(|cause| ledger.of(*cause) as f64 / total).collect())
    });
    let words = |read: &dyn Fn(&Diagnosis) -> Option<String>| {
        let word = |(point, diagnosis): &(&Point, &Diagnosis)| {
            let healed = if point.healed.is_some() { " healed" } else { "" };
            Some(format!("{}{healed}: {}", point.removed, read(diagnosis)?))
        };
        models.iter().filter_map(word).collect::<Vec<_>>().join(", ")
    };
    let mut out = String::new();
    for task in program_tasks(models.iter().map(|(_, diagnosis)| *diagnosis)) {
        let of = task.as_ref().map_or(String::new(), |task| format!(" of {task}"));
        let ends = bars(&|diagnosis| {
            let programs = diagnosis.programs_of(task.as_deref())?;
            let total = programs.total().max(1) as f64;
            Some(programs.counts().iter().map(|count| *count as f64 / total).collect())
        });
        let passed =
            words(&|d| d.programs_of(task.as_deref()).map(|p| format!("{} of {} passed", p.passed, p.total())));
        let label = format!("How programs{of} ended, by layers removed. {passed}.");
        let caption = format!("how programs{of} ended").replace('_', " ");
        if let Some(chart) =
            stacked(&ends, &PROGRAM_COLOURS, "layers removed", SIZE.drawing("small", &label).named(&caption))?
        {
            let legend = legend(Programs::NAMES.iter().copied().zip(PROGRAM_COLOURS));
            out.push_str(&figure(&caption, &format!("{chart}{legend}")));
        }
    }
    let lost = words(&|d| d.ledger.as_ref().map(|l| format!("{} of {} lost", l.lost, l.compared)));
    let label = format!("Why items were lost, by layers removed. {lost}.");
    if let Some(chart) =
        stacked(&causes, &CAUSE_COLOURS, "layers removed", SIZE.drawing("small", &label).named("lost-items"))?
    {
        let shown = |cause: &Cause| {
            models.iter().any(|(_, own)| own.ledger.as_ref().is_some_and(|ledger| ledger.shown(*cause).is_some()))
        };
        let causes = Cause::ALL.iter().zip(CAUSE_COLOURS).filter(|(cause, _)| shown(cause));
        let legend = legend(causes.map(|(cause, colour)| (cause.title(), colour)));
        out.push_str(&figure("why items were lost", &format!("{chart}{legend}")));
    }
    if out.is_empty() {
        return Ok(out);
    }
    let sides = if any_healed {
        "<p class=\"small\">For each number of layers removed: as cut on the left, healed on the right.</p>\n"
    } else {
        ""
    };
    Ok(format!("<div class=\"multiples\">\n{out}</div>\n{sides}"))
}

/// The tasks whose programs are drawn, one by one; `None` stands for all programs together, where a record does not
/// tell tasks apart.
pub fn program_tasks<'a>(diagnoses: impl Iterator<Item = &'a Diagnosis>) -> Vec<Option<String>> {
    let tasks: BTreeSet<&String> = diagnoses.flat_map(|diagnosis| diagnosis.programs_by_task.keys()).collect();
    if tasks.is_empty() { vec![None] } else { tasks.into_iter().cloned().map(Some).collect() }
}

/// The parts of a stacked bar with their colours, from below.
pub fn legend<'a>(parts: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut out = String::from("<ul class=\"legend\">\n");
    for (name, colour) in parts {
        out.push_str(&format!(
            "<li><svg class=\"swatch\" viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" width=\"12\" \
             height=\"12\" fill=\"var(--o{colour})\" /></svg>{}</li>\n",
            Text(name)
        ));
    }
    out.push_str("</ul>\n");
    out
}
