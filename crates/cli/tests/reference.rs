//! The reference pages say what the program says. Each is made, or checked, from the program itself:
//!
//! - `docs/reference/cli.md` from `--help`;
//! - `docs/reference/tasks.md` from the tasks' registry and their generators;
//! - `docs/reference/study-file.md`: its tables name every key of `lopper study --print-recipe` with
//!   its default; the meanings are written by hand.
//!
//! With `LOPPER_BLESS=1` in the environment the pages are rewritten instead:
//! `LOPPER_BLESS=1 cargo test -p lopper --test reference`.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use common::lopper;
use lopper_eval::known_tasks;
use lopper_pocket::{Prompt, Split, examples};

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

#[test]
fn the_tasks() {
    // Enough to tell small divisions exactly; larger ones are given as "more than".
    const COUNTED: usize = 5000;
    let mut made = String::from(
        "# Tasks\n\nMade from the tasks' registry by a test (`crates/cli/tests/reference.rs`); not edited by hand.\n\n\
Every task is generated: `lopper pocket data TASK` writes its items. An item belongs to one of three splits by the hash\n\
of its content: `train` (17 parts of 20) is learned from, `select` (1) chooses layers, `report` (2) is scored. So no item is\n\
in two of them, whatever the seeds. The sizes are the different items found with seed 0. `pocket`,\n\
`pocket_classification` and `pocket_generative` stand for all tasks and for those of one group.\n\n\
| task | group | what is asked | metric | chance | prompt | select items | report items | version |\n\
|---|---|---|---|---|---|---|---|---|\n",
    );
    let size = |task: &str, split| match examples(task, split, 0).take(COUNTED + 1).count() {
        n if n > COUNTED => format!("more than {COUNTED}"),
        n => n.to_string(),
    };
    for task in known_tasks() {
        let info = lopper_pocket::task(task.name).unwrap();
        let form = if info.chat { "conversation" } else { "plain text" };
        let chance =
            task.chance.map_or_else(|| "–".to_owned(), |c| format!("{:.3}", c).trim_end_matches('0').to_owned());
        let (select, report) = (size(task.name, Split::Select), size(task.name, Split::Report));
        writeln!(
            made,
            "| `{}` | {} | {} | `{}` | {chance} | {form} | {select} | {report} | {} |",
            task.name, task.group, task.description, task.metric, task.version
        )
        .unwrap();
    }
    made.push_str(
        "\nChance is what guessing scores; `–` where a guess has no meaningful rate. A conversation is one user message in\n\
the model's chat template, without a system prompt; plain text stands after the tokenizer's special tokens. Choices are scored by the\n\
sum of their tokens' log-probabilities; other answers are generated, up to the end token, one of the stop strings or the\n\
most tokens shown below.\n\n## One item of each\n",
    );
    for task in known_tasks() {
        let info = lopper_pocket::task(task.name).unwrap();
        let example = examples(task.name, Split::Report, 0).next().unwrap();
        let (Prompt::Chat(prompt) | Prompt::Plain(prompt)) = &example.prompt;
        let stops = info.stop.iter().map(|s| format!("`{}`", s.escape_default())).collect::<Vec<_>>().join(", ");
        let limits = match (info.max_new_tokens, stops.is_empty()) {
            (0, _) => "choices are scored, nothing is generated".to_owned(),
            (n, true) => format!("at most {n} new tokens"),
            (n, false) => format!("at most {n} new tokens; stops at {stops}"),
        };
        write!(
            made,
            "\n### {}\n\n{limits}\n\n```text\n{prompt}\n```\n\nanswer:\n\n```text\n{}\n```\n",
            task.name, example.answer
        )
        .unwrap();
    }
    settle("tasks.md", &made);
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
            keys.insert(format!("{table}{key}"), value.to_owned());
        }
    }
    assert!(keys.len() > 30, "{text}");
    keys
}

#[test]
fn the_study_file() {
    let mut missing = recipe();
    let text = std::fs::read_to_string(page("study-file.md")).unwrap();
    let rows = text.lines().map(|line| {
        // A row of a table: | `key` | `default` | meaning |
        let Some(rest) = line.strip_prefix("| `") else { return line.to_owned() };
        let cells: Vec<&str> = rest.splitn(3, '|').collect();
        let [key, _, meaning] = cells[..] else { panic!("a row is key, default, meaning: {line}") };
        let key = key.trim().trim_end_matches('`');
        let Some(default) = missing.remove(key) else { panic!("the study file has no key `{key}`") };
        assert!(meaning.trim_end_matches('|').trim().len() > 10, "`{key}` has no meaning");
        format!("| `{key}` | `{default}` |{meaning}")
    });
    let made = rows.collect::<Vec<_>>().join("\n") + "\n";
    assert!(missing.is_empty(), "docs/reference/study-file.md says nothing of {:?}", missing.keys());
    settle("study-file.md", &made);
}
