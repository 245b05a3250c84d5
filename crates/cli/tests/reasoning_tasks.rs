//! The tasks that reasoning models are measured by, against lm-evaluation-harness on made-up rows of the same columns:
//! which rows, which prompts with which few-shot examples, and which grades for the same responses.

mod common;

use common::Workplace;
use lopper_testkit::tasks::lines;
use serde_json::{Value, json};

/// `fixtures/tasks/make_reasoning.py` with lm_eval 0.4.13.
fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/tasks/reasoning.json")).unwrap()
}

#[test]
fn aime_and_mmlu_pro_are_those_of_the_harness() {
    let (fixture, mut compared) = (fixture(), 0);
    for task in ["aime24", "aime25", "mmlu_pro_biology", "mmlu_pro_computer_science"] {
        let place = Workplace::new(true);
        // Byte by byte, prompts of the pocket tokenizer are long.
        place.set_config("max_position_embeddings", json!(32768));
        let own = &fixture[task];
        let data = format!("data/{}/default", own["data_set"].as_str().unwrap());
        std::fs::create_dir_all(place.path(&data)).unwrap();
        let splits = own["splits"].as_object().filter(|splits| !splits.is_empty());
        for (split, rows) in splits.unwrap_or(fixture["mmlu_pro"].as_object().unwrap()) {
            place.write(&format!("{data}/{split}.jsonl"), &lines(rows.as_array().unwrap()));
        }
        for run in own["runs"].as_array().unwrap() {
            let samples = run["samples"].as_array().unwrap();
            let given = |sample: &Value| json!({"task": task, "doc_id": sample["row"], "response": sample["response"]});
            place.write("given.jsonl", &lines(&samples.iter().map(given).collect::<Vec<_>>()));
            let shots = run["shots"].as_u64().map_or(String::new(), |shots| format!("--shots {shots}"));
            place.run(&format!(
                "eval model --tasks {task} --data-root data --responses-from given.jsonl --samples-out out.jsonl --force {shots}"
            ));
            let rows = place.read_lines("out.jsonl");
            assert_eq!(rows.len(), samples.len(), "{task}");
            for (row, sample) in rows.iter().zip(samples) {
                assert_eq!((&row["doc_id"], &row["prompt"]), (&sample["row"], &sample["prompt"]), "{task} {shots}");
                let (own, harness) = (&row["metrics"]["exact_match"], &sample["exact_match"]);
                assert_eq!(own.as_f64(), harness.as_f64(), "{task}: {}", sample["response"]);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * (12 + 12) + 3 * (8 + 8));
}

/// `fixtures/tasks/make_shots.py` with lm_eval 0.4.13: some rows are equal to each other.
#[test]
fn the_item_is_none_of_its_own_few_shot_examples() {
    let fixture: Value = serde_json::from_str(include_str!("../../../fixtures/tasks/few_shots.json")).unwrap();
    let place = Workplace::new(true);
    place.set_config("max_position_embeddings", json!(32768));
    let rows = fixture["rows"].as_array().unwrap();
    place.write("rows.jsonl", &lines(rows));
    let given = |task: &str| {
        let one = |at| json!({"task": task, "doc_id": at, "response": ""});
        lines(&(0..rows.len()).map(one).collect::<Vec<_>>())
    };
    let runs = fixture["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 6);
    for run in runs {
        let (choose, shots) = (run["choose"].as_str().unwrap(), run["shots"].as_u64().unwrap());
        place.write(
            "own.toml",
            &format!(
                "name = 'own'\nversion = 1\ngroup = 'generative'\ndescription = 'questions'\n\
                 [rows]\nsplits = ['test']\nfiles = {{ test = 'rows.jsonl' }}\nidentity = ['question']\n\
                 columns = {{ question = 'text', answer = 'text' }}\n\
                 [shots]\nchoose = '{choose}'\nwithout_item = true\n\
                 [prompt]\nquestion = \"Q: {{{{question}}}}\\nA:\"\nanswer = '{{{{answer}}}}'\n\
                 [generate]\nmax_new_tokens = 8\n\
                 [answer]\ncheck = 'rouge'\ntarget = '{{{{answer}}}}'\n"
            ),
        );
        place.write("given.jsonl", &given("own"));
        place.run(&format!(
            "eval model --tasks ./own.toml --shots {shots} --responses-from given.jsonl --samples-out out.jsonl --force"
        ));
        let prompts: Vec<Value> = place.read_lines("out.jsonl").iter().map(|row| row["prompt"].clone()).collect();
        assert_eq!(Value::Array(prompts), run["prompts"], "{choose} {shots}");
    }
}
