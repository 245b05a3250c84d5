//! The cells of healing: the uncut model's responses, and each cut finetuned on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lopper_heal::self_generated::examples_of;
use lopper_heal::{
    EvaluatedTexts, ExampleFilter, ExampleLimits, Examples, HealRecipe, HealStats, Healed, HoldOut, Method,
    OverlapCheck, PreparedPrompts, Renderer, Run, SelfGenerated, SgrOptions, SgrPrompt, TrainingSet,
};
use lopper_infer::{Sampling, TextModel};
use lopper_model::Model;
use lopper_model::checkpoint::{Array, Dtype, TensorView, save_safetensors};
use lopper_model::hf::WEIGHTS;
use lopper_record::study::{AnswerCounts, HealInfo, HealingRole};
use lopper_record::{Context, Fault, LayerPosition, LayerSet, NoProgress, Progress, Result, Store, key_hash};
use lopper_tasks::{AnswerCheck, TaskEntry};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::calibration::nothing_to_learn_from;
use crate::healing_data::{Answers, PromptSource};
use crate::identity::{HealKey, REVISION, ResponsesKey};
use crate::kept_answers::{self, LeftOut};
use crate::recipe::{POCKET, TASKS};
use crate::reference_answers::{self, ReferenceAnswers};
use crate::tasks::StudyTasks;
use crate::training::{PromptText, TrainingPrompt, TrainingPrompts};
use crate::{Recipe, StudyModel};

/// Longest response to prompts from a file, as `lopper generate` has it.
const LONGEST: usize = 1024;

/// Prompts that the uncut model responds to, and how.
pub struct ResponseGeneration<'a> {
    model: &'a StudyModel,
    recipe: &'a Recipe,
    tasks: Vec<String>,
    source: PromptSource,
    /// With their reference answers.
    training: Vec<TrainingPrompt>,
    /// Where they come from.
    gathered: &'a TrainingPrompts,
    prompts: Vec<SgrPrompt>,
    options: SgrOptions,
    /// The hash of prompts that tasks, number and seed do not determine.
    prompt_hash: Option<String>,
}

impl<'a> ResponseGeneration<'a> {
    /// `heal.prompts` of the training prompts.
    pub fn new(
        model: &'a StudyModel,
        tasks: &StudyTasks,
        gathered: &'a TrainingPrompts,
        recipe: &'a Recipe,
    ) -> Result<Self> {
        let (heal, seed) = (&recipe.heal, recipe.seed);
        let training: Vec<TrainingPrompt> = gathered.prompts(seed).take(heal.prompts).collect();
        let prompt = |training: &TrainingPrompt| match training.prompt.clone() {
            PromptText::Chat(conversation) => SgrPrompt::Chat(conversation),
            PromptText::Plain { prompt, stop, .. } => SgrPrompt::Plain { prompt, stop },
        };
        let prompts: Vec<SgrPrompt> = training.iter().map(prompt).collect();
        if prompts.is_empty() {
            return Err(nothing_to_learn_from().into());
        }
        let options = SgrOptions {
            sampling: Sampling::Sample { temperature: heal.temperature, top_k: None, top_p: Some(heal.top_p) },
            max_new_tokens: longest(tasks, recipe),
            seed,
            samples: heal.samples,
            // The pocket model has learned no system prompt.
            system: SgrOptions::default().system.filter(|_| recipe.model != POCKET),
            keep_unfinished: heal.recipe.limits(usize::MAX).cut_off,
            reasoning_markers: recipe.reasoning.markers(),
            // What is learned is how the model thinks by itself.
            max_thinking_tokens: None,
        }
        .with_rendered_system(&model.text);
        let determined =
            tasks.all_generated() && heal.data == TASKS && heal.max_new_tokens == 0 && options.system.is_none();
        let prompt_hash = if determined { None } else { Some(key_hash(&(&prompts, &options))?) };
        let source = PromptSource::of(recipe, tasks);
        Ok(Self { model, recipe, tasks: tasks.names(), source, training, gathered, prompts, options, prompt_hash })
    }

    /// The items that no answer may hold, and what counts as that.
    fn evaluated(&self) -> (&'a EvaluatedTexts, OverlapCheck) {
        let heal = &self.recipe.heal;
        (&self.gathered.evaluated, kept_answers::overlap_check(&heal.data, heal.filters.overlap))
    }

    fn key(&self) -> ResponsesKey<'_> {
        let Recipe { heal, template, reasoning, seed, .. } = self.recipe;
        ResponsesKey {
            revision: REVISION,
            model: &self.model.card.hash,
            tasks: &self.tasks,
            prompts: heal.prompts,
            temperature: heal.temperature,
            top_p: heal.top_p,
            seed: *seed,
            samples: heal.samples,
            keep: heal.keep,
            template,
            reasoning_markers: &reasoning.markers,
            prompt_hash: self.prompt_hash.as_deref(),
        }
    }

    /// Renders every prompt, as the responses will need it; returns what its author may not expect, a sentence each.
    ///
    /// # Errors
    /// A [`Fault`] for a prompt that the chat template refuses, and for a control without reference answers.
    pub fn check(&self) -> Result<Vec<String>> {
        let heal = &self.recipe.heal;
        if heal.control && self.training.iter().all(|prompt| prompt.reference.trim().is_empty()) {
            return Err(reference_answers::missing(&heal.data).into());
        }
        let can_tell = |check: &AnswerCheck| check.can_tell(self.gathered.code.is_some());
        if !heal.keep.is_all() && !self.training.iter().any(|prompt| prompt.check.as_ref().is_some_and(can_tell)) {
            return Err(kept_answers::nothing_to_verify(&heal.data).into());
        }
        Ok(PreparedPrompts::new(&self.model.text, &self.prompts, &self.options)?.remarks())
    }

    /// How many responses there will be.
    pub fn len(&self) -> usize {
        self.prompts.len() * self.options.samples
    }

    /// The uncut model's responses to the first `count` prompts as examples, finished or not: to see what it takes.
    pub fn sample(&self, count: usize) -> Result<Examples> {
        let text = &self.model.text;
        let options = SgrOptions { keep_unfinished: true, samples: 1, ..self.options.clone() };
        let prompts = &self.prompts[..count.min(self.prompts.len())];
        let layers = text.engine.all_layers();
        let answers = lopper_heal::generate_responses(text, &layers, prompts, &options, &NoProgress)?;
        let limits = limits(text, &self.recipe.heal.recipe);
        examples_of(&answers.rows, &Renderer::of(text), limits, &mut ExampleFilter::none())
    }

    /// Whether the cell of the responses is there.
    pub fn is_finished(&self, store: &Store) -> Result<bool> {
        Ok(store.path("responses", &self.key(), "json")?.exists())
    }

    /// The responses, where an earlier run has them.
    pub fn found(self, store: &Store) -> Result<Option<Responses<'a>>> {
        let answers = store.get("responses", &self.key())?;
        answers.map(|answers| Responses::new(answers, self)).transpose()
    }

    /// Lets the uncut model respond. Returns also the seconds it took when it was done, and whether an earlier run did
    /// it.
    pub fn run(self, store: &Store, progress: &dyn Progress) -> Result<(Responses<'a>, f64, bool)> {
        let finished = store.run("responses", &self.key(), progress, || {
            let text = &self.model.text;
            let (layers, options) = (text.engine.all_layers(), &self.options);
            let mut made = lopper_heal::generate_responses(text, &layers, &self.prompts, options, progress)?;
            if !self.recipe.heal.keep.is_all() {
                kept_answers::verify(&mut made, &self.training, options, self.gathered.code.as_deref())?;
            }
            Ok(made)
        })?;
        Ok((Responses::new(finished.value, self)?, finished.wall_s, finished.cached))
    }
}

/// The longest response: what the recipe says, or the most that a task allows.
fn longest(tasks: &StudyTasks, recipe: &Recipe) -> usize {
    if recipe.heal.max_new_tokens > 0 {
        return recipe.heal.max_new_tokens;
    }
    if recipe.heal.data != TASKS {
        return LONGEST;
    }
    // A choice has no length of its own; it is a word or two.
    let of_task = |entry: &TaskEntry| match (&entry.rows, entry.max_new_tokens) {
        (Some(_), Some(own)) if recipe.rows.max_new_tokens == 0 => own,
        (Some(_), Some(_)) => recipe.rows.max_new_tokens,
        (Some(_), None) => 32,
        (None, own) => own.unwrap_or(0).max(8),
    };
    tasks.entries.iter().map(of_task).max().unwrap_or(8)
}

/// What examples may be: a rendered answer may take more tokens than were drawn, and what does not fit the context is
/// left out as well.
fn limits(text: &TextModel, recipe: &HealRecipe) -> ExampleLimits {
    recipe.limits(text.engine.model().config.max_position_embeddings)
}

/// The uncut model's responses, with what identifies them; and the data's own answers, where they are a control.
pub struct Responses<'a> {
    answers: SelfGenerated,
    /// What was left out of them for overlap.
    overlap: LeftOut,
    reference: Option<ReferenceAnswers>,
    generation: ResponseGeneration<'a>,
}

impl<'a> Responses<'a> {
    fn new(mut answers: SelfGenerated, generation: ResponseGeneration<'a>) -> Result<Self> {
        let overlap = kept_answers::without_overlap(&mut answers.rows, |row| &row.text, generation.evaluated())?;
        let count: usize = overlap.tasks.values().sum();
        answers.counts.overlap += count;
        answers.counts.used -= count;
        Ok(Self { answers, overlap, reference: None, generation })
    }

    /// Takes in the data's answers to the prompts whose own responses are learned from.
    ///
    /// # Errors
    /// A [`Fault`] where the data has none.
    pub fn prepare_control(&mut self) -> Result<()> {
        let ResponseGeneration { training, options, recipe, .. } = &self.generation;
        let evaluated = self.generation.evaluated();
        let reference = ReferenceAnswers::of(&self.answers.rows, training, options, (&recipe.heal.data, evaluated))?;
        self.reference = Some(reference);
        Ok(())
    }

    /// The examples that responses or reference answers are.
    fn examples(&self, text: &TextModel, whose: Answers, recipe: &HealRecipe) -> Result<LearnedExamples> {
        let limits = limits(text, recipe);
        let renderer = Renderer::of(text);
        // What overlaps with evaluated items is out already.
        let mut filter = ExampleFilter::new(&self.generation.recipe.heal.filters, None);
        let (examples, counts) = match (whose, &self.reference) {
            (Answers::Reference, Some(reference)) => {
                let mut examples = Examples::default();
                for (index, example) in reference.examples.iter().enumerate() {
                    examples.add(&renderer, index + 1, example, limits, &mut filter)?;
                }
                let counts = reference.counts.then(examples.report.counts());
                (examples, counts)
            }
            _ => {
                let examples = examples_of(&self.answers.rows, &renderer, limits, &mut filter)?;
                let counts = self.answers.counts.then(examples.report.counts());
                (examples, counts)
            }
        };
        if examples.documents.is_empty() {
            let what = match whose {
                Answers::SelfGenerated | Answers::Verified => "the uncut model gave no response to learn from",
                Answers::Reference => "no reference answer can be learned from",
            };
            return Err(Fault::new(what)
                .expected("at least one finished response")
                .got(counts.sentence())
                .hint("raise `heal.prompts`, or `heal.max_new_tokens` where responses are cut off")
                .into());
        }
        Ok(LearnedExamples { set: examples.hold_out(HoldOut::Tenth), counts })
    }
}

/// Examples to train on, and what became of the answers.
struct LearnedExamples {
    set: TrainingSet,
    counts: AnswerCounts,
}

/// What the cell of a healed cut holds.
#[derive(Serialize, Deserialize)]
struct HealCell {
    stats: HealStats,
    answers: AnswerCounts,
    /// Answers that were held out.
    held_out: usize,
}

/// A cut to be healed, and how.
#[derive(Clone, Copy)]
pub struct HealCut<'a> {
    pub responses: &'a Responses<'a>,
    /// The layers that stay.
    pub kept: &'a LayerSet<LayerPosition>,
    pub recipe: &'a HealRecipe,
    pub role: HealingRole,
    pub workers: usize,
}

impl HealCut<'_> {
    fn whose(&self) -> Answers {
        match self.role {
            HealingRole::Control => Answers::Reference,
            _ if self.responses.generation.recipe.heal.keep.is_all() => Answers::SelfGenerated,
            _ => Answers::Verified,
        }
    }

    /// What was left out for overlap, of the prompts and of the answers.
    fn overlap(&self) -> BTreeMap<String, usize> {
        let reference = self.responses.reference.as_ref().filter(|_| self.whose() == Answers::Reference);
        let answers = reference.map_or(&self.responses.overlap, |reference| &reference.overlap);
        let mut all = self.responses.generation.gathered.overlap.clone();
        for (task, count) in &answers.tasks {
            *all.entry(task.clone()).or_default() += count;
        }
        all
    }

    /// Identifies the healed model.
    pub fn key(&self) -> HealKey<'_> {
        let Self { responses, kept, recipe, workers, .. } = *self;
        let reference = responses.reference.as_ref().filter(|_| self.whose() == Answers::Reference);
        let reference = reference.map(|reference| reference.hash.as_str());
        let (responses, overlap) = (responses.generation.key(), responses.overlap.hash.as_deref());
        let filters = &self.responses.generation.recipe.heal.filters;
        HealKey { revision: REVISION, kept, recipe, responses, filters, overlap, reference, workers }
    }

    /// The directory of the adapter, or of the new weights.
    fn directory(&self, store: &Store) -> Result<PathBuf> {
        store.path("heal", &self.key(), "model")
    }

    /// Whether an earlier run has finished it; whether it can be read shows when it is used.
    pub fn is_finished(&self, store: &Store) -> Result<bool> {
        Ok(store.path("heal", &self.key(), "json")?.exists() && self.directory(store)?.is_dir())
    }

    /// Whether it is neither finished nor claimed by another process.
    pub fn is_free(&self, store: &Store) -> Result<bool> {
        Ok(!self.is_finished(store)? && store.claim("heal", &self.key())?.is_some())
    }

    /// The healed model as an earlier run left it; damage is a warning, and reason to train again.
    fn find(&self, store: &Store, base: &Model) -> Result<Option<(Model, HealCell)>> {
        let directory = self.directory(store)?;
        if !directory.is_dir() {
            return Ok(None);
        }
        let Some(cell) = store.get("heal", &self.key())? else { return Ok(None) };
        match read(&directory, base, self.kept, self.recipe.method) {
            Ok(model) => Ok(Some((model, cell))),
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                store.warn(format!("{}: {first}; the cut is healed again", directory.display()));
                Ok(None)
            }
        }
    }

    /// The cut healed: trained now, or read from an earlier run. The model holds only the kept layers, with
    /// their adapter.
    ///
    /// While another process trains it, `meanwhile` is called, which says whether it did something.
    pub fn heal(
        &self,
        store: &Store,
        model: &StudyModel,
        progress: &dyn Progress,
        mut meanwhile: impl FnMut() -> Result<bool>,
    ) -> Result<HealedCut> {
        let (recipe, whose) = (self.recipe, self.whose());
        let base = model.text.engine.model();
        let mut claim = None;
        let mut found = self.find(store, base)?;
        while found.is_none() && claim.is_none() {
            claim = store.claim("heal", &self.key())?;
            // Another process may have trained it since.
            found = self.find(store, base)?;
            if claim.is_none() && found.is_none() && !meanwhile()? {
                Store::wait(progress)?;
            }
        }
        let cached = found.is_some();
        let (model, cell) = match found {
            Some(found) => found,
            None => {
                let LearnedExamples { set, counts } = self.responses.examples(&model.text, whose, recipe)?;
                let stop_tokens = &model.text.special.eos;
                let run = Run { held_out: &set.held_out, stop_tokens, ..Run::with_workers(self.workers) };
                let healed = lopper_heal::heal(base, self.kept, &set.train, recipe, &run, progress)?;
                write(&self.directory(store)?, &healed)?;
                let cell = HealCell { stats: healed.stats, answers: counts, held_out: set.held_out_examples };
                store.put("heal", &self.key(), &cell, cell.stats.seconds)?;
                (healed.model, cell)
            }
        };
        let HealCell { stats, answers, held_out } = cell;
        let source = &self.responses.generation.source;
        let info = HealInfo {
            role: self.role,
            data: source.describe(answers.used.saturating_sub(held_out), whose),
            in_distribution: source.in_distribution,
            answers: Some(answers),
            checked: match whose {
                Answers::Verified => self.responses.answers.checked.clone(),
                _ => vec![],
            },
            overlap: self.overlap(),
            held_out,
            ..stats.info(recipe)
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

/// Writes what training changed into `directory`, which appears whole or not at all: an adapter in
/// PEFT's layout, or a whole model.
fn write(directory: &Path, healed: &Healed) -> Result<()> {
    let parent = directory.parent().context("a cell has a directory")?;
    let partial = tempfile::Builder::new().prefix(".heal").suffix(".partial").tempdir_in(parent)?;
    match healed.recipe.method {
        Method::Lora => healed.save_adapter(partial.path(), None)?,
        Method::Full => {
            let parameters = healed.model.parameters();
            let values: Vec<_> = parameters.iter().map(|(_, param)| param.values()).collect();
            let arrays: Vec<Array<'_>> = parameters
                .iter()
                .zip(&values)
                .map(|((name, param), values)| Array {
                    name: name.clone(),
                    shape: vec![param.rows, param.cols],
                    values,
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

fn read(directory: &Path, base: &Model, kept: &LayerSet<LayerPosition>, method: Method) -> Result<Model> {
    if method == Method::Full {
        let bytes = std::fs::read(directory.join(WEIGHTS))?;
        let tensors = SafeTensors::deserialize(&bytes).context("the healed weights of a cell")?;
        return Model::build(base.config.keep(kept), &mut |name, _| {
            let view = tensors.tensor(name).with_context(|| format!("`{name}` of a healed cut"))?;
            TensorView { dtype: view.dtype(), shape: view.shape(), data: view.data() }.to_f32()
        });
    }
    let mut model = base.keep(kept);
    let layers = LayerSet::all(model.num_layers());
    lopper_heal::load_adapter(directory, &mut model, &layers)?;
    Ok(model)
}
