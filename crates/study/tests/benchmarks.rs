//! A study over rows of data sets: which rows are asked, learned from and reported on, and what is computed again when
//! they change.

mod common;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use common::{model, recipe};
use lopper_model::chat::Message;
use lopper_record::study::StudyRecord;
use lopper_record::{NoProgress, Store};
use lopper_study::{Heal, HealingPrompt, Items, Recipe, StudyInputs, Tasks, run};
use lopper_tasks::{DataRoot, Resources};
use lopper_testkit::tasks::COLOURS;
use serde_json::{Value, json};

const SUM: &str = r#"
name = "own_sum"
version = 1
group = "generative"
description = "a sum"

[rows]
data_set = "own/sums"
splits = ["test"]
columns = { question = "text", answer = "text" }
identity = ["question"]

[shots]
splits = ["train"]

[prompt]
question = "{{question}}"
answer = "{{answer}}"

[generate]
max_new_tokens = 6
until = ["\n"]

[answer]
check = "text"
target = "{{answer}}"

[[answer.readings]]
metric = "exact_match"
pattern = '(\d+)'
"#;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("choice.toml", COLOURS);
        place.write("sum.toml", SUM);
        for (split, from) in [("train", 0), ("test", 100)] {
            let colours = (from..from + 60).map(|n| {
                json!({"question": format!("is thing {n} red"), "choices": ["yes", "no"], "label": n % 2}).to_string()
            });
            place.write(&format!("own/colours/default/{split}.jsonl"), &colours.collect::<Vec<_>>().join("\n"));
            let sums =
                (from..from + 60).map(|n| json!({"question": format!("{n} + 1 ="), "answer": format!("{}", n + 1)}));
            let sums: Vec<String> = sums.map(|row| row.to_string()).collect();
            place.write(&format!("own/sums/default/{split}.jsonl"), &sums.join("\n"));
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn inputs(&self) -> StudyInputs {
        let resources = Resources { data_root: DataRoot::new(self.dir.path()), code: None };
        StudyInputs { resources, prompts: None }
    }

    fn recipe(&self) -> Recipe {
        let task = |name: &str| vec![self.path(name).to_str().unwrap().to_owned()];
        Recipe {
            items: Items { report: 8, select: 4, calibration: 6 },
            tasks: Tasks { classification: task("choice.toml"), generative: task("sum.toml") },
            heal: Heal { depths: vec![1], prompts: 80, ..recipe().heal },
            ..recipe()
        }
    }

    fn study(&self, recipe: &Recipe, inputs: &StudyInputs) -> lopper_record::Result<StudyRecord> {
        run(&model(), recipe, inputs, &self.path("out"), "lopper study", &NoProgress)
    }
}

fn items(out: &Path, split: &str) -> HashSet<String> {
    let cells = Store::open(out).unwrap().cells().unwrap();
    let asked = cells.iter().filter(|cell| cell.kind == "eval" && cell.key["split"] == split);
    let prompts = asked.flat_map(|cell| cell.value["outcome"]["items"].as_array().unwrap());
    prompts.map(|item| item["prompt"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rows_are_asked_learned_from_and_reported_on_apart() {
    let place = Place::new();
    let record = place.study(&place.recipe(), &place.inputs()).unwrap();
    let of_healing = |warning: &String| warning.starts_with("healing: ");
    assert!(record.complete && record.warnings.iter().all(of_healing), "{:?}", record.warnings);
    let tasks: Vec<_> =
        record.tasks.iter().map(|t| (t.name.as_str(), t.group.as_str(), t.n_report, t.n_select)).collect();
    assert_eq!(tasks, [("colours", "classification", 8, 4), ("own_sum", "generative", 8, 4)]);
    assert_eq!(record.points.len(), 3 * 2 + 1);
    assert!(record.points.iter().all(|point| point.task("colours").is_some() && point.task("own_sum").is_some()));

    let (report, select) = (items(&place.path("out"), "report"), items(&place.path("out"), "select"));
    assert_eq!((report.len(), select.len()), (16, 8));
    assert!(report.is_disjoint(&select));
    let cells = Store::open(place.path("out")).unwrap().cells().unwrap();
    let answered = cells.iter().find(|cell| cell.kind == "responses").unwrap();
    let learned: Vec<&str> =
        answered.value["rows"].as_array().unwrap().iter().map(|r| last_question(&r["messages"])).collect();
    assert!(!learned.is_empty());
    for question in learned {
        assert!(!report.contains(question) && !select.contains(question), "{question}");
        let number: usize =
            question.split(|c: char| !c.is_ascii_digit()).find(|s| !s.is_empty()).unwrap().parse().unwrap();
        assert!(number < 60, "{question:?} is of the training split");
    }

    // Nothing is computed twice, and a changed row only where it is asked.
    let again = place.study(&place.recipe(), &place.inputs()).unwrap();
    assert!(again.timings.iter().all(|timing| timing.cells == timing.cached), "{:?}", again.timings);
    let text = std::fs::read_to_string(place.path("own/sums/default/test.jsonl")).unwrap();
    place.write("own/sums/default/test.jsonl", &text.replace("\"answer\":\"1", "\"answer\":\"7"));
    let changed = place.study(&place.recipe(), &place.inputs()).unwrap();
    let timing = |record: &StudyRecord, stage: &str| {
        let timing = record.timings.iter().find(|timing| timing.stage == stage).unwrap();
        (timing.cells, timing.cached)
    };
    assert_eq!(timing(&changed, "cuts").1, 0, "{:?}", changed.timings);
    assert_eq!(timing(&changed, "layer criteria"), (1, 1));
    let kept = |record: &StudyRecord| record.points[0].task("colours").cloned();
    assert_eq!(kept(&changed), kept(&record));
}

fn last_question(messages: &Value) -> &str {
    let mut asked = messages.as_array().unwrap().iter().filter(|message| message["role"] == "user");
    asked.next_back().unwrap()["content"].as_str().unwrap()
}

#[test]
fn prompts_of_ones_own_heal_and_may_be_no_items() {
    let place = Place::new();
    let mut recipe = place.recipe();
    recipe.heal.data = "prompts.jsonl".into();
    let prompt = |text: &&str| HealingPrompt { conversation: vec![Message::user(*text)].into(), answer: None };
    let prompts = |texts: &[&str]| Some(texts.iter().map(prompt).collect());
    // Few answers of a random model come to an end.
    let many: Vec<String> = (0..80).map(|n| format!("what is thing {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let own = StudyInputs { prompts: prompts(&many), ..place.inputs() };
    let record = place.study(&recipe, &own).unwrap();
    assert!(record.splits.iter().any(|sentence| sentence.contains("prompts.jsonl")), "{:?}", record.splits);
    let shared = StudyInputs { prompts: prompts(&["what is red", "130  + 1 ="]), ..place.inputs() };
    let mut wide = recipe.clone();
    (wide.items.report, wide.items.select) = (60, 60);
    let fault = place.study(&wide, &shared).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("are items") && fault.got.unwrap().contains(" items of own_sum"));
    // A generated item is known by its text as well.
    let item = lopper_pocket::examples("pocket_word", lopper_pocket::Split::Report, 0).next().unwrap();
    let shared = StudyInputs { prompts: prompts(&["what is red", item.prompt.text()]), ..place.inputs() };
    let generated = Recipe { heal: Heal { data: "prompts.jsonl".into(), ..common::recipe().heal }, ..common::recipe() };
    let fault = place.study(&generated, &shared).unwrap_err().into_fault().unwrap();
    assert_eq!(fault.got.unwrap(), "1 of 5 items of pocket_word");
}

#[test]
fn tasks_without_a_training_split_need_prompts() {
    let place = Place::new();
    place.write("sum.toml", &SUM.replace("[shots]\nsplits = [\"train\"]\n", ""));
    let record = place.study(&place.recipe(), &place.inputs()).unwrap();
    assert!(record.warnings.iter().any(|warning| warning.contains("sum.toml is neither")));
    place.write("choice.toml", &COLOURS.replace("splits = [\"train\"]", "splits = [\"test\"]"));
    let mut alone = place.recipe();
    alone.items.report += 1;
    let fault = place.study(&alone, &place.inputs()).unwrap_err().into_fault().unwrap();
    assert!(fault.hint.unwrap().contains("heal.data"));
}

#[test]
fn rows_that_are_not_there_and_programs_that_may_not_run_are_refused() {
    let place = Place::new();
    let mut missing = place.recipe();
    missing.tasks.generative = vec!["gsm8k".into()];
    let fault = place.study(&missing, &place.inputs()).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("openai/gsm8k"), "{fault}");
    let mut code = place.recipe();
    code.tasks.generative = vec!["mbpp".into()];
    let fault = place.study(&code, &place.inputs()).unwrap_err().into_fault().unwrap();
    assert!(fault.hint.unwrap().contains("allow"), "programs are not run unasked");
    assert!(!place.path("out").exists(), "nothing is written");
}
