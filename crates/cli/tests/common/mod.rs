//! Tiny random models on disk, and the program under test.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use lopper_model::checkpoint::Dtype;
use lopper_model::families::{config_json, parse_config};
use lopper_model::{Config, Model};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program, deterministic, without colour, and without the hub or what is cached of it.
pub fn lopper() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lopper"));
    command.env("NO_COLOR", "1").env_remove("LOPPER_LOG").env_remove("LOPPER_DATA_ROOT").args(["--threads", "2"]);
    command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", "/nonexistent/hub");
    command
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

    /// Names of everything in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs the program in the directory and returns what it printed, which must be JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = lopper().current_dir(self.dir.path()).args(arguments).assert().success().get_output().clone();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the program, which must end with status 2, leave nothing, print nothing on standard
    /// output, and give a hint; its message.
    pub fn fault(&self, arguments: &[&str]) -> String {
        let before = self.names();
        let output = lopper().current_dir(self.dir.path()).args(arguments).assert().code(2).get_output().clone();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
        assert_eq!(self.names(), before, "{arguments:?} left something behind");
        let message = String::from_utf8(output.stderr).unwrap();
        // clap's own messages give hints of another form.
        assert!(message.contains("\n  hint: ") || message.contains("--help"), "{message}");
        message
    }

    /// Changes a key of the model's config.json.
    pub fn set_config(&self, key: &str, value: Value) {
        let path = self.model().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
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

/// Says that the machine runs no programs.
#[allow(clippy::print_stderr, reason = "a test that tests nothing says so")]
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
