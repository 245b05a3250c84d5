//! The reference pages say what the program says. Each is made, or checked, from the program itself:
//!
//! - `docs/reference/cli.md` from `--help`;
//! - `docs/reference/tasks.md` from the tasks' registry and their generators;
//! - the first columns of tables, to which each row adds words written by hand: the keys of the study file and their
//!   defaults (`study-file.md`), the families (`families.md`), the layer criteria (`criteria.md`);
//! - the commands and exit statuses in `README.md`.
//!
//! With `LOPPER_BLESS=1` in the environment the pages are rewritten instead:
//! `LOPPER_BLESS=1 cargo test --workspace --test reference`. A new row is added by hand, then its cells are filled in.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use common::lopper;
use lopper_model::families::{FAMILIES, Family};
use lopper_pocket::{Prompt, Split, examples};
use lopper_prune::criteria::{CRITERIA, Criterion};
use lopper_tasks::all_tasks;
use serde_json::Value;

const BLESS: &str = "LOPPER_BLESS";

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name)
}

/// Compares the page with what it should be, or rewrites it.
fn settle(name: &str, made: &str) {
    let path = page(name);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let number = there.lines().zip(made.lines()).position(|(a, b)| a != b);
    let line = number.map_or(there.lines().count().min(made.lines().count()), |n| n);
    assert!(
        there == made,
        "docs/reference/{name}, line {}, is out of date:\n  there: {:?}\n  now:   {:?}\n{BLESS}=1 rewrites it",
        line + 1,
        there.lines().nth(line).unwrap_or_default(),
        made.lines().nth(line).unwrap_or_default(),
    );
}

/// What a command prints when asked for help.
fn help(command: &[&str]) -> String {
    let output = lopper().env("COLUMNS", "100").args(command).arg("--help").assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The names under `Commands:`, without `help`.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let entries = lines.take_while(|line| line.starts_with("  "));
    // Continuation lines of a description stand further in.
    let names = entries.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_command_line() {
    let top = help(&[]);
    let names = commands(&top);
    assert!(names.len() >= 10, "{names:?}");
    let mut made = String::from(
        "# Command line\n\nMade from `lopper --help` by a test (`crates/cli/tests/reference.rs`); not edited by hand. The global\n\
options belong to every command and are shown here only.\n",
    );
    let mut section = |command: &[&str], text: &str| {
        let title = std::iter::once("lopper").chain(command.iter().copied()).collect::<Vec<_>>().join(" ");
        write!(made, "\n## {title}\n\n```text\n{}\n```\n", text.trim_end()).unwrap();
    };
    section(&[], &top);
    for name in &names {
        let text = help(&[name]);
        for inner in commands(&text) {
            let command = [name.as_str(), inner.as_str()];
            let text = help(&command);
            section(&command, local(&text));
        }
        if commands(&text).is_empty() {
            section(&[name], local(&text));
        }
    }
    settle("cli.md", &made);
}

/// A command's help without the options that every command has.
fn local(help: &str) -> &str {
    help.split("\nGlobal options:").next().unwrap_or(help)
}

/// Compares, or rewrites, the parts of a page between marks; the rest is written by hand.
fn settle_parts(name: &str, parts: &[(&str, String)]) {
    let text = std::fs::read_to_string(page(name)).unwrap();
    let (mut made, mut rest) = (String::new(), text.as_str());
    for (part, body) in parts {
        let begin = format!("<!-- made: {part} -->\n");
        let (before, after) = rest.split_once(&begin).unwrap_or_else(|| panic!("{name} has no part `{part}`"));
        made += &format!("{before}{begin}{body}");
        rest = &after[after.find("<!-- end -->").expect("a part ends")..];
    }
    settle(name, &(made + rest));
}

#[test]
fn the_tasks() {
    let (scores, generated_answers) = agreement();
    let parts = [
        ("benchmarks", benchmarks()),
        ("agreement", scores),
        ("answers", generated_answers),
        ("generated tasks", generated_tasks()),
        ("items", items()),
    ];
    settle_parts("tasks.md", &parts);
}

fn generated_tasks() -> String {
    // Enough to tell small divisions exactly; larger ones are given as "more than".
    const COUNTED: usize = 5000;
    let mut made = String::from(
        "| task | group | what is tested | metric | chance | prompt | select items | report items | version |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let size = |task: &str, split| match examples(task, split, 0).take(COUNTED + 1).count() {
        n if n > COUNTED => format!("more than {COUNTED}"),
        n => n.to_string(),
    };
    for task in all_tasks().iter().filter(|task| task.rows.is_none()) {
        let info = lopper_pocket::task(&task.name).unwrap();
        let form = if info.chat { "conversation" } else { "plain text" };
        let chance =
            task.chance.map_or_else(|| "–".to_owned(), |c| format!("{:.3}", c).trim_end_matches('0').to_owned());
        let (select, report) = (size(&task.name, Split::Select), size(&task.name, Split::Report));
        writeln!(
            made,
            "| `{}` | {} | {} | `{}` | {chance} | {form} | {select} | {report} | {} |",
            task.name,
            task.group.name(),
            task.description,
            task.metric,
            task.version
        )
        .unwrap();
    }
    made
}

/// One item of each generated task.
fn items() -> String {
    let mut made = String::new();
    for task in all_tasks().iter().filter(|task| task.rows.is_none()) {
        let info = lopper_pocket::task(&task.name).unwrap();
        let example = examples(&task.name, Split::Report, 0).next().unwrap();
        let (Prompt::Chat(prompt) | Prompt::Plain(prompt)) = &example.prompt;
        let stops = info.stop.iter().map(|s| format!("`{}`", s.escape_default())).collect::<Vec<_>>().join(", ");
        let limits = match (info.max_new_tokens, stops.is_empty()) {
            (0, _) => "choices are scored, nothing is generated".to_owned(),
            (n, true) => format!("at most {n} new tokens"),
            (n, false) => format!("at most {n} new tokens; stops at {stops}"),
        };
        write!(
            made,
            "### {}\n\n{limits}\n\n```text\n{prompt}\n```\n\nanswer:\n\n```text\n{}\n```\n\n",
            task.name, example.answer
        )
        .unwrap();
    }
    made.trim_end().to_owned() + "\n"
}

/// The tasks over rows of data sets.
fn benchmarks() -> String {
    let mut made = String::from(
        "| task | group | rows | what is tested | metric | chance | shots | version |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let share = |chance: Option<f64>| chance.map_or_else(|| "–".to_owned(), |chance| chance.to_string());
    let mut subjects = 0;
    for task in all_tasks() {
        let Some(rows) = &task.rows else { continue };
        let subject = task.tags.iter().any(|tag| tag == "mmlu");
        subjects += usize::from(subject);
        if subject && subjects > 1 {
            continue;
        }
        let (name, rows) =
            if subject { ("mmlu_SUBJECT".to_owned(), "cais/mmlu/SUBJECT") } else { (task.name.clone(), rows.as_str()) };
        let group = task.group.name();
        let code = if task.runs_code { "; runs code" } else { "" };
        writeln!(
            made,
            "| `{name}` | {group} | {rows} | {}{code} | `{}` | {} | {} | {} |",
            task.description,
            task.metric,
            share(task.chance),
            task.shots,
            task.version
        )
        .unwrap();
    }
    assert_eq!(subjects, 57);
    made
}

/// Figures of Lopper and of the reference implementations, from what the scripts in `fixtures/tasks` wrote: scores of
/// the same rows, and grades of the same responses.
fn agreement() -> (String, String) {
    let read = |name: &str| -> Vec<Value> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut made = String::from(
        "| task | model | shots | items | acc | acc_norm | largest difference of a log-likelihood |\n\
         |---|---|---|---|---|---|---|\n",
    );
    // By task, model and shots: items, figures and standard errors, and the largest difference. Groups have no
    // log-likelihoods: those are their tasks'.
    type Row = (u64, Value, Value, f64);
    let mut rows: BTreeMap<(String, String, u64), Row> = BTreeMap::new();
    let (mut generated, mut groups, mut scores) = (Vec::new(), BTreeSet::new(), 0);
    for entry in read("agreement.json") {
        for (metric, figures) in entry["figures"].as_object().unwrap() {
            for [ours, theirs] in [figures, &entry["stderrs"][metric]].map(|both| [0, 1].map(|at| both[at].as_f64())) {
                assert!((ours.unwrap() - theirs.unwrap()).abs() < 1e-9, "{entry}");
            }
            scores += 1;
        }
        let key = |name: &str| {
            (name.to_owned(), entry["family"].as_str().unwrap().to_owned(), entry["shots"].as_u64().unwrap())
        };
        let row =
            |worst: f64| (entry["n"].as_u64().unwrap(), entry["figures"].clone(), entry["stderrs"].clone(), worst);
        if let Some(group) = entry["group"].as_str() {
            groups.insert(group.to_owned());
            if group == "mmlu" {
                let worst = rows.get(&key(group)).map_or(0.0, |row| row.3);
                rows.insert(key(group), row(worst));
            }
            continue;
        }
        let task = entry["task"].as_str().unwrap();
        assert_eq!(entry["n"], entry["same_prompts"], "{task}");
        if entry["same_responses"].is_u64() {
            generated.push(entry);
            continue;
        }
        let worst = entry["largest_difference"].as_f64().unwrap();
        assert!(worst < 1e-3, "{entry}");
        if task.starts_with("mmlu_") {
            let of_group = &mut rows.entry(key("mmlu")).or_default().3;
            *of_group = of_group.max(worst);
        } else {
            rows.insert(key(task), row(worst));
        }
    }
    let both = |figures: &Value, stderrs: &Value, metric: &str| match &figures[metric] {
        Value::Null => "–".to_owned(),
        figures => {
            let one = |at: usize| {
                format!("{:.4} ± {:.4}", figures[at].as_f64().unwrap(), stderrs[metric][at].as_f64().unwrap())
            };
            format!("{}, {}", one(0), one(1))
        }
    };
    for ((task, family, shots), (n, figures, stderrs, worst)) in &rows {
        assert!(*n > 0, "{task}");
        let both = |metric| both(figures, stderrs, metric);
        writeln!(
            made,
            "| `{task}` | {family} | {shots} | {n} | {} | {} | {worst:.0e} |",
            both("acc"),
            both("acc_norm")
        )
        .unwrap();
    }
    for entry in generated {
        let both = |metric| both(&entry["figures"], &entry["stderrs"], metric);
        writeln!(
            made,
            "\n`{}` ({}, {} shots, {} items): {} responses are the same;\nstrict {}; flexible {}.",
            entry["task"].as_str().unwrap(),
            entry["family"].as_str().unwrap(),
            entry["shots"],
            entry["n"],
            entry["same_responses"],
            both("exact_match"),
            both("flexible_match")
        )
        .unwrap();
    }
    assert_eq!(groups.len(), 5, "{groups:?}");
    let said = std::fs::read_to_string(page("tasks.md")).unwrap();
    assert!(said.contains(&format!("None of {scores} scores and {scores} standard errors")), "{scores} were compared");
    let mut answers = String::from(
        "| task | items | metric | Lopper | reference | items judged differently |\n|---|---|---|---|---|---|\n",
    );
    for entry in read("answers.json") {
        for (metric, both) in entry["figures"].as_object().unwrap() {
            let figure = |at: usize| {
                let stderr = entry["stderrs"][metric][at].as_f64().unwrap();
                format!("{:.4} ± {stderr:.4}", both[at].as_f64().unwrap())
            };
            writeln!(
                answers,
                "| `{}` | {} | `{metric}` | {} | {} | {} |",
                entry["task"].as_str().unwrap(),
                entry["n"],
                figure(0),
                figure(1),
                entry["different"]
            )
            .unwrap();
        }
    }
    (made, answers)
}

/// Every key of the study file and its default, as TOML spells them.
fn recipe() -> BTreeMap<String, String> {
    let output = lopper().args(["study", "--print-recipe"]).assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut keys, mut table) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, value)) = line.split_once(" = ") {
            keys.insert(format!("{table}{key}"), format!("`{value}`"));
        }
    }
    assert!(keys.len() > 30, "{text}");
    keys
}

/// Compares, or rewrites, tables whose second column is headed `column`. Their rows are ``| `key` | made | by hand |``:
/// `made`, one cell or more, comes from the program, and every key has its row.
fn settle_rows(name: &str, column: &str, mut made: BTreeMap<String, String>) {
    let text = std::fs::read_to_string(page(name)).unwrap();
    let mut inside = false;
    let rows = text.lines().map(|line| {
        let Some((key, rest)) = line.strip_prefix("| `").filter(|_| inside).and_then(|row| row.split_once("` |"))
        else {
            let heads = line.split('|').nth(2).is_some_and(|head| head.trim() == column);
            inside = line.starts_with('|') && (inside || heads);
            return line.to_owned();
        };
        let Some(made) = made.remove(key) else { panic!("docs/reference/{name} has a row too many: `{key}`") };
        let by_hand = rest.splitn(made.matches(" | ").count() + 2, " | ").last().unwrap();
        assert!(by_hand.len() > 10 && rest.contains(" | "), "docs/reference/{name} says nothing of `{key}`");
        format!("| `{key}` | {made} | {by_hand}")
    });
    let rows = rows.collect::<Vec<_>>().join("\n") + "\n";
    assert!(made.is_empty(), "docs/reference/{name} has no row for {:?}", made.keys());
    settle(name, &rows);
}

#[test]
fn the_study_file() {
    settle_rows("study-file.md", "default", recipe());
}

#[test]
fn the_families() {
    let row = |family: &Family| (family.model_type.to_owned(), format!("`{}`", family.architecture));
    settle_rows("families.md", "class in transformers", FAMILIES.iter().map(row).collect());
}

#[test]
fn the_criteria() {
    let row = |criterion: &Criterion| {
        let needs = match (criterion.needs_scores, criterion.needs_seed) {
            (true, _) => "text",
            (_, true) => "a seed",
            _ => "nothing",
        };
        (criterion.name.to_owned(), format!("{} | {needs}", criterion.description.replace('|', r"\|")))
    };
    settle_rows("criteria.md", "removes", CRITERIA.iter().map(row).collect());
}

#[test]
fn the_readme_has_every_command_and_exit_status() {
    let readme = std::fs::read_to_string(page("../../README.md")).unwrap();
    let top = help(&[]);
    for name in commands(&top) {
        assert!(readme.contains(&format!("| `lopper {name}")), "README.md says nothing of `lopper {name}`");
    }
    let statuses = top.lines().find(|line| line.starts_with("Exit status:")).unwrap();
    assert!(readme.split_whitespace().collect::<Vec<_>>().join(" ").contains(statuses), "{statuses}");
}
