//! The report is well-formed, complete, safe and readable at any stage of a study.

mod common;

use lopper_record::study::StudyRecord;
use lopper_record::{Retention, Score};
use lopper_report::{render, terminal_table};
use serde_json::Value;

/// Checks that every tag is closed in order, every attribute quoted and every `<` or `&` escaped.
/// Strict on purpose: the page is written as XML that is also HTML.
fn check_well_formed(html: &str) {
    let body = html.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (head, rest) = body.split_once("<style>").expect("a style sheet");
    let (style, rest) = rest.split_once("</style>").expect("a closed style sheet");
    assert!(!style.contains('<'));
    let text = format!("{head}{rest}");
    let mut open: Vec<String> = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a closed tag");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        assert!(!name.is_empty(), "<{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "</{name}> closes something else");
        } else {
            check_attributes(tag[name.len()..].trim_end_matches('/'));
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "{open:?} left open");
}

fn check_text(text: &str) {
    assert!(!text.contains('>'), "{text}");
    for (at, _) in text.match_indices('&') {
        let entity: String = text[at + 1..].chars().take_while(|c| *c != ';').take(6).collect();
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&entity.as_str()), "&{entity}");
    }
}

fn check_attributes(text: &str) {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap_or_else(|| panic!("no value in {text}"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-:_".contains(c)), "{name}");
        let after = after.strip_prefix('"').unwrap_or_else(|| panic!("unquoted: {text}"));
        let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("unclosed: {text}"));
        check_text(value);
        rest = after.trim_start();
    }
}

#[test]
fn a_whole_study_has_every_part() {
    let html = render(&common::study()).unwrap();
    check_well_formed(&html);
    for part in ["budget", "curves", "scores", "layers", "diagnosis", "ledger", "samples", "provenance"] {
        assert!(html.contains(&format!("<section id=\"{part}\">")), "{part}");
    }
    assert!(html.contains("Cut at most"));
    assert!(html.contains("arithmetic: right first digit, by layers removed. as cut: 0 removed 9"));
    assert!(html.contains("lopper study --out lopper-study"));
    for (layer, value) in [(11, "0.232"), (0, "0.628")] {
        assert!(html.contains(&format!("<td>{value}</td>")), "the criterion's value of layer {layer}");
    }
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let html = render(&common::study()).unwrap();
    for forbidden in ["<script", "src=", "href=", "url(", "@import", "onload", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let outside: Vec<_> = html
        .match_indices("http")
        .map(|(at, _)| &html[at..(at + 30).min(html.len())])
        .filter(|text| !text.starts_with("http://www.w3.org/2000/svg") && !text.starts_with("http-equiv"))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn every_colour_of_a_chart_follows_the_scheme() {
    let html = render(&common::study()).unwrap();
    let (_, body) = html.split_once("</style>").unwrap();
    assert!(!body.contains("\"#"), "a fixed colour is left");
    assert!(body.contains("stroke-dasharray=\"6 5\""));
}

/// Puts `text` in the place of every text but causes and verdicts, of which there is a fixed number.
fn overwrite(value: &mut Value, text: &str) {
    match value {
        Value::String(own) => text.clone_into(own),
        Value::Array(values) => values.iter_mut().for_each(|value| overwrite(value, text)),
        Value::Object(fields) => {
            let free = fields.iter_mut().filter(|(key, _)| *key != "cause" && *key != "verdict");
            free.for_each(|(_, value)| overwrite(value, text));
        }
        _ => {}
    }
}

#[test]
fn untrusted_text_is_text() {
    let evil = "</pre><script>alert(1)</script>\" onload='x' &amp; \u{1b}[31m\0";
    let mut record = serde_json::to_value(common::study()).unwrap();
    overwrite(&mut record, evil);
    record["recipe"] = serde_json::json!({ evil: evil });
    let record: StudyRecord = serde_json::from_value(record).unwrap();
    assert!([&record.model.name, &record.points[0].strategy, &record.tasks[0].group].iter().all(|text| *text == evil));
    let html = render(&record).unwrap();
    check_well_formed(&html);
    assert!(!html.contains("<script"));
    assert!(!html.contains('\u{1b}') && !html.contains('\0'));
    assert!(!terminal_table(&record, 100, false).contains('\u{1b}'));
}

#[test]
fn every_stage_of_a_study_can_be_shown() {
    check_well_formed(&render(&StudyRecord::default()).unwrap());
    assert!(terminal_table(&StudyRecord::default(), 80, false).contains("not finished"));
    let whole = common::study();
    // Stages in the order a study finishes them.
    let mut partial = StudyRecord { model: whole.model.clone(), tasks: whole.tasks.clone(), ..Default::default() };
    let mut check = |change: &dyn Fn(&mut StudyRecord)| {
        change(&mut partial);
        let html = render(&partial).unwrap();
        check_well_formed(&html);
        assert!(html.contains("has not finished"));
        let _ = terminal_table(&partial, 80, true);
    };
    check(&|record| record.base = whole.base.clone());
    check(&|record| record.criteria = whole.criteria.clone());
    check(&|record| record.ablation = whole.ablation[..3].to_vec());
    check(&|record| record.points = whole.points[..1].to_vec());
    check(&|record| record.points = whole.points[1..2].to_vec());
    check(&|record| record.points = whole.points[3..].to_vec());
    check(&|record| record.tasks.clear());
    check(&|record| record.budget = whole.budget.clone());
}

#[test]
fn undefined_numbers_are_dashes() {
    let mut record = common::study();
    for point in record.points.iter_mut().chain(&mut record.base) {
        for result in &mut point.tasks {
            result.score = Score::UNDEFINED;
            result.retention =
                Some(Retention { value: f64::NAN, ci95: [f64::NAN; 2], lower95: f64::NAN, upper95: f64::NAN, n: 0 });
        }
        for result in &mut point.groups {
            result.retention = Some(Retention {
                value: f64::INFINITY,
                ci95: [f64::NAN, f64::INFINITY],
                lower95: f64::NAN,
                upper95: f64::NAN,
                n: 0,
            });
        }
        point.perplexity = Some(f64::INFINITY);
        if let Some(heal) = &mut point.healed {
            heal.train_loss_first = f64::NAN;
            heal.seconds = f64::NAN;
        }
    }
    for row in &mut record.ablation {
        for result in &mut row.tasks {
            result.retention = None;
        }
    }
    for line in &mut record.budget {
        line.max_layers = None;
        line.threshold = f64::NAN;
    }
    for criterion in &mut record.criteria {
        criterion.values = vec![f64::NAN; 12];
    }
    record.timings.clear();
    let html = render(&record).unwrap();
    check_well_formed(&html);
    assert!(!html.contains("NaN") && !html.contains(">inf") && !html.contains(" inf"));
    assert!(!terminal_table(&record, 100, false).contains("NaN"));
}

#[test]
fn odd_numbers_do_not_break_a_chart() {
    let mut record = common::study();
    record.points[0].groups[0].retention =
        Some(Retention { value: 1e300, ci95: [-1e300, 1e308], lower95: -5.0, upper95: 1e300, n: 1 });
    record.points[2].removed = 100_000;
    record.criteria[0].values = vec![1e300, -1e300, 0.0];
    record.criteria[1].values = vec![0.0; 3];
    record.ablation[0].layer = usize::MAX;
    record.budget[0].max_layers = Some(usize::MAX);
    check_well_formed(&render(&record).unwrap());
}

#[test]
fn the_terminal_table_says_the_same_in_any_width() {
    let record = common::study();
    insta::assert_snapshot!("terminal_wide", terminal_table(&record, 140, false));
    insta::assert_snapshot!("terminal_narrow", terminal_table(&record, 60, false));
    let coloured = terminal_table(&record, 140, true);
    assert!(coloured.contains("\u{1b}[32m") && coloured.contains("\u{1b}[31m"));
    for line in terminal_table(&record, 100, false).lines().take_while(|line| !line.is_empty()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}
