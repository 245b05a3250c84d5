//! Task files over rows that a test writes itself.

use serde_json::Value;

/// Multiple choice over `own/stamps`, whose rows have `question`, `choices`, `key` and `number`.
pub const STAMPS: &str = r#"
name = "stamps"
version = 3
group = "classification"
description = "who has the stamps"
chance = 0.25

[rows]
data_set = "own/stamps"
splits = ["test", "validation"]
columns = { question = "text", choices = "labelled_texts", key = "text", number = "integer" }
identity = ["question"]

[shots]
splits = ["train"]

[prompt]
question = "Question: {{question}}\nAnswer:"

[choices]
list = "choices.text"
label = "choices.label.index(key)"
"#;

/// Two choices over `own/colours`, whose rows have `question`, `choices` and `label`.
pub const COLOURS: &str = r#"
name = "colours"
version = 1
group = "classification"
description = "the colour of a thing"
chance = 0.5

[rows]
data_set = "own/colours"
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
"#;

/// Programs over `own/sums`, whose rows are in `sums.jsonl` and have `prompt` and `tests`.
pub const SUMS: &str = r#"
name = "sums"
version = 1
group = "generative"
description = "functions that add"

[rows]
data_set = "own/sums"
splits = ["test"]
files = { test = "sums.jsonl" }
columns = { prompt = "text", tests = "text" }
identity = ["prompt"]

[prompt]
question = "{{prompt}}"

[generate]
max_new_tokens = 8

[answer]
check = "program"
target = "{{tests}}"
program = "{{block}}"
tests = "{{tests}}"
"#;

/// One JSON document a line.
pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}
