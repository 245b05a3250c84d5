//! A study over rows of data sets: which rows are asked, learned from and reported on, and what is computed again when
//! they change.

mod common;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use common::{model, recipe};
use lopper_heal::OverlapCheck;
use lopper_model::chat::Message;
use lopper_record::study::StudyRecord;
use lopper_record::{NoProgress, Store};
use lopper_study::{
    AnswerSampling, Cuts, Heal, HealingPrompt, Items, Objective, Recipe, Shots, StudyInputs, Tasks, run,
};
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

/// A task of several members, as MMLU is: each is a configuration of the data set.
const EXAM: &str = r#"
name = "exam"
version = 1
group = "classification"
description = "questions of three subjects"
chance = 0.5

[rows]
data_set = "own/exam"
splits = ["test"]
columns = { question = "text", choices = "texts", label = "integer" }
identity = ["question"]

[shots]
splits = ["train"]

[prompt]
question = "{{question}}"

[choices]
list = "choices"
label = "label"

[members]
arts = ["music", "painting"]
science = ["physics"]
"#;

fn with_exam() -> (Place, Recipe) {
    let place = Place::new();
    place.write("exam.toml", EXAM);
    for subject in ["music", "painting", "physics"] {
        for (split, from) in [("train", 0), ("test", 100)] {
            let rows = (from..from + 40).map(|n| {
                json!({"question": format!("{subject} {n} is"), "choices": ["yes", "no"], "label": n % 2}).to_string()
            });
            place.write(&format!("own/exam/{subject}/{split}.jsonl"), &rows.collect::<Vec<_>>().join("\n"));
        }
    }
    let mut recipe = place.recipe();
    recipe.tasks.classification.push(place.path("exam.toml").to_str().unwrap().to_owned());
    recipe.heal.depths.clear();
    (place, recipe)
}

#[test]
fn members_of_a_task_are_one_task_of_the_study() {
    let (place, mut recipe) = with_exam();
    recipe.cuts.strategies = vec!["bi".into(), "greedy".into()];
    recipe.cuts.objective = Objective::Several(vec!["exam".into()]);
    let record = place.study(&recipe, &place.inputs()).unwrap();
    // Eight items over three subjects are three of each, four are two of each.
    let tasks: Vec<_> = record.tasks.iter().map(|task| (task.name.as_str(), task.n_report, task.n_select)).collect();
    assert_eq!(tasks, [("colours", 8, 4), ("exam", 9, 6), ("own_sum", 8, 4)]);
    assert!(record.splits.iter().any(|sentence| sentence.starts_with("exam is one task")), "{:?}", record.splits);
    let cells = Store::open(place.path("out")).unwrap().cells().unwrap();
    let scores = |kept: &Value, split: &str| -> Vec<f64> {
        let of = |cell: &&lopper_record::Cell| {
            let task = cell.key["task"].as_str().unwrap_or_default();
            cell.kind == "eval" && task.starts_with("exam_") && cell.key["split"] == split && cell.key["kept"] == *kept
        };
        let items = cells.iter().filter(of).flat_map(|cell| cell.value["outcome"]["items"].as_array().unwrap());
        items.map(|item| item["score"].as_f64().unwrap()).collect()
    };
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    let uncut = scores(&json!([0, 1, 2, 3]), "report");
    assert_eq!(uncut.len(), 9);
    let base = record.base.as_ref().unwrap().task("exam").unwrap().score;
    assert!((base.value - mean(&uncut)).abs() < 1e-12 && base.n == 9);
    for point in &record.points {
        let kept: Vec<usize> = point.dropped.complement(4).into();
        let result = point.task("exam").unwrap();
        assert!((result.score.value - mean(&scores(&json!(kept), "report"))).abs() < 1e-12);
        assert_eq!(result.retention.map(|retention| retention.n), Some(9));
    }
    assert!(record.base.as_ref().unwrap().tasks.iter().all(|result| !result.task.starts_with("exam_")));
    // The search reads the same items as the layer map, of the one task that chooses.
    let select = scores(&json!([0, 1, 2, 3]), "select");
    let found = &record.searches[0].cuts[0];
    let kept: Vec<usize> = found.dropped.complement(4).into();
    assert!((found.score - mean(&scores(&json!(kept), "select")) / mean(&select)).abs() < 1e-12);
    let again = place.study(&recipe, &place.inputs()).unwrap();
    assert!(again.timings.iter().all(|timing| timing.cells == timing.cached), "{:?}", again.timings);
}

#[test]
fn examples_and_drawn_answers_are_settings_of_tasks_and_of_cells() {
    let (place, mut recipe) = with_exam();
    let outcomes = |record: &StudyRecord, task: &str| -> Vec<Value> {
        assert!(record.complete);
        let cells = Store::open(place.path("out")).unwrap().cells().unwrap();
        let of_task = cells.into_iter().filter(|cell| cell.kind == "eval" && cell.key["task"] == task);
        of_task.map(|cell| json!({"policy": cell.key["policy"], "items": cell.value["outcome"]["items"]})).collect()
    };
    recipe.rows.shots = Shots::Each([("exam".to_owned(), 2), ("own_sum".to_owned(), 1)].into());
    recipe.cuts = Cuts { strategies: vec!["bi".into()], depths: vec![1], main: "bi".into(), ..Cuts::default() };
    let record = place.study(&recipe, &place.inputs()).unwrap();
    for (task, shots) in [("exam_music", 2), ("own_sum", 1), ("colours", 0)] {
        let found = outcomes(&record, task);
        assert!(!found.is_empty() && found.iter().all(|outcome| outcome["policy"]["shots"] == shots), "{task}");
    }
    let examples = |outcome: &Value| outcome["items"][0]["prompt"].as_str().unwrap().matches("music").count();
    assert!(outcomes(&record, "exam_music").iter().all(|outcome| examples(outcome) == 3));

    let choices = outcomes(&record, "colours").len();
    // Three answers to each item, whose seed is part of the cells.
    recipe.sampling = AnswerSampling { temperature: 0.9, top_k: 50, samples: 3, ..AnswerSampling::default() };
    let drawn = place.study(&recipe, &place.inputs()).unwrap();
    let found = outcomes(&drawn, "own_sum");
    let sampled: Vec<&Value> = found.iter().filter(|outcome| outcome["policy"]["responses"] == 3).collect();
    assert_eq!(sampled.len(), found.len() / 2);
    for outcome in &sampled {
        assert_eq!(outcome["policy"]["sampling"]["sample"]["top_k"], 50);
        assert!(outcome["items"].as_array().unwrap().iter().all(|item| item["samples"].as_array().unwrap().len() == 3));
    }
    assert!(drawn.seeds.iter().any(|seed| seed.name == "sampled answers" && seed.value == 0), "{:?}", drawn.seeds);
    let cuts = |record: &StudyRecord| record.timings.iter().find(|timing| timing.stage == "cuts").unwrap().cached;
    assert_eq!(cuts(&drawn), 0);
    // Log-likelihoods are not drawn: their cells are those of before.
    assert_eq!(outcomes(&drawn, "colours").len(), choices);
    recipe.sampling.seed = Some(7);
    assert_eq!(cuts(&place.study(&recipe, &place.inputs()).unwrap()), 0);
    recipe.sampling.seed = None;
    assert_eq!(cuts(&place.study(&recipe, &place.inputs()).unwrap()), 1);
    // The pocket tasks take one answer.
    let mut pocket = common::recipe();
    pocket.sampling = recipe.sampling;
    let fault = place.study(&pocket, &place.inputs()).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("one answer") && fault.hint.is_some(), "{fault}");
    pocket.sampling.samples = 1;
    pocket.heal.depths.clear();
    assert!(place.study(&pocket, &place.inputs()).unwrap().policy["sampling"]["sample"]["temperature"] == 0.9);
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
    // By default they would be left out.
    wide.heal.filters.overlap = OverlapCheck::None;
    let fault = place.study(&wide, &shared).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("are items") && fault.got.unwrap().contains(" items of own_sum"));
    // A generated item is known by its text as well.
    let item = lopper_pocket::examples("pocket_word", lopper_pocket::Split::Report, 0).next().unwrap();
    let shared = StudyInputs { prompts: prompts(&["what is red", item.prompt.text()]), ..place.inputs() };
    let heal = Heal { data: "prompts.jsonl".into(), filters: wide.heal.filters, ..common::recipe().heal };
    let generated = Recipe { heal, ..common::recipe() };
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
