//! A hub on this machine, a cache, and tiny repositories with random bytes as weights.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use lopper_hub::{HubId, Settings, Snapshot, fetch};
use lopper_record::{Fault, NoProgress, Progress, Result};
use lopper_testkit::RecordedProgress;
use lopper_testkit::hub::HubServer;
use serde_json::json;
use tempfile::TempDir;

pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A repository with its weights in one file of a megabyte.
pub fn files() -> Files {
    vec![
        ("README.md", b"# A model".to_vec()),
        ("config.json", b"{\"model_type\": \"llama\"}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("model.safetensors", noise(1 << 20, 1)),
    ]
}

/// A repository with its weights in two files.
pub fn sharded() -> Files {
    let index = r#"{"metadata": {}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let mut files = files();
    files.pop();
    files.extend([
        ("model.safetensors.index.json", index.as_bytes().to_vec()),
        ("model-00001-of-00002.safetensors", noise(300_000, 2)),
        ("model-00002-of-00002.safetensors", noise(200_000, 3)),
    ]);
    files
}

pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    lopper_testkit::token_sequences(&[bytes], 256, seed)[0].iter().map(|token| *token as u8).collect()
}

/// A server and a cache.
pub struct TestHub {
    pub server: HubServer,
    pub settings: Settings,
    pub dir: TempDir,
}

impl TestHub {
    pub fn new() -> Self {
        let (server, dir) = (HubServer::start(), tempfile::tempdir().unwrap());
        let settings = Settings {
            endpoint: server.endpoint(),
            cache: dir.path().join("cache/hub"),
            token: None,
            offline: false,
            certificates: None,
        };
        Self { server, settings, dir }
    }

    /// The same with the repository `org/name`.
    pub fn with(files: &Files) -> Self {
        let hub = Self::new();
        hub.server.publish("org/name", files);
        hub
    }

    /// The same with [`files`] whose listing has neither sizes nor hashes.
    pub fn unlisted() -> Self {
        let hub = Self::with(&files());
        let siblings: Vec<_> = files().iter().map(|(name, _)| json!({"rfilename": name})).collect();
        hub.server.set_listing("org/name", "siblings", json!(siblings));
        hub
    }

    pub fn cache(&self) -> PathBuf {
        self.settings.cache.clone()
    }

    pub fn load(&self, model: &str) -> Result<Snapshot> {
        load(&self.settings, model, &NoProgress)
    }

    /// The same cache without the server.
    pub fn offline(&self) -> Offline {
        Offline(Settings { offline: true, ..self.settings.clone() })
    }

    /// The fault of loading `model`.
    pub fn fault(&self, model: &str) -> Fault {
        fault(self.load(model))
    }

    /// The message of a failure to load `model` that is not a fault.
    pub fn failure(&self, model: &str) -> String {
        let error = self.load(model).unwrap_err();
        assert!(error.fault().is_none(), "{error:#}");
        format!("{error:#}")
    }

    /// The progress of loading `model`.
    pub fn recorded(&self, model: &str) -> RecordedProgress {
        let recorder = RecordedProgress::default();
        load(&self.settings, model, &recorder).unwrap();
        recorder
    }

    /// Asserts that nothing was written outside the cache.
    pub fn nothing_outside(&self) {
        let inside = self.dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        assert!(inside.into_iter().all(|name| name == "cache"));
    }
}

pub struct Offline(pub Settings);

impl Offline {
    pub fn load(&self, model: &str) -> Result<Snapshot> {
        load(&self.0, model, &NoProgress)
    }

    pub fn fault(&self, model: &str) -> Fault {
        fault(self.load(model))
    }
}

fn load(settings: &Settings, model: &str, progress: &dyn Progress) -> Result<Snapshot> {
    fetch(&HubId::parse(model)?.expect("a hub id"), settings, &|_| Ok(()), progress)
}

/// The fault of a failure, which says everything.
pub fn fault<T: std::fmt::Debug>(result: Result<T>) -> Fault {
    let fault: Fault = result.unwrap_err().into_fault().unwrap_or_else(|error| panic!("not a fault: {error:#}"));
    assert!(fault.expected.is_some() && fault.got.is_some() && fault.hint.is_some(), "{fault}");
    fault
}

/// The files below `directory`, with `/` between parts, sorted.
pub fn file_names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            names.extend(file_names(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}
