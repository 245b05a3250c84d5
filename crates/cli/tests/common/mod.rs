//! Tiny random models on disk, and the program under test.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod hub;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use lopper_model::checkpoint::Dtype;
use lopper_model::families::{config_json, parse_config};
use lopper_model::{Config, Model};
use lopper_testkit::{Feature, skip_unless};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A study of the tiny model that takes a moment.
pub const SMALL_STUDY: &str = r#"
model = "model"
[items]
report = 4
select = 3
calibration = 4
[tasks]
classification = ["pocket_kind"]
generative = ["pocket_brackets"]
[cuts]
strategies = ["reverse", "bi"]
depths = [1, 2]
main = "reverse"
[heal]
depths = []
"#;

/// The program, deterministic, without colour, and without the hub or what is cached of it.
pub fn lopper() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lopper"));
    command.env("NO_COLOR", "1").env_remove("LOPPER_LOG").env_remove("LOPPER_DATA_ROOT").args(["--threads", "2"]);
    command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", "/nonexistent/hub");
    command
}

/// Arguments of the program: a command line, divided at its spaces, or a list.
pub trait Arguments {
    fn list(&self) -> Vec<&str>;
}

impl Arguments for str {
    fn list(&self) -> Vec<&str> {
        self.split_whitespace().collect()
    }
}

impl Arguments for String {
    fn list(&self) -> Vec<&str> {
        self.as_str().list()
    }
}

impl Arguments for [&str] {
    fn list(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl<const N: usize> Arguments for [&str; N] {
    fn list(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl Arguments for Vec<&str> {
    fn list(&self) -> Vec<&str> {
        self.clone()
    }
}

/// What a run of the program printed, on standard output and on standard error.
pub struct Printed {
    pub out: String,
    pub err: String,
}

impl Printed {
    pub fn of(run: &Assert) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { out: text(&run.get_output().stdout), err: text(&run.get_output().stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A temporary directory with a model in `model`, which has five layers and has room for the pocket
/// tokenizer's tokens; `tokenizer` writes that tokenizer and its chat template beside it.
pub struct Workplace {
    pub dir: TempDir,
}

impl Workplace {
    pub fn new(tokenizer: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir(&model).unwrap();
        write_model(&model);
        if tokenizer {
            lopper_pocket::model_files::write(&model).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn model(&self) -> PathBuf {
        self.path("model")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn read_json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The documents of a file with one JSON document a line.
    pub fn read_lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names of everything in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program in the directory.
    pub fn command(&self, arguments: &(impl Arguments + ?Sized)) -> Command {
        let mut command = lopper();
        command.current_dir(self.dir.path()).args(arguments.list());
        command
    }

    /// Runs the program, which must succeed.
    pub fn run(&self, arguments: &(impl Arguments + ?Sized)) -> Printed {
        Printed::of(&self.command(arguments).assert().success())
    }

    /// Runs the program, which must print JSON.
    pub fn json(&self, arguments: &(impl Arguments + ?Sized)) -> Value {
        self.run(arguments).json()
    }

    /// What the program printed where it may run programs; nothing where this machine runs none, which skips the test
    /// (or fails it, where a sandbox is required).
    #[track_caller]
    pub fn run_programs(&self, arguments: &(impl Arguments + ?Sized)) -> Option<Printed> {
        let run = self.command(arguments).assert();
        let printed = Printed::of(&run);
        let none = ["cannot isolate programs", "cannot be started"].iter().any(|why| printed.err.contains(why));
        if !none {
            run.success();
        }
        skip_unless(Feature::Sandbox, (!none).then_some(printed))
    }

    /// Runs the program, which must end with status 2, leave nothing, print nothing on standard
    /// output, and give a hint; its message.
    pub fn fault(&self, arguments: &(impl Arguments + ?Sized)) -> String {
        let before = self.names();
        let Printed { out, err: message } = Printed::of(&self.command(arguments).assert().code(2));
        assert_eq!(out, "", "{:?}", arguments.list());
        assert_eq!(self.names(), before, "{:?} left something behind", arguments.list());
        // clap's own messages give hints of another form.
        assert!(message.contains("\n  hint: ") || message.contains("--help"), "{message}");
        message
    }

    /// Changes a key of the model's config.json.
    pub fn set_config(&self, key: &str, value: Value) {
        let mut config = self.read_json("model/config.json");
        config[key] = value;
        self.write("model/config.json", &config.to_string());
    }
}

fn write_model(dir: &Path) {
    let config = json!({
        "model_type": "qwen3",
        "vocab_size": 1024,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": true,
        "max_position_embeddings": 256,
        "eos_token_id": 2,
        "bos_token_id": 1,
    });
    let config: Config = parse_config(config.as_object().unwrap(), dir).unwrap();
    // Weights large enough that every layer changes what comes out.
    let model = Model::random(config.clone(), 0.3, 11).unwrap();
    model.save(dir, &config_json(&config, Dtype::F32).unwrap(), Dtype::F32).unwrap();
}
