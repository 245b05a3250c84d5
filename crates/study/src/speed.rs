//! How fast the uncut model and the cuts of the main strategy read and generate on this machine.
//!
//! As llama-bench does: prefill is the rate of reading a prompt, decode the rate of generating from an empty context,
//! both for one sequence and for several together. All models are measured in turn, round after round, so that a
//! machine that is busy for a while slows all of them; the rates are medians over the rounds. They are one cell, whose
//! key names the processor: a study that goes on elsewhere measures again.

use std::time::Instant;

use lopper_infer::{Engine, GenerateOptions, Request};
use lopper_measure::Outcomes;
use lopper_record::study::{Point, Speed, SpeedAtBatch};
use lopper_record::{LayerPosition, LayerSet, LayerSlot, NoProgress, Progress, Result};
use lopper_stats::mean;
use serde::{Deserialize, Serialize};

use crate::identity::{REVISION, SpeedKey};
use crate::runner::Study;
use crate::stage::Stage;

/// Sequences that run together.
const BATCHES: [usize; 2] = [1, 8];
/// Rounds over all models; odd, so that a median is one of the values.
const ROUNDS: usize = 3;
/// Fewest and most tokens of a prompt, and of a generation.
const PROMPT_TOKENS: (usize, usize) = (32, 128);
const NEW_TOKENS: (usize, usize) = (8, 32);
/// Seconds that reading one prompt, and generating one answer, should take of the uncut model.
const PROMPT_SECONDS: f64 = 0.1;
const ANSWER_SECONDS: f64 = 0.25;

/// What the cell of the speeds holds.
#[derive(Default, Serialize, Deserialize)]
struct SpeedCell {
    prompt_tokens: usize,
    /// Rates of each model, in the order of the key's.
    rates: Vec<Vec<SpeedAtBatch>>,
}

/// Rates of the uncut model and of cuts.
#[derive(Default)]
pub struct Speeds {
    processor: String,
    cell: SpeedCell,
    /// The models, by their kept layers; empty where nothing was measured.
    models: Vec<LayerSet<LayerPosition>>,
}

impl Study<'_> {
    /// Measures the uncut model and the cuts of the main strategy, or finds them measured on this processor.
    pub fn measure_speeds(&mut self, main: &str) -> Result<Speeds> {
        if !self.recipe.speed.measure {
            return Ok(Speeds::default());
        }
        let numbering = &self.model.numbering;
        let cuts = self.record.points.iter().filter(|point| point.strategy == main && point.healed.is_none());
        let cuts = cuts.map(|point| numbering.kept(&point.dropped)).collect::<Result<Vec<_>>>()?;
        let models: Vec<_> = std::iter::once(self.model.layers()).chain(cuts).collect();
        let (processor, engine) = (processor(), &self.model.text.engine);
        let key = self.speed_key(&models, &processor);
        let found = self.store.path("speed", &key, "json")?.exists();
        let mut stage = Stage::begin(self.progress, "speed", 1, usize::from(found));
        let finished = self.store.run("speed", &key, self.progress, || {
            let progress = stage.cell(&format!("reading and generating with {} models", models.len()));
            let slots: Vec<_> = models.iter().map(LayerSet::slots).collect();
            measure(engine, &slots, progress)
        })?;
        stage.count(finished.wall_s, finished.cached)?;
        self.finish(stage.timing())?;
        Ok(Speeds { processor, cell: finished.value, models })
    }

    fn speed_key<'b>(&'b self, models: &'b [LayerSet<LayerPosition>], processor: &'b str) -> SpeedKey<'b> {
        let threads = self.model.text.engine.threads();
        SpeedKey { revision: REVISION, model: &self.model.card.hash, models, processor, threads }
    }

    /// Whether an earlier run has measured these models on this processor.
    pub fn has_speeds(&self, models: &[LayerSet<LayerPosition>]) -> Result<bool> {
        Ok(self.store.path("speed", &self.speed_key(models, &processor()), "json")?.exists())
    }

    /// Puts sizes, rates and the length of answers into the points of the uncut model and of the main strategy's cuts.
    pub fn enter_speeds(&mut self, speeds: &Speeds, main: &str, base: &Outcomes, cuts: &[(usize, Outcomes)]) {
        let mut speed = self.speed(speeds, &self.model.layers());
        speed.tokens_per_answer = self.tokens_per_answer(base);
        self.record.base.iter_mut().for_each(|base| base.speed = Some(speed.clone()));
        for (depth, outcomes) in cuts {
            let tokens_per_answer = self.tokens_per_answer(outcomes);
            let Some(at) = self.cut_of(main, *depth) else { continue };
            let Ok(kept) = self.model.numbering.kept(&self.record.points[at].dropped) else { continue };
            self.record.points[at].speed = Some(Speed { tokens_per_answer, ..self.speed(speeds, &kept) });
        }
    }

    /// The speed of a healed cut: its adapter can be merged, so it is that of the cut, with answers of its own length.
    pub fn healed_speed(&self, main: &str, depth: usize, outcomes: &Outcomes) -> Option<Speed> {
        let cut = self.record.points[self.cut_of(main, depth)?].speed.clone()?;
        Some(Speed { tokens_per_answer: self.tokens_per_answer(outcomes), ..cut })
    }

    /// The point of a cut before healing.
    fn cut_of(&self, strategy: &str, depth: usize) -> Option<usize> {
        let is_it = |point: &Point| point.strategy == strategy && point.removed == depth && point.healed.is_none();
        self.record.points.iter().position(is_it)
    }

    fn speed(&self, speeds: &Speeds, kept: &LayerSet<LayerPosition>) -> Speed {
        let card = &self.model.card;
        let dropped = kept.complement(card.num_layers);
        let removed: u64 = dropped.indices().filter_map(|layer| card.parameters_per_layer.get(layer)).sum();
        let parameters = card.parameters.saturating_sub(removed);
        let config = &self.model.text.engine.model().config;
        let sizes = Speed {
            parameters,
            weight_bytes: parameters * bytes_of(&card.dtype),
            kv_bytes_per_token: config.kv_bytes_per_layer() * kept.len() as u64,
            ..Speed::default()
        };
        let measured = speeds.models.iter().position(|model| model == kept).and_then(|at| speeds.cell.rates.get(at));
        match measured {
            None => sizes,
            Some(rates) => Speed {
                processor: speeds.processor.clone(),
                threads: self.model.text.engine.threads(),
                prompt_tokens: speeds.cell.prompt_tokens,
                rates: rates.clone(),
                ..sizes
            },
        }
    }

    /// Mean tokens of an answer over the items of each generative task, then over the tasks.
    fn tokens_per_answer(&self, outcomes: &Outcomes) -> Option<f64> {
        let of_task = |task: &String| {
            let outcome = outcomes.get(task).filter(|outcome| outcome.timings.len() == outcome.items.len())?;
            let tokens: Vec<f64> = outcome
                .timings
                .iter()
                .zip(&outcome.items)
                .map(|(timing, item)| timing.new_tokens as f64 / item.samples.len().max(1) as f64)
                .collect();
            (!tokens.is_empty()).then(|| mean(&tokens))
        };
        let tasks: Vec<f64> = self.tasks.generative().iter().filter_map(of_task).collect();
        (!tasks.is_empty()).then(|| mean(&tasks))
    }
}

/// Bytes of a parameter by the name of its type; 4 for one that is not known.
pub fn bytes_of(dtype: &str) -> u64 {
    match dtype {
        "bfloat16" | "float16" => 2,
        "float64" => 8,
        name if name.starts_with("float8") || name == "int8" || name == "uint8" => 1,
        _ => 4,
    }
}

/// The name of this machine's processor.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    let name = name.map(|name| name.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| format!("{} ({})", std::env::consts::ARCH, std::env::consts::OS))
}

/// Seconds of all rounds for the uncut model.
pub fn seconds_of_a_model(engine: &Engine) -> Result<f64> {
    let uncut = engine.all_layers();
    lengths(engine, &uncut)?;
    let began = Instant::now();
    measure(engine, &[uncut], &NoProgress)?;
    Ok(began.elapsed().as_secs_f64())
}

/// How much is read and generated, so that one measurement of the uncut model takes long enough and not longer.
#[derive(Clone, Copy)]
struct Lengths {
    prompt: usize,
    new: usize,
}

fn measure(engine: &Engine, models: &[LayerSet<LayerSlot>], progress: &dyn Progress) -> Result<SpeedCell> {
    let Some(uncut) = models.first() else { return Ok(SpeedCell::default()) };
    let lengths = lengths(engine, uncut)?;
    // By model, then by batch; seconds of each round.
    let mut seconds = vec![[(vec![], vec![]), (vec![], vec![])]; models.len()];
    for round in 0..ROUNDS {
        for at in 0..models.len() {
            // Every round begins with another model, since what ran before leaves its weights in the caches.
            let at = (at + round * models.len() / ROUNDS) % models.len();
            for (batch, (read, generate)) in BATCHES.into_iter().zip(&mut seconds[at]) {
                read.push(time(engine, &models[at], batch, lengths.prompt, 1)?);
                generate.push(time(engine, &models[at], batch, 1, lengths.new)?);
                progress.check()?;
            }
        }
    }
    let rates = |seconds: &[(Vec<f64>, Vec<f64>); BATCHES.len()]| {
        let of_batch = |(batch, (read, generate)): (usize, &(Vec<f64>, Vec<f64>))| SpeedAtBatch {
            batch,
            prefill: (batch * lengths.prompt) as f64 / median(read),
            decode: (batch * lengths.new) as f64 / median(generate),
            decode_range: Some(extremes(generate).map(|seconds| (batch * lengths.new) as f64 / seconds)),
            repetitions: ROUNDS,
        };
        BATCHES.into_iter().zip(seconds).map(of_batch).collect()
    };
    Ok(SpeedCell { prompt_tokens: lengths.prompt, rates: seconds.iter().map(rates).collect() })
}

/// Lengths for the uncut model, after a warm-up.
fn lengths(engine: &Engine, uncut: &LayerSet<LayerSlot>) -> Result<Lengths> {
    let context = engine.model().config.max_position_embeddings;
    let fitting = |(fewest, most): (usize, usize), seconds_per_token: f64, wanted: f64| {
        let tokens = (wanted / seconds_per_token.max(1e-9)) as usize;
        tokens.clamp(fewest, most).min(context.saturating_sub(1)).max(1)
    };
    let (prompt, new) = (PROMPT_TOKENS.0.min(context.saturating_sub(1)).max(1), NEW_TOKENS.0.min(context));
    // The first call prepares the weights.
    time(engine, uncut, 1, prompt, 1)?;
    let read = time(engine, uncut, 1, prompt, 1)? / prompt as f64;
    let generate = time(engine, uncut, 1, 1, new)? / new as f64;
    Ok(Lengths {
        prompt: fitting(PROMPT_TOKENS, read, PROMPT_SECONDS),
        new: fitting(NEW_TOKENS, generate, ANSWER_SECONDS),
    })
}

/// Seconds to continue `batch` different prompts of `prompt` tokens by `new` tokens.
fn time(engine: &Engine, model: &LayerSet<LayerSlot>, batch: usize, prompt: usize, new: usize) -> Result<f64> {
    let vocabulary = engine.model().config.vocab_size;
    // No prompt begins like another one, since common beginnings are computed once.
    let tokens = |at: usize| (0..prompt).map(|i| ((1 + at * 131 + i * 17) % vocabulary) as u32).collect::<Vec<u32>>();
    let requests: Vec<Request> = (0..batch).map(|at| Request::greedy(tokens(at), new)).collect();
    let options = GenerateOptions { batch, ..GenerateOptions::default() };
    let began = Instant::now();
    engine.generate(model, &requests, &options, &NoProgress)?;
    Ok(began.elapsed().as_secs_f64())
}

/// The longest and the shortest.
fn extremes(seconds: &[f64]) -> [f64; 2] {
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    [longest, seconds.iter().copied().fold(longest, f64::min)]
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_testkit::{Tiny, tiny_model};

    #[test]
    fn rates_are_there_for_each_model_and_batch() {
        let engine = Engine::new(tiny_model(Tiny::default(), 1), 1).unwrap();
        let models = [engine.all_layers(), [0, 2].into()];
        let cell = measure(&engine, &models, &NoProgress).unwrap();
        assert_eq!(cell.rates.len(), 2);
        for rates in &cell.rates {
            assert_eq!(rates.iter().map(|at| at.batch).collect::<Vec<_>>(), BATCHES);
            assert!(rates.iter().all(|at| at.prefill > 0.0 && at.repetitions == ROUNDS));
            let within = |at: &SpeedAtBatch| at.decode_range.is_some_and(|[a, b]| a <= at.decode && at.decode <= b);
            assert!(rates.iter().all(|at| at.decode > 0.0 && within(at)));
        }
        assert!((1..=PROMPT_TOKENS.1).contains(&cell.prompt_tokens));
    }

    #[test]
    fn small_helpers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
        assert_eq!((bytes_of("bfloat16"), bytes_of("float32"), bytes_of("")), (2, 4, 4));
        assert!(!processor().is_empty());
    }
}
