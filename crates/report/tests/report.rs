//! The report is well-formed, complete, safe and readable at any stage of a study.

mod common;

use std::collections::BTreeMap;

use lopper_record::study::{HealInfo, HealingRole, StudyRecord, TaskMeta, Verdict};
use lopper_record::{Retention, Score};
use lopper_report::{Compared, FILES, compare, render, terminal_table, write};
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
    for part in [
        "budget",
        "next",
        "curves",
        "strategies",
        "tradeoff",
        "diagnosis",
        "ledger",
        "samples",
        "scores",
        "layers",
        "provenance",
    ] {
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
            let free =
                fields.iter_mut().filter(|(key, _)| !["cause", "verdict", "scope", "role"].contains(&key.as_str()));
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
    let studies = [
        Compared { name: evil.into(), record: record.clone() },
        Compared { name: "b".into(), record: common::study() },
    ];
    let page = compare(&studies).unwrap();
    check_well_formed(&page);
    assert!(!page.contains("<script") && page.contains("&lt;/pre&gt;&lt;script&gt;"));
    let dir = tempfile::tempdir().unwrap();
    write(&record, dir.path()).unwrap();
    for path in figure_files(dir.path()) {
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(!svg.contains("<script"), "{}", path.display());
    }
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

fn figure_files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory.join(FILES).join("figures")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_answer_comes_first_with_the_commands_that_make_it() {
    let mut record = common::study();
    let html = render(&record).unwrap();
    let lead = html.find("<h2 class=\"lead\">Cut at most").expect("the answer");
    assert!(lead < html.find("<svg").unwrap(), "before any figure");
    let command = &html[html.find("<pre class=\"command\">").unwrap()..];
    let command = &command[..command.find("</pre>").unwrap()];
    assert!(command.contains("lopper prune pocket --drop ") && command.contains("--compare"), "{command}");

    for line in &mut record.budget {
        line.max_layers = None;
        for depth in &mut line.depths {
            (depth.holds, depth.verdict) = (false, Verdict::Undecided);
            depth.needed =
                Some(lopper_record::study::ItemsNeeded { items: 334, measured: 100, task: Some("code".into()) });
        }
        line.statement = line.sentence(Some(12));
    }
    let html = render(&record).unwrap();
    assert!(html.contains("<h2 class=\"lead\">The items do not decide"));
    assert!(html.contains("report = 340") && html.contains("lopper study --print-recipe &gt; study.toml"));
    assert!(html.contains("about 340 of code decide whether 1 layer can go, as cut"));
    assert!(html.contains("? 1–5 undecided") && !html.contains("--compare"));
}

#[test]
fn what_is_at_chance_is_marked_and_shown_above_chance() {
    let mut record = common::study();
    let result = &mut record.points[0].tasks[0];
    result.score = Score { value: 0.26, stderr: 0.04, ci95: [0.18, 0.35], n: 100 };
    result.corrected = Some(Retention { value: 0.01, ci95: [-0.1, 0.13], lower95: -0.08, upper95: 0.11, n: 100 });
    let html = render(&record).unwrap();
    // In both tables of tasks, and in words for the chart.
    assert!(html.matches("<span class=\"chance\">at chance</span></td>").count() >= 2);
    assert!(html.contains("As cut at chance with 1 removed"));
    let ratio = result_ratio(&record);
    assert!(html.contains(&format!("<span class=\"ci\">ratio {ratio}</span>")));
}

fn result_ratio(record: &StudyRecord) -> String {
    format!("{:.0}", record.points[0].tasks[0].retention.unwrap().value * 100.0)
}

#[test]
fn long_tables_are_folded_and_every_table_scrolls_by_keyboard() {
    let html = render(&common::study()).unwrap();
    // 18 points are more than 12 rows; 6 tasks are not.
    assert!(html.contains("<summary>Kept by group, % [95 % interval] <span class=\"ci\">18 rows</span></summary>"));
    assert!(html.contains("<h3>Tasks</h3>"));
    let scrolling = html.matches("<div class=\"scroll\"").count();
    assert_eq!(html.matches("<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=").count(), scrolling);
    assert!(scrolling > 5);
}

#[test]
fn healings_for_comparison_are_in_the_tables_only() {
    let mut record = common::study();
    let before = render(&record).unwrap();
    let mut extra = record.points[1].clone();
    extra.healed = Some(HealInfo { role: HealingRole::Control, method: "lora".into(), ..HealInfo::default() });
    for result in &mut extra.groups {
        (result.retention, result.corrected) = (Some(Retention::uncut(9)), Some(Retention::uncut(9)));
    }
    record.points.push(extra);
    let after = render(&record).unwrap();
    assert!(after.contains("lora (control, reference answers)"));
    let chart = |html: &str| {
        let at = html.find("data-figure=\"kept-by-group\"").unwrap();
        html[at..at + html[at..].find("</svg>").unwrap()].to_owned()
    };
    assert_eq!(chart(&before), chart(&after));
}

#[test]
fn figures_and_data_are_files_that_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let record = common::study();
    let page = write(&record, dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(page).unwrap(), render(&record).unwrap());
    let figures = figure_files(dir.path());
    assert!(figures.len() > 15, "{figures:?}");
    for path in &figures {
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"), "{}", path.display());
        assert!(!svg.contains("var(") && !svg.contains("inherit"), "{}", path.display());
    }
    let data = dir.path().join(FILES).join("data");
    let scores = std::fs::read_to_string(data.join("scores.csv")).unwrap();
    // A row of names, and one for each model and task.
    assert_eq!(scores.lines().count(), 1 + (1 + record.points.len()) * record.tasks.len());
    let rows: Vec<BTreeMap<String, Value>> =
        serde_json::from_slice(&std::fs::read(data.join("scores.json")).unwrap()).unwrap();
    assert_eq!(rows.len() + 1, scores.lines().count());
    let row = rows.iter().find(|row| row["removed"] == 2 && row["state"] == "healed" && row["task"] == "code").unwrap();
    let kept = record.points.iter().find(|point| point.removed == 2 && point.healed.is_some()).unwrap();
    assert_eq!(row["kept"].as_f64(), Some(kept.task("code").unwrap().corrected.unwrap().value));

    // The same record again gives the same files, and a smaller one removes those it no longer has.
    write(&StudyRecord { tasks: vec![], points: vec![], ablation: vec![], ..record }, dir.path()).unwrap();
    assert!(figure_files(dir.path()).len() < figures.len() && !data.join("layers.csv").exists());
}

#[test]
fn every_column_of_the_data_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    write(&common::study(), dir.path()).unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.md")).unwrap();
    let mut tables = 0;
    for entry in std::fs::read_dir(dir.path().join(FILES).join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "csv") {
            tables += 1;
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let section =
                page.split(&format!("### {name}\n")).nth(1).unwrap_or_else(|| panic!("{name} is not documented"));
            let section = section.split("\n#").next().unwrap();
            for column in std::fs::read_to_string(&path).unwrap().lines().next().unwrap().split(',') {
                assert!(section.contains(&format!("`{column}`")), "{name}: {column}");
            }
        }
    }
    assert_eq!(tables, 8);
}

#[test]
fn studies_are_compared_with_what_differs() {
    let mut other = common::study();
    other.tasks.push(TaskMeta { name: "gsm8k".into(), group: "generative".into(), ..TaskMeta::default() });
    other.model.num_layers = 24;
    let studies =
        [Compared { name: "one".into(), record: common::study() }, Compared { name: "two".into(), record: other }];
    let html = compare(&studies).unwrap();
    check_well_formed(&html);
    assert!(html.contains("gsm8k (not in one)") && html.contains("(12 in one; 24 in two)"));
    assert!(html.contains("generative, mean of the tasks, kept against layers removed. one, as cut: 0 removed 100 %"));
    assert!(html.contains("each generative task, healed"));
    let same = [studies[0].clone(), Compared { name: "again".into(), record: common::study() }];
    assert!(compare(&same).unwrap().contains("These studies can be compared"));
    assert!(compare(&[]).is_ok());
}
