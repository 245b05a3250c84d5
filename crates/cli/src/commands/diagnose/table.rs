//! The figures as rows for a person.

use std::collections::BTreeSet;

use lopper_record::study::{Cause, Degeneration, Diagnosis, Mean, Programs, Reasoning};

use crate::table;

/// A mean with its interval, in the given decimals.
pub fn mean(value: Option<&Mean>, scale: f64, decimals: usize) -> String {
    let Some(mean) = value else { return "-".into() };
    let number = |value: f64| format!("{:.decimals$}", value * scale);
    match mean.ci95 {
        Some([low, high]) => format!("{} [{} to {}]", number(mean.value), number(low), number(high)),
        None => number(mean.value),
    }
}

/// A value with its interval, if there is one, in the given decimals; nothing where there is no value.
pub fn with_interval(value: Option<f64>, ci95: Option<[f64; 2]>, decimals: usize) -> Option<String> {
    value.map(|value| mean(Some(&Mean { value, ci95, n: 0 }), 1.0, decimals))
}

/// `(12.5 %)`; nothing of nothing.
pub fn percent_of(part: usize, whole: usize) -> String {
    if whole == 0 { String::new() } else { format!("({:.1} %)", 100.0 * part as f64 / whole as f64) }
}

/// One model's or file's text.
pub fn degeneration_rows(figures: &Degeneration) -> Vec<[String; 2]> {
    let mut rows = vec![
        ["responses".into(), table::count(figures.responses as u64)],
        ["empty".into(), table::count(figures.empty as u64)],
        ["Rep-2, %".into(), mean(figures.rep_2.as_ref(), 1.0, 2)],
        ["Rep-3, %".into(), mean(figures.rep_3.as_ref(), 1.0, 2)],
        ["Rep-4, %".into(), mean(figures.rep_4.as_ref(), 1.0, 2)],
        ["Self-BLEU-4".into(), mean(figures.self_bleu_4.as_ref(), 1.0, 4)],
        ["words".into(), mean(figures.words.as_ref(), 1.0, 1)],
    ];
    if figures.tokens.is_some() {
        rows.push(["tokens".into(), mean(figures.tokens.as_ref(), 1.0, 1)]);
    }
    let loops = percent_of(figures.loops, figures.responses);
    rows.push(["loops".into(), format!("{} {loops}", table::count(figures.loops as u64))]);
    for (name, count) in &figures.finish {
        let name: String = name.chars().take(30).flat_map(char::escape_debug).collect();
        rows.push([format!("ended by {name}"), table::count(*count as u64)]);
    }
    if figures.mean_logprob.is_some() {
        rows.push(["mean log-probability of a token".into(), mean(figures.mean_logprob.as_ref(), 1.0, 4)]);
    }
    if let Some(perplexity) = with_interval(figures.own_perplexity, figures.own_perplexity_ci95, 3) {
        rows.push(["perplexity of its own text".into(), perplexity]);
    }
    rows
}

/// What a model or the writer of a file thought; nothing where nothing is marked so.
pub fn reasoning_rows(figures: Option<&Reasoning>) -> Vec<[String; 2]> {
    let Some(Reasoning { responses, unfinished, text, .. }) = figures else { return vec![] };
    let of = |n: usize| format!("{} {}", table::count(n as u64), percent_of(n, *responses));
    vec![
        ["responses with a thought".into(), of(text.responses)],
        ["unfinished thoughts".into(), of(*unfinished)],
        ["thoughts that loop".into(), of(text.loops)],
        ["Rep-4 of thoughts, %".into(), mean(text.rep_4.as_ref(), 1.0, 2)],
        ["words of thoughts".into(), mean(text.words.as_ref(), 1.0, 1)],
    ]
}

/// The figures of several models side by side, one column each; a row appears where any has a value.
pub fn side_by_side(names: &[String], models: &[&Diagnosis]) -> String {
    type Figure = (String, Box<dyn Fn(&Diagnosis) -> Option<String>>);
    fn text(d: &Diagnosis) -> Option<&Degeneration> {
        d.degeneration.as_ref()
    }
    fn figure(name: &str, read: impl Fn(&Diagnosis) -> Option<String> + 'static) -> Figure {
        (name.to_owned(), Box::new(read))
    }
    fn of(value: Option<&Mean>, scale: f64, decimals: usize) -> Option<String> {
        value.map(|_| mean(value, scale, decimals))
    }
    let mut figures: Vec<Figure> = vec![
        figure("perplexity of held-out text", |d| with_interval(d.perplexity, d.perplexity_ci95, 3)),
        figure("Rep-2, %", |d| of(text(d)?.rep_2.as_ref(), 1.0, 1)),
        figure("Rep-3, %", |d| of(text(d)?.rep_3.as_ref(), 1.0, 1)),
        figure("Rep-4, %", |d| of(text(d)?.rep_4.as_ref(), 1.0, 1)),
        figure("Self-BLEU-4", |d| of(text(d)?.self_bleu_4.as_ref(), 1.0, 3)),
        figure("words", |d| of(text(d)?.words.as_ref(), 1.0, 1)),
        figure("responses that loop", |d| text(d).map(|t| format!("{} of {}", t.loops, t.responses))),
        figure("cut off at the length limit", |d| {
            text(d).filter(|t| !t.finish.is_empty()).map(|t| t.finish.get("length").copied().unwrap_or(0).to_string())
        }),
        figure("thoughts", |d| d.reasoning.as_ref().map(|r| format!("{} of {}", r.text.responses, r.responses))),
        figure("  unfinished", |d| d.reasoning.as_ref().map(|r| r.unfinished.to_string())),
        figure("  ended by the budget", |d| d.reasoning.as_ref().map(|r| r.cut.to_string())),
        figure("  that loop", |d| d.reasoning.as_ref().map(|r| r.text.loops.to_string())),
        figure("  tokens", |d| of(d.reasoning.as_ref()?.text.tokens.as_ref(), 1.0, 1)),
        figure("  Rep-4, %", |d| of(d.reasoning.as_ref()?.text.rep_4.as_ref(), 1.0, 1)),
        figure("mean token log-probability", |d| of(text(d)?.mean_logprob.as_ref(), 1.0, 4)),
        figure("arithmetic, first digit right, %", |d| of(d.arithmetic.as_ref()?.accuracy.as_ref(), 100.0, 0)),
        figure("log-probability of that digit", |d| of(d.arithmetic.as_ref()?.logprob.as_ref(), 1.0, 2)),
        figure("its change", |d| of(d.arithmetic.as_ref()?.logprob_change.as_ref(), 1.0, 2)),
        figure("brackets closed, %", |d| of(d.brackets.as_ref()?.balanced.as_ref(), 100.0, 0)),
    ];
    for (at, name) in Programs::NAMES.into_iter().enumerate() {
        let count = move |d: &Diagnosis| d.programs.map(|programs| programs.counts()[at].to_string());
        figures.push(figure(&format!("programs: {name}"), count));
    }
    let tasks: BTreeSet<String> = models.iter().flat_map(|model| model.programs_by_task.keys().cloned()).collect();
    for task in tasks {
        let name = format!("  {task}: passed");
        let passed = move |d: &Diagnosis| {
            d.programs_by_task.get(&task).map(|programs| format!("{} of {}", programs.passed, programs.total()))
        };
        figures.push(figure(&name, passed));
    }
    figures.push(figure("lost items", |d| d.ledger.as_ref().map(|l| format!("{} of {}", l.lost, l.compared))));
    for cause in Cause::ALL {
        let of = move |d: &Diagnosis| d.ledger.as_ref()?.shown(cause).map(|count| count.to_string());
        figures.push(figure(&format!("  {}", cause.title()), of));
    }
    figures.push(figure("gained items", |d| d.ledger.as_ref().map(|l| l.gained.to_string())));

    let header: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let row = |(name, read): &Figure| {
        let values: Vec<Option<String>> = models.iter().map(|model| read(model)).collect();
        let cells = values.iter().map(|value| value.clone().unwrap_or_else(|| "-".into()));
        let any = values.iter().any(Option::is_some);
        any.then(|| std::iter::once(name.clone()).chain(cells).collect::<Vec<String>>())
    };
    table::render_rows(&header, &figures.iter().filter_map(row).collect::<Vec<_>>())
}
