//! A tiny random model that speaks the pocket tokenizer, and a study small enough for tests.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lopper_heal::{HealRecipe, Method};
use lopper_infer::{ChatTokenizer, Engine, TextModel};
use lopper_model::chat::ChatTemplate;
use lopper_model::generation::{SpecialIds, SpecialStrings};
use lopper_model::tokenizer::Tokenizer;
use lopper_model::{Config, Model};
use lopper_pocket::model_files::CHAT_TEMPLATE;
use lopper_pocket::tokenizer::{BOS, END, PAD, tokenizer_json, vocabulary_size};
use lopper_record::study::ModelCard;
use lopper_record::{Interrupted, LayerNumbering, NoProgress, Progress, Result, Step, StudyRecord};
use lopper_study::{Budget, Cuts, Heal, Items, Recipe, StudyInputs, StudyModel, Tasks, run};
use lopper_testkit::{Tiny, tiny_config};

pub const LAYERS: usize = 4;

/// The model under study.
pub fn model() -> StudyModel {
    let vocab = vocabulary_size();
    let config = tiny_config(Tiny { layers: LAYERS, vocab, qk_norm: true, ..Tiny::default() });
    let config = Config { max_position_embeddings: 256, ..config };
    let model = Model::random(config.clone(), 0.4, 5).unwrap();
    let path = Path::new("tokenizer.json");
    let text = TextModel {
        engine: Engine::new(model, 2).unwrap(),
        text: ChatTokenizer {
            tokenizer: Tokenizer::from_bytes(tokenizer_json().as_bytes(), path, vocab).unwrap().into(),
            chat: Some(ChatTemplate::new(CHAT_TEMPLATE, SpecialStrings::default(), path).unwrap().into()),
            special: SpecialIds { eos: vec![END], bos: Some(BOS), pad: Some(PAD) },
        },
    };
    let per_layer = config.parameters_per_layer() as u64;
    let card = ModelCard {
        name: "tiny".into(),
        hash: "a tiny model".into(),
        num_layers: LAYERS,
        parameters: config.parameters_outside_layers() as u64 + LAYERS as u64 * per_layer,
        parameters_per_layer: vec![per_layer; LAYERS],
        ..ModelCard::default()
    };
    StudyModel { card, text, numbering: LayerNumbering::uncut(LAYERS) }
}

/// Two tasks of each group, two strategies at two depths that agree on the deeper cut, healed.
pub fn recipe() -> Recipe {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Recipe {
        items: Items { report: 5, select: 4, calibration: 6 },
        tasks: Tasks {
            classification: names(&["pocket_kind", "pocket_topic"]),
            generative: names(&["pocket_word", "pocket_brackets"]),
        },
        cuts: Cuts {
            strategies: ["ablation", "reverse", "bi"].map(Into::into).to_vec(),
            depths: vec![1, 3],
            ..Cuts::default()
        },
        heal: Heal {
            depths: vec![1, 3],
            prompts: 200,
            temperature: 2.0,
            top_p: 1.0,
            recipe: HealRecipe { batch: 8, warmup: 1.into(), ..HealRecipe::for_pocket(Method::Lora) },
            ..Heal::default()
        },
        budget: Budget { thresholds: vec![0.9, 0.5], goal: None },
        ..Recipe::default()
    }
}

/// Runs a study that nobody watches.
pub fn study(recipe: &Recipe, directory: &Path) -> Result<StudyRecord> {
    watched(recipe, directory, &Watch::default())
}

/// Runs a study that `watch` watches, and perhaps interrupts.
pub fn watched(recipe: &Recipe, directory: &Path, watch: &Watch) -> Result<StudyRecord> {
    run(&model(), recipe, &StudyInputs::default(), directory, "lopper study", watch)
}

/// The record without what legitimately differs between runs: the time that things took.
pub fn timeless(record: &StudyRecord) -> StudyRecord {
    let mut record = record.clone();
    record.timings.clear();
    record.better_buys.clear();
    for point in record.base.iter_mut().chain(&mut record.points) {
        if let Some(speed) = &mut point.speed {
            (speed.rates, speed.prompt_tokens) = (vec![], 0);
        }
        if let Some(info) = &mut point.healed {
            info.seconds = 0.0;
        }
    }
    record
}

/// Counts cells, which are the units of a study's stages, and interrupts after so many of them.
pub struct Watch {
    pub cells: AtomicUsize,
    /// Name, cells, and cells found of each stage.
    pub stages: Mutex<Vec<(String, usize, usize)>>,
    stop_after: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Self::stopping_after(usize::MAX)
    }
}

impl Watch {
    pub fn stopping_after(stop_after: usize) -> Self {
        Self { cells: AtomicUsize::new(0), stages: Mutex::default(), stop_after }
    }
}

impl Progress for Watch {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        assert_eq!((step.name, step.unit), ("study", Step::STAGES));
        Box::new(WatchedStudy(self))
    }
}

struct WatchedStudy<'a>(&'a Watch);

impl Progress for WatchedStudy<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        self.0.stages.lock().unwrap().push((step.name.to_owned(), step.total, step.found));
        Box::new(WatchedStage(self.0))
    }
}

struct WatchedStage<'a>(&'a Watch);

impl Progress for WatchedStage<'_> {
    fn step(&self, _: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(NoProgress)
    }

    fn set(&self, _: usize) {
        self.0.cells.fetch_add(1, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.0.cells.load(Ordering::Relaxed) >= self.0.stop_after { Err(Interrupted.into()) } else { Ok(()) }
    }
}
