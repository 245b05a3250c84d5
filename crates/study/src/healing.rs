//! The healing stage's cells: the uncut model's answers, and each cut finetuned on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lopper_heal::self_generated::examples_of;
use lopper_heal::{HealRecipe, HealStats, Healed, Method, Renderer, Run, SelfGenerated, SgrOptions, SgrPrompt};
use lopper_infer::{Sampling, TextModel};
use lopper_model::Model;
use lopper_model::chat::Message;
use lopper_model::checkpoint::{Array, Dtype, TensorView, save_safetensors};
use lopper_model::hf::WEIGHTS;
use lopper_pocket::{Prompt, Split, examples, task};
use lopper_record::study::HealInfo;
use lopper_record::{Fault, Store};
use safetensors::SafeTensors;

use crate::identity::{HealKey, ResponsesKey, heal_key, responses_key};
use crate::observer::StudyObserver;
use crate::{Heal, Recipe, Subject};

/// The uncut model's answers, with what identifies them.
pub struct Responses {
    answers: SelfGenerated,
    model: String,
    tasks: Vec<String>,
    heal: Heal,
    seed: u64,
}

impl Responses {
    /// Identifies these answers.
    pub fn key(&self) -> ResponsesKey<'_> {
        responses_key(&self.model, &self.tasks, &self.heal, self.seed)
    }
}

/// Whether the answers' cell is there.
pub fn has_responses(store: &Store, model: &str, tasks: &[String], recipe: &Recipe) -> Result<bool> {
    Ok(store.path("responses", &responses_key(model, tasks, &recipe.heal, recipe.seed), "json")?.exists())
}

/// Lets the uncut model answer training-split prompts of all tasks, the same number of each.
/// Returns the seconds it took when it was done, and whether an earlier run did it.
pub fn responses(
    store: &Store,
    subject: &Subject,
    tasks: &[String],
    recipe: &Recipe,
    observer: &dyn StudyObserver,
) -> Result<(Responses, f64, bool)> {
    let (model, heal, seed) = (subject.card.hash.clone(), recipe.heal.clone(), recipe.seed);
    let finished = store.run("responses", &responses_key(&model, tasks, &heal, seed), || {
        let options = SgrOptions {
            sampling: Sampling::Sample { temperature: heal.temperature, top_k: None, top_p: Some(heal.top_p) },
            // A choice has no length of its own; it is a word or two.
            max_new_tokens: tasks.iter().filter_map(|t| task(t)).map(|t| t.max_new_tokens.max(8)).max().unwrap_or(8),
            seed,
            // The pocket model was taught no system prompt.
            system: None,
            keep_unfinished: false,
        };
        let prompts = prompts(tasks, heal.prompts, seed);
        let text = &subject.text;
        lopper_heal::generate_responses(text, &text.engine.all_layers(), &prompts, &options, &|p| {
            observer.work(p.done, p.total);
        })
    })?;
    let responses = Responses { answers: finished.value, model, tasks: tasks.to_vec(), heal, seed };
    Ok((responses, finished.wall_s, finished.cached))
}

/// `count` training-split prompts, the tasks in turn.
fn prompts(tasks: &[String], count: usize, seed: u64) -> Vec<SgrPrompt> {
    let mut streams: Vec<_> =
        tasks.iter().filter_map(|name| Some((task(name)?, examples(name, Split::Train, seed)))).collect();
    let mut prompts = Vec::with_capacity(count);
    while prompts.len() < count && !streams.is_empty() {
        for (info, stream) in &mut streams {
            let Some(example) = stream.next() else { continue };
            // A choice is a word on a line, so a line's end stops it as it does the others.
            let stop = if info.stop.is_empty() { vec!["\n".to_owned()] } else { owned(info.stop) };
            prompts.push(match example.prompt {
                Prompt::Chat(text) => SgrPrompt::Chat(vec![Message::user(text)]),
                Prompt::Plain(prompt) => SgrPrompt::Plain { prompt, stop },
            });
        }
    }
    prompts.truncate(count);
    prompts
}

fn owned(strings: &[&str]) -> Vec<String> {
    strings.iter().map(|s| (*s).to_owned()).collect()
}

/// What is healed, and how.
#[derive(Clone, Copy)]
pub struct Cut<'a> {
    pub responses: &'a Responses,
    /// Original indices of the layers that stay.
    pub kept: &'a [usize],
    pub recipe: &'a HealRecipe,
    pub workers: usize,
}

impl Cut<'_> {
    /// Identifies the healed model.
    pub fn key(&self) -> HealKey<'_> {
        heal_key(self.kept, self.recipe, self.responses.key(), self.workers)
    }

    /// Where what training changed lies.
    fn directory(&self, store: &Store) -> Result<PathBuf> {
        store.path("heal", &self.key(), "model")
    }

    /// Whether an earlier run has finished it; whether it can be read shows when it is asked for.
    pub fn is_finished(&self, store: &Store) -> Result<bool> {
        Ok(store.path("heal", &self.key(), "json")?.exists() && self.directory(store)?.is_dir())
    }

    /// The healed model as an earlier run left it; damage is a warning, and reason to train again.
    fn find(&self, store: &Store, base: &Model) -> Result<Option<(Model, HealStats)>> {
        let directory = self.directory(store)?;
        if !directory.is_dir() {
            return Ok(None);
        }
        let Some(stats) = store.get("heal", &self.key())? else { return Ok(None) };
        match read(&directory, base, self.kept, self.recipe.method) {
            Ok(model) => Ok(Some((model, stats))),
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                store.warn(format!("{}: {first}; the cut is healed again", directory.display()));
                Ok(None)
            }
        }
    }

    /// The cut healed: trained now, or read from an earlier run. The model is merged and holds only
    /// the kept layers.
    pub fn heal(&self, store: &Store, subject: &Subject, observer: &dyn StudyObserver) -> Result<HealedCut> {
        let recipe = self.recipe;
        let base = subject.text.engine.model();
        let found = self.find(store, base)?;
        let cached = found.is_some();
        let (model, stats) = match found {
            Some(found) => found,
            None => {
                let documents = documents(&subject.text, &self.responses.answers, recipe)?;
                let run = Run { workers: self.workers, state: None };
                let healed = lopper_heal::heal(base, self.kept, &documents, recipe, &run, &mut |p| {
                    observer.work(p.tokens as usize, p.total_tokens as usize);
                    subject.text.engine.check_interrupt()
                })?;
                write(&self.directory(store)?, &healed)?;
                store.put("heal", &self.key(), &healed.stats, healed.stats.seconds)?;
                (healed.merged(), healed.stats)
            }
        };
        let info = HealInfo {
            method: recipe.method.name().to_owned(),
            examples: stats.examples,
            tokens: stats.response_tokens,
            steps: stats.steps,
            seconds: stats.seconds,
            train_loss_first: stats.loss_first,
            train_loss_last: stats.loss_last,
            recipe: recipe.summary(),
        };
        Ok(HealedCut { model, info, cached })
    }
}

/// A healed cut.
pub struct HealedCut {
    pub model: Model,
    pub info: HealInfo,
    /// Whether an earlier run trained it.
    pub cached: bool,
}

fn documents(text: &TextModel, answers: &SelfGenerated, recipe: &HealRecipe) -> Result<Vec<lopper_heal::Document>> {
    let examples = examples_of(&answers.rows, &Renderer::of(text), recipe.max_length)?;
    if examples.documents.is_empty() {
        return Err(Fault::new("the uncut model gave no answer to learn from")
            .expected("at least one finished answer")
            .got(format!("{} cut off, {} empty", answers.unfinished, answers.empty))
            .hint("raise `heal.prompts`")
            .into());
    }
    Ok(examples.documents)
}

/// Writes what training changed into `directory`, which appears whole or not at all: an adapter in
/// PEFT's layout, or a whole model.
fn write(directory: &Path, healed: &Healed) -> Result<()> {
    let parent = directory.parent().context("a cell has a directory")?;
    let partial = tempfile::Builder::new().prefix(".heal").suffix(".partial").tempdir_in(parent)?;
    match healed.recipe.method {
        Method::Lora => healed.save_adapter(partial.path(), None)?,
        Method::Full => {
            let parameters = healed.model.parameters();
            let arrays: Vec<Array<'_>> = parameters
                .iter()
                .map(|(name, param)| Array {
                    name: name.clone(),
                    shape: vec![param.rows, param.cols],
                    values: &param.data,
                })
                .collect();
            save_safetensors(&partial.path().join(WEIGHTS), &arrays, Dtype::F32, &BTreeMap::new())?;
        }
    }
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::rename(partial.keep(), directory).with_context(|| format!("writing {}", directory.display()))
}

fn read(directory: &Path, base: &Model, kept: &[usize], method: Method) -> Result<Model> {
    if method == Method::Full {
        let bytes = std::fs::read(directory.join(WEIGHTS))?;
        let tensors = SafeTensors::deserialize(&bytes).context("the healed weights of a cell")?;
        return Model::build(base.config.keep(kept), &mut |name, _| {
            let view = tensors.tensor(name).with_context(|| format!("`{name}` of a healed cut"))?;
            TensorView { dtype: view.dtype(), shape: view.shape(), data: view.data() }.to_f32()
        });
    }
    let mut model = base.keep(kept);
    let layers = model.all_layers();
    lopper_heal::load_adapter(directory, &mut model, &layers)?;
    lopper_heal::merge(&mut model);
    Ok(model)
}
