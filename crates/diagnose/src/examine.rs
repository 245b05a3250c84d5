//! Examining one model at any number of cuts: everything that is asked of it, prepared once, and what the replies come
//! to.
//!
//! Tasks of an evaluation serve where they ask the same as a probe (`pocket_arith`, `pocket_brackets`, any task answered
//! in text); the probes of this module fill in what they do not cover.

use anyhow::{Result, ensure};
use lopper_infer::{GenerateOptions, Generation, Request, Sampling, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::{Group, Split};
use lopper_record::study::{Degeneration, Diagnosis, LedgerEntry};
use rayon::prelude::*;

use super::arithmetic::{ArithmeticItem, ArithmeticProbe, DigitReading};
use super::brackets::BracketProbe;
use super::degeneration::{Circumstances, Tally, text_figures};
use super::many::{Cut, generate_each, loglikelihood_each, token_logprobs_each};
use super::outcomes::{Outcomes, is_text, of_outcomes};
use super::{material, sentinel};
use lopper_tasks::BenchOptions;
use lopper_tasks::TaskOutcome;
use lopper_tasks::{EvalOptions, Suite};

/// What is asked.
#[derive(Clone)]
pub struct ExamineOptions {
    /// Tasks to evaluate; may be empty.
    pub tasks: Vec<String>,
    /// How they are, and from which split and with which seed everything else is drawn. Its limit holds for each task,
    /// each probe, and the prompts.
    pub eval: EvalOptions,
    /// How tasks over rows are asked, and where the rows lie.
    pub bench: BenchOptions,
    /// Arithmetic items in place of the usual ones, and where they are from.
    pub arithmetic: Option<(Vec<ArithmeticItem>, String)>,
    /// Conversations to answer in place of the usual open prompts.
    pub prompts: Option<Vec<Vec<Message>>>,
    /// Most tokens of an answer to a prompt.
    pub max_new_tokens: usize,
    /// Tokens of held-out text for perplexity.
    pub text_tokens: usize,
}

impl ExamineOptions {
    /// The usual probes with `limit` items each, answered greedily.
    pub fn new(tasks: Vec<String>, limit: usize, seed: u64) -> Self {
        Self {
            tasks,
            eval: EvalOptions { split: Split::Report, limit, seed, sampling: Sampling::Greedy, sampling_seed: seed },
            bench: BenchOptions::default(),
            arithmetic: None,
            prompts: None,
            max_new_tokens: 256,
            text_tokens: 4096,
        }
    }
}

/// Everything that is asked, in one model's tokens. Serves all of its cuts and their healed descendants.
pub struct Examination {
    suite: Option<Suite>,
    arithmetic: Option<ArithmeticProbe>,
    brackets: Option<BracketProbe>,
    prompts: Vec<Request>,
    held_out: Vec<Vec<u32>>,
}

/// What one cut replied, and the figures of it alone.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// Outcomes of the tasks.
    pub outcomes: Outcomes,
    digits: Option<(Vec<DigitReading>, lopper_record::study::Arithmetic)>,
    brackets: Option<lopper_record::study::Brackets>,
    degeneration: Option<Degeneration>,
    perplexity: Option<f64>,
}

impl Examination {
    /// Draws the items and turns them into requests.
    pub fn prepare(text: &TextModel, options: &ExamineOptions) -> Result<Self> {
        let EvalOptions { split, limit, seed, sampling, .. } = options.eval;
        let suite = match options.tasks.is_empty() {
            true => None,
            false => Some(Suite::prepare_with(text, &options.tasks, &options.eval, &options.bench)?),
        };
        let names: Vec<&str> = suite.iter().flat_map(Suite::tasks).collect();
        let has = |name: &str| names.contains(&name);
        let arithmetic = match &options.arithmetic {
            Some((items, source)) => Some(ArithmeticProbe::prepare(text, items, source.clone())?),
            None if has("pocket_arith") => None,
            None => Some(material::arithmetic(text, split, limit, seed)?),
        };
        let brackets = if has("pocket_brackets") { None } else { Some(material::brackets(text, split, limit, seed)?) };
        let generative = suite.iter().flat_map(Suite::groups).map(|group| group == Group::Generative);
        let probes = ["pocket_arith", "pocket_brackets"];
        let answered = names.iter().zip(generative).any(|(name, generative)| generative && !probes.contains(name));
        let conversations = match &options.prompts {
            Some(conversations) => conversations.iter().take(limit).cloned().collect(),
            None if answered => vec![],
            None => material::prompts(text, split, limit, seed).into_iter().map(|p| vec![Message::user(p)]).collect(),
        };
        Ok(Self {
            suite,
            arithmetic,
            brackets,
            prompts: material::requests(text, &conversations, options.max_new_tokens, sampling, seed)?,
            held_out: material::held_out(text, split, options.text_tokens, seed)?,
        })
    }

    /// Asks everything of every cut, in order; `observer` is told steps done and steps in all.
    pub fn run(
        &self,
        text: &TextModel,
        cuts: &[Cut],
        observer: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Examined>> {
        const PASSES: usize = 6;
        let (engine, total) = (&text.engine, PASSES * cuts.len());
        let part = |pass: usize| move |done: usize, _: usize| observer(pass * cuts.len() + done, total);
        let mut examined: Vec<Examined> = vec![Examined::default(); cuts.len()];
        if let Some(suite) = &self.suite {
            let choices = loglikelihood_each(engine, cuts, suite.loglik_requests(), &part(0))?;
            let generations = generate_each(engine, cuts, suite.generation_requests(), &part(1))?;
            for ((own, choices), generations) in examined.iter_mut().zip(choices).zip(generations) {
                let outcomes = suite.grade(text, &choices, &generations)?;
                own.degeneration = degeneration(&outcomes, &generations);
                own.outcomes = outcomes.into_iter().map(|outcome| (outcome.task.clone(), outcome)).collect();
            }
        }
        if let Some(probe) = &self.arithmetic {
            let replies = loglikelihood_each(engine, cuts, &probe.requests(), &part(2))?;
            for (own, replies) in examined.iter_mut().zip(replies) {
                let readings = probe.read(&replies)?;
                let figures = probe.figures(&readings, None);
                own.digits = Some((readings, figures));
            }
        }
        if let Some(probe) = &self.brackets {
            let replies = generate_each(engine, cuts, probe.requests(), &part(3))?;
            for (own, replies) in examined.iter_mut().zip(replies) {
                own.brackets = Some(probe.figures(text, &replies)?);
            }
        }
        if !self.prompts.is_empty() {
            let replies = generate_each(engine, cuts, &self.prompts, &part(4))?;
            for (own, replies) in examined.iter_mut().zip(replies) {
                own.degeneration = Some(tally(text, &replies)?);
            }
        }
        let logprobs = token_logprobs_each(engine, cuts, &self.held_out, &part(5))?;
        for (own, logprobs) in examined.iter_mut().zip(logprobs) {
            own.perplexity = sentinel::perplexity(&logprobs)?;
        }
        Ok(examined)
    }
}

impl Examined {
    /// Everything about this cut; against the uncut model, where given, with the change in log-probability and the
    /// ledger, whose entries come along.
    pub fn diagnosis(&self, base: Option<&Examined>) -> (Diagnosis, Vec<LedgerEntry>) {
        let (mut diagnosis, entries) = of_outcomes(&self.outcomes, base.map(|base| &base.outcomes));
        if let Some((readings, figures)) = &self.digits {
            let before = base.and_then(|base| base.digits.as_ref()).map(|(readings, _)| readings.as_slice());
            let change = super::arithmetic::figures(readings, before).logprob_change;
            diagnosis.arithmetic = Some(lopper_record::study::Arithmetic { logprob_change: change, ..figures.clone() });
        }
        if self.brackets.is_some() {
            diagnosis.brackets.clone_from(&self.brackets);
        }
        if self.degeneration.is_some() {
            diagnosis.degeneration.clone_from(&self.degeneration);
        }
        diagnosis.perplexity = self.perplexity;
        (diagnosis, entries)
    }
}

/// Degeneration of the tasks answered in text, with what their author made of each token.
fn degeneration(outcomes: &[TaskOutcome], generations: &[Generation]) -> Option<Degeneration> {
    let generated: Vec<(bool, &str)> = outcomes
        .iter()
        .flat_map(|outcome| outcome.items.iter().map(move |item| (is_text(outcome), item)))
        .filter_map(|(text, item)| Some((text, item.response.as_deref()?)))
        .collect();
    // One generation for each item with a response, in order; a suite that asks otherwise has no log-probabilities here.
    if generated.len() != generations.len() {
        return None;
    }
    let figures: Vec<_> = generated
        .par_iter()
        .zip(generations)
        .filter(|((text, _), _)| *text)
        .map(|((_, response), generation)| (text_figures(response), Circumstances::of(generation)))
        .collect();
    let mut tally = Tally::default();
    figures.iter().for_each(|(figures, around)| tally.add(figures, around));
    (!figures.is_empty()).then(|| tally.finish())
}

fn tally(text: &TextModel, generations: &[Generation]) -> Result<Degeneration> {
    let mut tally = Tally::default();
    for generation in generations {
        tally.add(&text_figures(&text.decode(&generation.tokens)?), &Circumstances::of(generation));
    }
    Ok(tally.finish())
}

/// Answers prompts and sums the answers up: degeneration of one cut on prompts of the caller's.
pub fn answer(text: &TextModel, kept: &[usize], requests: &[Request]) -> Result<Degeneration> {
    ensure!(!requests.is_empty(), "there is nothing to answer");
    tally(text, &text.engine.generate(kept, requests, &GenerateOptions::default(), &|_| {})?)
}
