//! The commands that act on a study's answer, as a shell takes them.

use lopper_record::StudyRecord;
use lopper_record::study::Point;
use serde_json::Value;

use crate::format::about;

/// The model that is compiled into the program.
const POCKET: &str = "pocket";

/// The longest example of `lopper heal` where none is given, in tokens.
const DEFAULT_MAX_LENGTH: &str = "8192";

/// Commands with what each of them does.
pub type Steps = Vec<(String, String)>;

/// Makes a cut, heals it as the study did, and compares it with the uncut model.
pub fn make(record: &StudyRecord, cut: &Point) -> Steps {
    let model = quoted(&record.model.name);
    let pruned = format!("{}-minus-{}", base_name(&record.model.name), cut.removed);
    let mut steps = vec![(
        format!("remove {} of {} layers", cut.removed, record.model.num_layers),
        format!("lopper prune {model} --drop {} -o {pruned}", cut.dropped),
    )];
    let mut adapter = String::new();
    let mut checked = None;
    if cut.healed.is_some() {
        let full = setting(record, "/heal/recipe/method").as_deref() == Some("full");
        let healed = format!("{pruned}-{}", if full { "healed" } else { "adapter" });
        steps.push(("let the uncut model answer prompts".into(), generate(record, &model)));
        // What learns from the uncut model needs both, and so does what counts from the cut.
        let of_recipe = |key: &str| record.recipe.pointer(&format!("/heal/recipe/{key}"));
        let needs_both = of_recipe("distillation").is_some_and(Value::is_object)
            || of_recipe("layers").and_then(Value::as_str) == Some("from-cut");
        let source = if needs_both { format!("{model} --drop {}", cut.dropped) } else { pruned.clone() };
        steps.push(("finetune the cut on these answers".into(), heal(record, &source, &healed, full)));
        if full {
            checked = Some(healed);
        } else {
            adapter = format!(" --adapter {healed}");
        }
    }
    let tasks = tasks(record);
    if !tasks.is_empty() {
        let rows = rows(record);
        steps.push(match checked {
            Some(healed) => ("check it".into(), format!("lopper eval {healed} --tasks {tasks}{rows}")),
            None => (
                "compare it with the uncut model, item by item".into(),
                format!("lopper eval {model} --drop {}{adapter} --tasks {tasks} --compare{rows}", cut.dropped),
            ),
        });
    }
    steps
}

fn generate(record: &StudyRecord, model: &str) -> String {
    let mut command = format!("lopper generate {model} --prompts {}", prompts(record));
    for (key, flag) in [
        ("/heal/split", "split"),
        ("/heal/config", "config"),
        ("/heal/column", "column"),
        ("/heal/prompts", "limit"),
        ("/heal/temperature", "temperature"),
        ("/heal/top_p", "top-p"),
        ("/heal/max_new_tokens", "max-new-tokens"),
        ("/seed", "seed"),
    ] {
        // 0 new tokens means the default.
        let value =
            setting(record, key).filter(|value| !value.is_empty() && (flag, value.as_str()) != ("max-new-tokens", "0"));
        command.push_str(&option(flag, value));
    }
    command + &template(record) + " -o answers.jsonl"
}

/// Where the study's prompts came from, for `lopper generate`.
fn prompts(record: &StudyRecord) -> String {
    match setting(record, "/heal/data").as_deref() {
        Some("tasks") if record.model.name == POCKET => POCKET.into(),
        // The questions of the tasks' training splits: no single file.
        None | Some("tasks" | "") => "PROMPTS.jsonl".into(),
        Some(data) => quoted(data),
    }
}

/// Whether the reader has to put a name of his own into the commands that heal.
pub fn needs_prompts(record: &StudyRecord, cut: &Point) -> bool {
    cut.healed.is_some() && prompts(record) == "PROMPTS.jsonl"
}

fn heal(record: &StudyRecord, source: &str, healed: &str, full: bool) -> String {
    let mut command = format!("lopper heal {source} --data answers.jsonl");
    for (key, flag, of_adapter) in [
        ("method", "method", false),
        ("layers", "train-layers", false),
        ("epochs", "epochs", false),
        ("learning_rate", "lr", false),
        ("warmup", "warmup", false),
        ("decay", "decay", false),
        ("batch", "batch", false),
        ("lora/r", "r", true),
        ("lora/alpha", "alpha", true),
        ("lora/dropout", "dropout", true),
        ("max_length", "max-length", false),
        ("seed", "seed", false),
    ] {
        if !(full && of_adapter) {
            // What the study file leaves to the program is no number, and the longest example is by default the paper's
            // or the model's context, beyond which the command refuses a number.
            let left = |value: &String| value == "auto" || (key, value.as_str()) == ("max_length", DEFAULT_MAX_LENGTH);
            let value = setting(record, &format!("/heal/recipe/{key}")).filter(|value| !left(value));
            command.push_str(&option(flag, value));
        }
    }
    for (key, flag) in [
        ("reverse", "distill"),
        ("temperature", "distill-temperature"),
        ("answers", "distill-answers"),
        ("hidden_states", "distill-hidden"),
        ("on_policy/part", "on-policy"),
        ("on_policy/every", "on-policy-steps"),
        ("on_policy/max_new_tokens", "on-policy-max-new-tokens"),
        ("on_policy/temperature", "on-policy-temperature"),
    ] {
        command.push_str(&option(flag, setting(record, &format!("/heal/recipe/distillation/{key}"))));
    }
    if setting(record, "/heal/recipe/decay_shape").as_deref() == Some("cosine") {
        command.push_str(" --schedule cosine");
    }
    let is_set = |key: &str| setting(record, &format!("/heal/recipe/{key}")).as_deref() == Some("true");
    for (key, flag) in [("mixed", "bf16"), ("train_on_inputs", "train-on-inputs")] {
        if is_set(key) {
            command.push_str(&format!(" --{flag}"));
        }
    }
    for (key, flag) in [("lora/rslora", "rslora"), ("lora/dora", "dora"), ("load_in_4bit", "load-in-4bit")] {
        if !full && is_set(key) {
            command.push_str(&format!(" --{flag}"));
        }
    }
    if is_set("stochastic_rounding") {
        command.push_str(" --stochastic-rounding");
    } else if full {
        // The study scored the weights as they were trained.
        command.push_str(" --out-dtype float32");
    }
    format!("{command}{} -o {healed}", template(record))
}

/// The variables of the chat template.
fn template(record: &StudyRecord) -> String {
    let variables = record.recipe.pointer("/template").and_then(Value::as_object);
    let set = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!(" --template-var {}", quoted(&format!("{name}={value}")))
    };
    variables.into_iter().flatten().map(set).collect()
}

/// How the study's answers were drawn, where they were not the most probable ones.
fn sampling(record: &StudyRecord) -> String {
    let number = |key: &str| setting(record, &format!("/sampling/{key}"));
    let Some(temperature) = number("temperature").filter(|value| value.parse::<f64>().is_ok_and(|t| t > 0.0)) else {
        return String::new();
    };
    let unlike = |key: &str, none: &str| number(key).filter(|value| value != none);
    [
        option("temperature", Some(temperature)),
        option("top-k", unlike("top_k", "0")),
        option("top-p", unlike("top_p", "1.0")),
        option("responses", unlike("samples", "1")),
        option("sampling-seed", number("seed")),
    ]
    .concat()
}

/// The tasks as the study file names them.
fn tasks(record: &StudyRecord) -> String {
    let named = |group: &str| {
        let list = record.recipe.pointer(&format!("/tasks/{group}")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut names = [named("classification"), named("generative")].concat();
    if names.is_empty() {
        names = record.tasks.iter().map(|task| task.name.clone()).collect();
    }
    if names.is_empty() { String::new() } else { quoted(&names.join(",")) }
}

/// Which items of the tasks.
fn rows(record: &StudyRecord) -> String {
    let shots = setting(record, "/rows/shots").filter(|shots| shots.parse::<usize>().is_ok());
    let limit = setting(record, "/items/report").or_else(|| {
        let items = record.tasks.iter().map(|task| task.n_report).max().filter(|items| *items > 0);
        items.map(|items| items.to_string())
    });
    let root = setting(record, "/rows/data_root").filter(|root| !root.is_empty());
    let mut out =
        [option("shots", shots), " --split report".into(), option("limit", limit), option("data-root", root)].concat();
    out += &option("max-new-tokens", setting(record, "/rows/max_new_tokens").filter(|value| value != "0"));
    for (key, flag) in [("allow_code_execution", "allow-code-execution"), ("chat", "apply-chat-template")] {
        if setting(record, &format!("/rows/{key}")).as_deref() == Some("true") {
            out += &format!(" --{flag}");
        }
    }
    out + &sampling(record) + &template(record)
}

/// Measures with `items` items for each task, which decides what the study's items do not.
pub fn decide(record: &StudyRecord, items: usize) -> Steps {
    let items = about(items);
    let command = &record.command;
    let again = format!("run the study again with items.report = {items}; what needs no new items is kept");
    match study_file(command) {
        Some(file) => {
            vec![(format!("in {file} set, under [items]: report = {items}"), String::new()), (again, command.clone())]
        }
        None => {
            let file = "study.toml";
            let options = command.strip_prefix("lopper study").unwrap_or_default();
            vec![
                (
                    format!("write the study file, and in it set, under [items]: report = {items}"),
                    format!("lopper study{} --print-recipe > {file}", without_out(options)),
                ),
                (again, format!("lopper study {file}{}", out_of(options))),
            ]
        }
    }
}

/// The study file that a command names, if it names one.
fn study_file(command: &str) -> Option<&str> {
    let first = command.strip_prefix("lopper study ")?.split_whitespace().next()?;
    (!first.starts_with('-')).then_some(first)
}

/// The option `--out` of a command with its value.
fn out_of(options: &str) -> String {
    options.find(" --out ").map_or_else(String::new, |at| {
        let words: Vec<&str> = options[at..].split_whitespace().take(2).collect();
        format!(" {}", words.join(" "))
    })
}

fn without_out(options: &str) -> String {
    options.replacen(&out_of(options), "", 1)
}

/// A setting of the study file as text; nothing where there is none.
fn setting(record: &StudyRecord, key: &str) -> Option<String> {
    match record.recipe.pointer(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        value => Some(value.to_string()),
    }
}

fn option(flag: &str, value: Option<String>) -> String {
    value.map_or_else(String::new, |value| format!(" --{flag} {}", quoted(&value)))
}

/// A word as a POSIX shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,".contains(c);
    // No name has control characters; what follows a line break would be another command.
    let word: String = word.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The last part of a model's name, for names of directories.
fn base_name(model: &str) -> String {
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.split('@').next().unwrap_or_default();
    let name: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    match name.trim_start_matches(['-', '.']) {
        "" => "model".into(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::study::HealInfo;
    use serde_json::json;

    fn record() -> StudyRecord {
        let mut record = StudyRecord { command: "lopper study --out here".into(), ..StudyRecord::default() };
        (record.model.name, record.model.num_layers) = ("Qwen/Qwen2.5-0.5B@main".into(), 24);
        record.recipe = json!({
            "seed": 3,
            "items": {"report": 120},
            "tasks": {"classification": ["arc_easy"], "generative": ["gsm8k", "./my own.toml"]},
            "rows": {"shots": "own", "data_root": "data", "allow_code_execution": true},
            "heal": {
                "data": "tatsu-lab/alpaca", "prompts": 2000, "temperature": 0.9, "top_p": 0.95, "max_new_tokens": 0,
                "recipe": {"method": "lora", "epochs": 1, "learning_rate": 0.0002, "batch": 8,
                           "lora": {"r": 64, "alpha": 16.0}, "seed": 0, "mixed": true, "warmup": "auto", "max_length": 8192},
            },
        });
        record
    }

    #[test]
    fn a_healed_cut_is_made_with_the_settings_of_the_study() {
        let cut =
            Point { removed: 3, dropped: [7, 8, 9].into(), healed: Some(HealInfo::default()), ..Point::default() };
        let commands: Vec<String> = make(&record(), &cut).into_iter().map(|(_, command)| command).collect();
        assert_eq!(
            commands,
            [
                "lopper prune Qwen/Qwen2.5-0.5B@main --drop 7-9 -o Qwen2.5-0.5B-minus-3",
                "lopper generate Qwen/Qwen2.5-0.5B@main --prompts tatsu-lab/alpaca --limit 2000 --temperature 0.9 --top-p \
                 0.95 --seed 3 -o answers.jsonl",
                "lopper heal Qwen2.5-0.5B-minus-3 --data answers.jsonl --method lora --epochs 1 --lr 0.0002 --batch 8 --r \
                 64 --alpha 16.0 --seed 0 --bf16 -o Qwen2.5-0.5B-minus-3-adapter",
                "lopper eval Qwen/Qwen2.5-0.5B@main --drop 7-9 --adapter Qwen2.5-0.5B-minus-3-adapter --tasks \
                 'arc_easy,gsm8k,./my own.toml' --compare --split report --limit 120 --data-root data \
                 --allow-code-execution",
            ]
        );
        assert!(!needs_prompts(&record(), &cut));
        let unknown = StudyRecord { recipe: Value::Null, ..record() };
        assert_eq!(make(&unknown, &Point { healed: None, ..cut.clone() }).len(), 1);
        assert!(needs_prompts(&unknown, &cut));
    }

    #[test]
    fn every_option_is_one_of_its_command() {
        let reference = include_str!("../../../docs/reference/cli.md");
        let mut record = record();
        record.recipe["heal"]["split"] = "train".into();
        record.recipe["heal"]["config"] = "main".into();
        record.recipe["heal"]["column"] = "question".into();
        record.recipe["heal"]["max_new_tokens"] = 64.into();
        record.recipe["heal"]["recipe"]["max_length"] = 512.into();
        record.recipe["heal"]["recipe"]["lora"]["dropout"] = 0.05.into();
        let on_policy = json!({"part": 0.5, "every": 4, "max_new_tokens": 64, "temperature": 1.0});
        let distillation =
            json!({"temperature": 2.0, "reverse": 0.3, "answers": 0.1, "hidden_states": 0.0, "on_policy": on_policy});
        record.recipe["heal"]["recipe"]["distillation"] = distillation;
        record.recipe["heal"]["recipe"]["layers"] = "last:3".into();
        record.recipe["heal"]["recipe"]["decay"] = 1.0.into();
        record.recipe["heal"]["recipe"]["decay_shape"] = "cosine".into();
        record.recipe["heal"]["recipe"]["stochastic_rounding"] = true.into();
        record.recipe["heal"]["recipe"]["load_in_4bit"] = true.into();
        record.recipe["heal"]["recipe"]["lora"]["rslora"] = true.into();
        record.recipe["heal"]["recipe"]["lora"]["dora"] = true.into();
        record.recipe["rows"]["shots"] = 5.into();
        record.recipe["rows"]["chat"] = true.into();
        record.recipe["rows"]["max_new_tokens"] = 256.into();
        record.recipe["template"] = json!({"enable_thinking": false, "tone": "dry wit"});
        record.recipe["sampling"] = json!({"temperature": 0.9, "top_k": 50, "top_p": 0.5, "samples": 4, "seed": 7});
        let cut = Point { removed: 1, dropped: [7].into(), healed: Some(HealInfo::default()), ..Point::default() };
        let mut options = 0;
        for (_, command) in make(&record, &cut).into_iter().chain(decide(&record, 10)) {
            let mut words = command.split_whitespace().skip(1);
            let name = words.next().unwrap();
            let section =
                reference.split(&format!("## lopper {name}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
            for word in words.filter(|word| word.starts_with("--")) {
                options += 1;
                let known = section.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).any(|other| other == word);
                assert!(known, "lopper {name} has no {word}");
            }
        }
        assert!(options > 52, "{options}");
        let heal = make(&record, &cut).into_iter().find(|(_, command)| command.starts_with("lopper heal")).unwrap().1;
        assert!(heal.starts_with("lopper heal Qwen/Qwen2.5-0.5B@main --drop 7 --data"), "{heal}");
        assert!(heal.contains("--distill 0.3 --distill-temperature 2.0 --distill-answers 0.1"), "{heal}");
        assert!(heal.contains("--on-policy 0.5") && heal.contains("--train-layers last:3"), "{heal}");
        assert!(heal.contains("--decay 1.0") && heal.contains("--schedule cosine"), "{heal}");
        assert!(heal.contains("--rslora --dora --load-in-4bit"), "{heal}");
        let method = &mut record.recipe["heal"]["recipe"];
        (method["method"], method["stochastic_rounding"]) = ("full".into(), false.into());
        let full = make(&record, &cut).into_iter().find(|(_, command)| command.starts_with("lopper heal")).unwrap().1;
        assert!(full.contains("--out-dtype float32"), "what is written is what the study scored: {full}");
        assert!(!full.contains("--dora") && !full.contains("--load-in-4bit"), "{full}");
        let eval = make(&record, &cut).pop().unwrap().1;
        let drawn = "--temperature 0.9 --top-k 50 --top-p 0.5 --responses 4 --sampling-seed 7";
        assert!(eval.contains(drawn) && eval.contains("--template-var 'tone=dry wit'"), "{eval}");
    }

    #[test]
    fn what_decides_is_the_same_study_with_more_items() {
        let mut record = record();
        let steps = decide(&record, 341);
        assert_eq!(steps[0].1, "lopper study --print-recipe > study.toml");
        assert_eq!(steps[1].1, "lopper study study.toml --out here");
        assert!(steps[0].0.ends_with("report = 350"));
        record.command = "lopper study my.toml --out here --allow-code-execution".into();
        let steps = decide(&record, 341);
        assert!(steps[0].0.starts_with("in my.toml") && steps[1].1 == record.command);
    }

    #[test]
    fn no_name_becomes_a_command_or_leaves_its_directory() {
        assert_eq!(quoted("a'; rm -rf ~\n"), r"'a'\''; rm -rf ~?'");
        assert_eq!([base_name("../.."), base_name("/m/-x y/"), base_name("")], ["model", "xy", "model"]);
    }
}
