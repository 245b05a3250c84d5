//! The same fault has the same exit status and message, whichever command meets it, and leaves nothing behind.

mod common;

use common::Workplace;

/// Every command that takes MODEL, with the least that it needs.
const OF_A_MODEL: [&str; 11] = [
    "inspect MODEL",
    "score MODEL --text text.txt",
    "ablate MODEL --tasks pocket_kind --limit 2",
    "search MODEL --remove 1 --tasks pocket_kind --limit 2 -o out",
    "prune MODEL --drop 1 -o out",
    "generate MODEL --prompts prompts.jsonl --max-new-tokens 2 -o out",
    "heal MODEL --data chats.jsonl --drop 1 -o out",
    "eval MODEL --tasks pocket_kind --limit 2",
    "diagnose MODEL --drop 1",
    "logprobs MODEL --text text.txt",
    "study study.toml -o out",
];

/// Every command that writes to OUT what it computes for long.
const TO_AN_OUTPUT: [&str; 9] = [
    "prune model --drop 1 -o OUT",
    "generate model --prompts prompts.jsonl --max-new-tokens 2 -o OUT",
    "heal model --data chats.jsonl --drop 1 -o OUT",
    "search pocket --remove 1 --tasks pocket_kind --limit 2 -o OUT",
    "study -o OUT",
    "eval pocket --tasks pocket_kind --limit 2 --samples-out OUT",
    "eval pocket --tasks pocket_kind --limit 2 --lm-eval-out OUT",
    "diagnose model --drop 1 --ledger-out OUT",
    "diagnose responses.jsonl --figures-out OUT",
];

fn workplace() -> Workplace {
    let place = Workplace::new(true);
    place.write("text.txt", "Tom has 12 apples.");
    place.write("prompts.jsonl", "{\"prompt\":\"Tom has 3 apples.\"}\n");
    place.write(
        "chats.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n",
    );
    place.write("responses.jsonl", "{\"prompt\":\"hi\",\"response\":\"yo\"}\n");
    place
}

/// The message of a fault, without file, hint and the rest.
fn message(place: &Workplace, command: &str) -> String {
    place.fault(command).lines().next().unwrap().to_owned()
}

fn all_say(place: &Workplace, model: &str, expected: &str) {
    place.write("study.toml", &format!("model = {model:?}\n"));
    for command in OF_A_MODEL {
        let command = command.replace("MODEL", model);
        let said = message(place, &command);
        assert!(said.contains(expected), "{command}: {said}");
    }
}

#[test]
fn a_model_that_cannot_be_opened() {
    let place = workplace();
    all_say(&place, "nowhere", "there is no such model");
    all_say(&place, "organisation/name", "not in the cache, and only the cache may be used");
    std::fs::create_dir(place.path("empty")).unwrap();
    all_say(&place, "empty", "the model has no configuration");
    let whole = place.read("model/config.json");
    place.write("model/config.json", "{\"model_type\":");
    all_say(&place, "model", "not valid JSON");
    place.write("model/config.json", &whole.replace("\"qwen3\"", "\"qwen99\""));
    all_say(&place, "model", "unknown model family `qwen99`");
    place.write("model/config.json", &whole);
    let weights = std::fs::read(place.path("model/model.safetensors")).unwrap();
    std::fs::write(place.path("model/model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    all_say(&place, "model", "the weights file is cut short");
}

#[test]
fn an_output_that_cannot_be_written() {
    let place = workplace();
    place.write("file", "");
    for command in TO_AN_OUTPUT {
        for out in ["file/out", "file/deeper/out"] {
            let command = command.replace("OUT", out);
            assert_eq!(message(&place, &command), "error: the output cannot be written", "{command}");
        }
    }
}

#[test]
fn an_output_that_is_there() {
    let place = workplace();
    std::fs::create_dir(place.path("taken")).unwrap();
    place.write("taken/own.txt", "mine");
    // Results in lm-evaluation-harness's layout are added to those in a directory.
    for command in TO_AN_OUTPUT.iter().filter(|command| !command.contains("--lm-eval-out")) {
        let command = command.replace("OUT", "taken");
        let said = message(&place, &command);
        let known = ["the output already exists", "the output directory holds something that is not a"];
        assert!(known.iter().any(|known| said.contains(known)), "{command}: {said}");
        assert_eq!(place.read("taken/own.txt"), "mine");
    }
}

#[test]
fn layers_that_cannot_be_dropped() {
    let place = workplace();
    for (layers, expected) in [("99", "the model has no layer 99"), ("0-4", "every layer would be dropped")] {
        for command in [
            "prune model -o out",
            "generate model --prompts prompts.jsonl -o out",
            "heal model --data chats.jsonl -o out",
            "eval model --tasks pocket_kind --limit 2",
            "diagnose model",
            "logprobs model --text text.txt",
        ] {
            let said = message(&place, &format!("{command} --drop {layers}"));
            assert!(said.contains(expected), "{command}: {said}");
        }
    }
}

#[test]
fn a_task_that_is_none() {
    let place = workplace();
    place.write("broken.toml", "name = 3\n");
    let task = lopper_testkit::tasks::SUMS.replace("{{prompt}}", "{{prompt");
    place.write("template.toml", &task);
    for (task, expected) in [
        ("nothing", "there is no such task"),
        ("./broken.toml", "the task's file cannot be read"),
        ("./template.toml", "the template of `prompt.question` cannot be compiled"),
    ] {
        for command in ["eval pocket", "ablate pocket", "search pocket --remove 1 -o out", "diagnose pocket --drop 1"] {
            let said = message(&place, &format!("{command} --tasks {task}"));
            assert!(said.contains(expected), "{command} {task}: {said}");
        }
        let said = message(&place, &format!("tasks show {task}"));
        assert!(said.contains(expected), "tasks show {task}: {said}");
        let groups =
            format!("model = \"pocket\"\n[tasks]\nclassification = [\"pocket_kind\"]\ngenerative = [\"{task}\"]\n");
        place.write("study.toml", &groups);
        let said = message(&place, "study study.toml -o out");
        assert!(said.contains(expected), "study of {task}: {said}");
    }
}
