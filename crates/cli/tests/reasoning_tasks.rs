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

/// `fixtures/tasks/make_gpqa.py` with lm_eval 0.4.13.
#[test]
fn gpqa_has_the_choices_of_the_harness_in_its_order() {
    let fixture: Value = serde_json::from_str(include_str!("../../../fixtures/tasks/gpqa.json")).unwrap();
    let place = Workplace::new(true);
    place.set_config("max_position_embeddings", json!(32768));
    let data = "data/Idavidrein/gpqa/gpqa_diamond";
    std::fs::create_dir_all(place.path(data)).unwrap();
    place.write(&format!("{data}/train.jsonl"), &lines(fixture["rows"].as_array().unwrap()));

    let samples = fixture["tasks"]["gpqa_diamond_zeroshot"].as_array().unwrap();
    place.run("eval model --tasks gpqa_diamond_zeroshot --data-root data --samples-out out.jsonl --force");
    let rows = place.read_lines("out.jsonl");
    assert_eq!((rows.len(), samples.len()), (14, 14));
    for (row, sample) in rows.iter().zip(samples) {
        assert_eq!((&row["prompt"], &row["target"]), (&sample["prompt"], &sample["target"]));
        assert_eq!(row["choices"], json!(["(A)", "(B)", "(C)", "(D)"]));
    }

    let task = "gpqa_diamond_cot_zeroshot";
    let samples = fixture["tasks"][task].as_array().unwrap();
    let given = |(at, sample): (usize, &Value)| json!({"task": task, "doc_id": at, "response": sample["response"]});
    place.write("given.jsonl", &lines(&samples.iter().enumerate().map(given).collect::<Vec<_>>()));
    place.run(&format!(
        "eval model --tasks {task} --data-root data --responses-from given.jsonl --samples-out out.jsonl --force"
    ));
    let rows = place.read_lines("out.jsonl");
    assert_eq!((rows.len(), samples.len()), (14, 14));
    for (row, sample) in rows.iter().zip(samples) {
        assert_eq!((&row["prompt"], &row["target"]), (&sample["prompt"], &sample["target"]));
        for metric in ["exact_match", "flexible_match"] {
            let (own, harness) = (row["metrics"][metric].as_f64(), sample[metric].as_f64());
            assert_eq!(own, harness, "{metric}: {}", sample["response"]);
        }
    }

    // The rows' own order decides, not how many of them are asked or whether they are good.
    let mut rows: Vec<Value> = fixture["rows"].as_array().unwrap().clone();
    rows[2]["Correct Answer"] = Value::Null;
    place.write(&format!("{data}/train.jsonl"), &lines(&rows));
    place.run("eval model --tasks gpqa_diamond_zeroshot --data-root data --limit 6 --samples-out out.jsonl --force");
    let samples = &fixture["tasks"]["gpqa_diamond_zeroshot"];
    let rows = place.read_lines("out.jsonl");
    assert_eq!(rows.iter().map(|row| row["doc_id"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
    assert!(rows.iter().all(|row| row["prompt"] == samples[row["doc_id"].as_u64().unwrap() as usize]["prompt"]));
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

/// `fixtures/ifeval/make_ifeval.py` with lm_eval 0.4.13: the metrics of several prompts together.
#[test]
fn instructions_count_by_prompt_and_by_instruction() {
    let fixture: Value = serde_json::from_str(include_str!("../../../fixtures/ifeval/ifeval.json")).unwrap();
    let cases: Vec<&Value> = fixture["cases"].as_array().unwrap().iter().rev().take(100).collect();
    let place = Workplace::new(true);
    place.set_config("max_position_embeddings", json!(32768));
    std::fs::create_dir_all(place.path("data/google/IFEval/default")).unwrap();
    let row = |(at, case): (usize, &&Value)| {
        json!({"key": at, "prompt": format!("Do as number {at} says."), "instruction_id_list": case["names"],
               "kwargs": case["arguments"]})
    };
    let mut rows: Vec<Value> = cases.iter().enumerate().map(row).collect();
    // An argument that is missing makes the row a bad one.
    rows.push(json!({"key": 100, "prompt": "Be short.", "instruction_id_list": ["length_constraints:number_words"],
                     "kwargs": [{"num_words": 5, "relation": null}]}));
    place.write("data/google/IFEval/default/train.jsonl", &lines(&rows));
    let given = |(at, case): (usize, &&Value)| json!({"task": "ifeval", "doc_id": at, "response": case["response"]});
    place.write("given.jsonl", &lines(&cases.iter().enumerate().map(given).collect::<Vec<_>>()));
    let document = place
        .json("eval model --tasks ifeval --data-root data --responses-from given.jsonl --samples-out out.jsonl --json");

    let own = &document["tasks"]["ifeval"];
    assert_eq!((own["n"].as_u64(), cases.len()), (Some(100), 100));
    let verdicts = |at: usize| -> Vec<Vec<bool>> {
        cases.iter().map(|case| serde_json::from_value(case["followed"][at].clone()).unwrap()).collect()
    };
    for (at, kind) in ["strict", "loose"].iter().enumerate() {
        let (by_case, count) = (verdicts(at), |list: &[bool]| list.iter().filter(|followed| **followed).count() as f64);
        let prompts: Vec<bool> = by_case.iter().map(|list| list.iter().all(|followed| *followed)).collect();
        let flat = by_case.concat();
        for (metric, list) in [(format!("prompt_level_{kind}_acc"), prompts), (format!("inst_level_{kind}_acc"), flat)]
        {
            let value = own["metrics"][&metric]["value"].as_f64().unwrap();
            assert!((value - count(&list) / list.len() as f64).abs() < 1e-12, "{metric} {value}");
            assert!(own["metrics"][&metric]["stderr"].as_f64().unwrap() > 0.0);
        }
    }
    let rows = place.read_lines("out.jsonl");
    let sample = rows.iter().find(|row| row["outcome"] == "not_followed").unwrap();
    assert!(sample["extracted"].as_str().unwrap().contains(':') && sample["correct"] == false);
}
