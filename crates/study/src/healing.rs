//! The healing stage's cells: the uncut model's answers, and each cut finetuned on them.

use std::path::Path;

use anyhow::{Context, Result};
use lopper_heal::self_generated::examples_of;
use lopper_heal::{HealRecipe, HealStats, Healed, Method, Renderer, Run, SelfGenerated, SgrOptions, SgrPrompt};
use lopper_infer::{Sampling, TextModel};
use lopper_model::checkpoint::{Dtype, save_model};
use lopper_model::chat::Message;
use lopper_model::{Checkpoint, Model, families};
use lopper_pocket::{Prompt, Split, examples, task};
use lopper_record::study::HealInfo;
use lopper_record::{Fault, Store};

use crate::identity::{ResponsesKey, heal_key, responses_key};
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

/// The answers, if an earlier run has them.
pub fn find_responses(store: &Store, model: &str, tasks: &[String], recipe: &Recipe) -> Result<Option<SelfGenerated>> {
    store.get("responses", &responses_key(model, tasks, &recipe.heal, recipe.seed))
}

/// Lets the uncut model answer training-split prompts of all tasks, the same number of each.
/// Returns the seconds it took when it was done.
pub fn responses(
    store: &Store,
    subject: &Subject,
    tasks: &[String],
    recipe: &Recipe,
    observer: &dyn StudyObserver,
) -> Result<(Responses, f64)> {
    let (model, heal, seed) = (subject.card.hash.clone(), recipe.heal.clone(), recipe.seed);
    let finished = store.run("responses", &responses_key(&model, tasks, &heal, seed), || {
        let options = SgrOptions {
            sampling: Sampling::Sample { temperature: heal.temperature, top_k: None, top_p: Some(heal.top_p) },
            max_new_tokens: tasks.iter().filter_map(|t| task(t)).map(|t| t.max_new_tokens).max().unwrap_or(64),
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
    Ok((responses, finished.wall_s))
}

/// `count` training-split prompts, the tasks in turn.
fn prompts(tasks: &[String], count: usize, seed: u64) -> Vec<SgrPrompt> {
    let mut streams: Vec<_> = tasks
        .iter()
        .filter_map(|name| Some((task(name)?, examples(name, Split::Train, seed))))
        .collect();
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

/// What training did to a cut, if an earlier run finished it.
pub fn find(
    store: &Store,
    responses: &Responses,
    kept: &[usize],
    recipe: &HealRecipe,
    workers: usize,
) -> Result<Option<HealStats>> {
    let key = heal_key(kept, recipe, responses.key(), workers);
    let stats = store.get("heal", &key)?;
    Ok(stats.filter(|_| store.path("heal", &key, "model").is_ok_and(|path| path.is_dir())))
}

/// The cut healed: trained now, or read from an earlier run. The model is merged and holds only
/// the kept layers.
pub fn heal(
    store: &Store,
    subject: &Subject,
    responses: &Responses,
    kept: &[usize],
    recipe: &HealRecipe,
    workers: usize,
    observer: &dyn StudyObserver,
) -> Result<(Model, HealInfo)> {
    let key = heal_key(kept, recipe, responses.key(), workers);
    let directory = store.path("heal", &key, "model")?;
    let base = subject.text.engine.model();
    let (model, stats) = match find(store, responses, kept, recipe, workers)? {
        Some(stats) => (read(&directory, base, kept, recipe.method)?, stats),
        None => {
            let documents = documents(&subject.text, &responses.answers, recipe)?;
            let run = Run { workers, state: None };
            let healed = lopper_heal::heal(base, kept, &documents, recipe, &run, &mut |p| {
                observer.work(p.tokens as usize, p.total_tokens as usize);
                subject.text.engine.check_interrupt()
            })?;
            write(&directory, &healed)?;
            store.put("heal", &key, &healed.stats, healed.stats.seconds)?;
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
    Ok((model, info))
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
            let config = families::config_json(&healed.model.config, Dtype::F32)?;
            save_model(partial.path(), &healed.model, &config, Dtype::F32)?;
        }
    }
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::rename(partial.keep(), directory).with_context(|| format!("writing {}", directory.display()))
}

fn read(directory: &Path, base: &Model, kept: &[usize], method: Method) -> Result<Model> {
    if method == Method::Full {
        return Checkpoint::open(directory)?.load_model();
    }
    let mut model = base.keep(kept);
    let layers = model.all_layers();
    lopper_heal::load_adapter(directory, &mut model, &layers)?;
    lopper_heal::merge(&mut model);
    Ok(model)
}
