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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use common::lopper;
use lopper_pocket::{Prompt, Split, examples};
use lopper_tasks::{Group, all_tasks};
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

#[test]
fn the_tasks() {
    // Enough to tell small divisions exactly; larger ones are given as "more than".
    const COUNTED: usize = 5000;
    let mut made = String::from(
        "# Tasks\n\nMade from the tasks' registry by a test (`crates/cli/tests/reference.rs`); not edited by hand.\n",
    );
    made.push_str(&benchmarks());
    made.push_str(&agreement());
    made.push_str(
        "\n## Generated tasks\n\n\
The pocket model's tasks are generated: `lopper pocket data TASK` writes their items. An item belongs to one of three splits by the hash\n\
of its content: `train` (17 parts of 20) is learned from, `select` (1) chooses layers, `report` (2) is scored. So no item is\n\
in two of them, whatever the seeds. The sizes are the different items found with seed 0. `pocket`,\n\
`pocket_classification` and `pocket_generative` stand for all tasks and for those of one group.\n\n\
| task | group | what is tested | metric | chance | prompt | select items | report items | version |\n\
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
    made.push_str(
        "\nChance is what guessing scores; `–` where a guess has no meaningful rate. A conversation is one user message in\n\
the model's chat template, without a system prompt; plain text stands after the tokenizer's special tokens. Choices are scored by the\n\
sum of their tokens' log-probabilities; other answers are generated, up to the end token, one of the stop strings or the\n\
most tokens shown below.\n\n## One item of each generated task\n",
    );
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
            "\n### {}\n\n{limits}\n\n```text\n{prompt}\n```\n\nanswer:\n\n```text\n{}\n```\n",
            task.name, example.answer
        )
        .unwrap();
    }
    settle("tasks.md", &made);
}

/// The tasks over rows of data sets.
fn benchmarks() -> String {
    let mut made = String::from(
        "\n## Benchmarks\n\n\
Tasks over rows of data sets. Each is a TOML file (`lopper tasks show NAME` prints it, [task-file.md](task-file.md) explains\n\
it); a file of your own works wherever a name does, by its path (`--tasks ./own.toml`). Rows are looked for in\n\
the directory that `--data-root DIR` names, or else `LOPPER_DATA_ROOT`, as `DATA SET/CONFIG/SPLIT.parquet` (or `.jsonl`, `.csv`, or\n\
the pieces of a split as the hub has them); what is not there is fetched from the hub, the splits that are asked and nothing else\n\
([hub.md](../hub.md)). In the JSON document `source` tells file and split, and of rows of the hub their commit (`revision`).\n\n\
| task | group | rows | what is tested | metric | chance | shots | version |\n|---|---|---|---|---|---|---|---|\n",
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
        let group = if task.group == Group::Classification { "classification" } else { "generative" };
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
    made.push_str(
        "\nNames that stand for several: `mmlu` (57 subjects, scored together, every item weighing the same), `mmlu_stem`,\n\
`mmlu_humanities`, `mmlu_social_sciences`, `mmlu_other`, `ai2_arc`, `paper_classification` and `paper_generative` (the tasks of\n\
arXiv 2602.01997).\n\n\
- **Worked examples** (`--shots K`) are those that lm-evaluation-harness 0.4.13 draws at its default seed, in its order.\n\
- **Conversation** (`--apply-chat-template`): examples are turns of their own, or one message with\n  `--examples-in-one-message`; tasks with `conversation` in their file are always asked so.\n\
- **Too long**: worked examples lose their beginning, as in the harness, and the rows are named. A question that does not fit even\n  without them is a bad row; with `--truncate-questions` it loses its beginning, too.\n\
- **Bad rows** (a missing column, a wrong type, a label out of range, an empty target, a line that is no JSON) are named with file and\n  row and left out; the others are asked. `skipped` in the JSON document counts them.\n\
- **Divisions**: of a benchmark's rows one in four is for choosing layers (`--split select`), the others are for reporting\n  (`--split report`), by the hash of the question; so a question is in the same one whichever task asks it. `lopper eval`\n  takes all rows unless told otherwise. `--disjoint-from F.jsonl` refuses items that F holds.\n\
- **Several responses** (`--responses K` with a temperature) give pass@k by the unbiased estimator of arXiv 2107.03374. The\n  sampling of arXiv 2602.01997 is `--temperature 0.9 --top-k 50`.\n\
- **Programs** run only after `--allow-code-execution`; [sandbox.md](sandbox.md) says what protects the machine.\n\
- **Responses from elsewhere** are graded with `--responses-from F.jsonl`.\n",
    );
    made
}

/// Figures of Lopper and of the reference implementations, from what the scripts in `fixtures/tasks` wrote.
fn agreement() -> String {
    let read = |name: &str| -> Vec<Value> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut made = String::from(
        "\n## Beside the reference implementations\n\n\
`fixtures/tasks/check.py` asks lm-evaluation-harness 0.4.13 (its own task files, transformers 5.24 in f32) and Lopper the same\n\
rows of the same models: tiny ones with random weights, so the scores themselves mean nothing. First figure: Lopper; second: the\n\
harness; after ± the standard error (`acc_stderr`, `acc_norm_stderr`). All prompts, worked examples among them, are the same to the\n\
letter.\n\n\
| task | model | shots | items | acc | acc_norm | largest difference of a log-likelihood |\n|---|---|---|---|---|---|---|\n",
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
            "\n`{}` ({}, {} shots, {} items): {} responses are the same; strict {}; flexible {}.",
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
    write!(
        made,
        "\nNone of {scores} scores and {scores} standard errors differs by 1e-9 or more: those of the tasks, MMLU's subjects each by itself,\n\
and those of the groups (MMLU, with three to nine rows of a subject, and its four categories). The standard error of a task is that of a\n\
mean, from the sample variance (n − 1). That of MMLU pools the variances within the subjects (`pooled_sample_stderr`); that of a mean\n\
of tasks (`classification`, `generative`) is the root of the sum of squares, divided by their number (`unweighted_mean_stderr`).\n\
\n\
What differs on purpose: the harness says `N/A` of a task with one item and of every group that has such a task; of the task Lopper\n\
says `null`, and the group's variance is that of the others, to which one item has nothing to add. Intervals (`ci95`) the harness\n\
does not have.\n"
    )
    .unwrap();
    made.push_str(
        "\nHow generated answers are judged, `fixtures/tasks/check_answers.py`: responses made from the references (right, wrong, in\n\
another form, broken) are graded by Lopper (`--responses-from`) and by the harness's own filters and `exact_match`\n\
(`gsm8k`), math-verify 0.9.0 (`gsm8k_chat`, `math_500`), rouge-score 0.1.2 (`xsum`), and a bare Python that runs program and tests (the\n\
others); after ± the standard error, on the right the harness's `mean_stderr` of the reference's grades.\n\n| task | items | metric | Lopper | reference | items judged otherwise |\n|---|---|---|---|---|---|\n",
    );
    for entry in read("answers.json") {
        for (metric, both) in entry["figures"].as_object().unwrap() {
            let figure = |at: usize| {
                let stderr = entry["stderrs"][metric][at].as_f64().unwrap();
                format!("{:.4} ± {stderr:.4}", both[at].as_f64().unwrap())
            };
            writeln!(
                made,
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
    made.push_str(
        "\n`humaneval` and `mbpp_plus` are compared on rows of `humaneval_plus` and `mbpp`, put into their data sets' columns: their own were\n\
not at hand.\n",
    );
    made
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
