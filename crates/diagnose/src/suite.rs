//! All diagnostics of one model and any number of its cuts: tasks, probes, open prompts and held-out text, tokenized once.
//!
//! Where the tasks measure the same as a probe (`pocket_arith`, `pocket_brackets`, any task answered in text), the probe is
//! left out.

use anyhow::Result;
use lopper_infer::{Generation, Request, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::{Group, Split};
use lopper_record::study::{Arithmetic, Brackets, Degeneration, Diagnosis, LedgerEntry};
use lopper_tasks::{GenerationPolicy, ItemSelection, Replies, Resources, Suite, TaskOutcome};
use rayon::prelude::*;

use crate::arithmetic::{ArithmeticItem, ArithmeticProbe, DigitLogprobs};
use crate::brackets::BracketProbe;
use crate::degeneration::{DegenerationTally, text_metrics};
use crate::many::{Cut, generate_each, loglikelihood_each, token_logprobs_each};
use crate::outcomes::{Outcomes, diagnose_outcomes, is_text};
use crate::{arithmetic, probe_set, sentinel};

/// What a diagnosis measures.
#[derive(Clone)]
pub struct DiagnosticOptions {
    /// Tasks to evaluate; may be empty.
    pub tasks: Vec<String>,
    /// Which items. Its split and seed hold for the probes and prompts as well, its limit for each task, each probe, and
    /// the prompts.
    pub selection: ItemSelection,
    /// How responses are produced.
    pub policy: GenerationPolicy,
    /// Where rows are read from, and what runs programs.
    pub resources: Resources,
    /// Arithmetic items in place of the default ones, and where they come from.
    pub arithmetic: Option<(Vec<ArithmeticItem>, String)>,
    /// Conversations in place of the default open prompts.
    pub prompts: Option<Vec<Vec<Message>>>,
    /// Most tokens of a response to a prompt.
    pub max_new_tokens: usize,
    /// Tokens of held-out text for perplexity.
    pub text_tokens: usize,
}

impl DiagnosticOptions {
    /// The default probes with `limit` items each, decoded greedily.
    pub fn new(tasks: Vec<String>, limit: usize, seed: u64) -> Self {
        Self {
            tasks,
            selection: ItemSelection::new(Split::Report, limit, seed),
            policy: GenerationPolicy { sampling_seed: seed, ..GenerationPolicy::default() },
            resources: Resources::default(),
            arithmetic: None,
            prompts: None,
            max_new_tokens: 256,
            text_tokens: 4096,
        }
    }
}

/// All diagnostics tokenized for one model; the same for every cut of it, healed or not.
pub struct DiagnosticSuite {
    suite: Option<Suite>,
    arithmetic: Option<ArithmeticProbe>,
    brackets: Option<BracketProbe>,
    prompts: Vec<Request>,
    held_out: Vec<Vec<u32>>,
}

/// The results of one candidate.
#[derive(Debug, Clone, Default)]
pub struct CandidateResults {
    /// Outcomes of the tasks.
    pub outcomes: Outcomes,
    digits: Option<(Vec<DigitLogprobs>, Arithmetic)>,
    brackets: Option<Brackets>,
    degeneration: Option<Degeneration>,
    perplexity: Option<f64>,
}

impl DiagnosticSuite {
    /// Draws the items and tokenizes them.
    pub fn prepare(text: &TextModel, options: &DiagnosticOptions) -> Result<Self> {
        let DiagnosticOptions { selection, policy, resources, .. } = options;
        let ItemSelection { split, limit, seed, .. } = *selection;
        let text = &text.with_template_variables(&policy.template_variables)?;
        let suite = match options.tasks.is_empty() {
            true => None,
            false => Some(Suite::prepare(text, &options.tasks, selection, policy, resources)?),
        };
        let names: Vec<&str> = suite.iter().flat_map(Suite::tasks).collect();
        let has = |name: &str| names.contains(&name);
        let arithmetic = match &options.arithmetic {
            Some((items, source)) => Some(ArithmeticProbe::prepare(text, items, source.clone())?),
            None if has("pocket_arith") => None,
            None => Some(probe_set::arithmetic(text, split, limit, seed)?),
        };
        let brackets = if has("pocket_brackets") { None } else { Some(probe_set::brackets(text, split, limit, seed)?) };
        let generative = suite.iter().flat_map(Suite::groups).map(|group| group == Group::Generative);
        let probes = ["pocket_arith", "pocket_brackets"];
        let answered = names.iter().zip(generative).any(|(name, generative)| generative && !probes.contains(name));
        let conversations = match &options.prompts {
            Some(conversations) => conversations.iter().take(limit).cloned().collect(),
            None if answered => vec![],
            None => probe_set::open_prompts(text, split, limit, seed),
        };
        Ok(Self {
            suite,
            arithmetic,
            brackets,
            prompts: probe_set::requests(text, &conversations, options.max_new_tokens, policy.sampling, seed)?,
            held_out: probe_set::held_out(text, split, options.text_tokens, seed)?,
        })
    }

    /// Asks everything of every cut, in order; `observer` is told steps done and steps in all.
    pub fn run(
        &self,
        text: &TextModel,
        cuts: &[Cut],
        observer: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<CandidateResults>> {
        const PASSES: usize = 6;
        let (engine, total) = (&text.engine, PASSES * cuts.len());
        let part = |pass: usize| move |done: usize, _: usize| observer(pass * cuts.len() + done, total);
        let mut results: Vec<CandidateResults> = vec![CandidateResults::default(); cuts.len()];
        if let Some(suite) = &self.suite {
            let choices = loglikelihood_each(engine, cuts, &suite.requests().choices, &part(0))?;
            let generations = generate_each(engine, cuts, &suite.requests().generations, &part(1))?;
            for ((own, choices), generations) in results.iter_mut().zip(choices).zip(generations) {
                let replies = Replies { choices, generations, ..Replies::default() };
                let outcomes = suite.grade(text, &replies)?;
                own.degeneration = degeneration(&outcomes, &replies.generations);
                own.outcomes = outcomes.into_iter().map(|outcome| (outcome.task.clone(), outcome)).collect();
            }
        }
        if let Some(probe) = &self.arithmetic {
            let replies = loglikelihood_each(engine, cuts, &probe.requests(), &part(2))?;
            for (own, replies) in results.iter_mut().zip(replies) {
                let digits = probe.digit_logprobs(&replies)?;
                let figures = probe.summarize(&digits, None);
                own.digits = Some((digits, figures));
            }
        }
        if let Some(probe) = &self.brackets {
            let replies = generate_each(engine, cuts, probe.requests(), &part(3))?;
            for (own, replies) in results.iter_mut().zip(replies) {
                own.brackets = Some(probe.summarize(text, &replies)?);
            }
        }
        if !self.prompts.is_empty() {
            let replies = generate_each(engine, cuts, &self.prompts, &part(4))?;
            for (own, replies) in results.iter_mut().zip(replies) {
                let mut tally = DegenerationTally::default();
                tally.add_generations(text, &replies)?;
                own.degeneration = Some(tally.finish());
            }
        }
        let logprobs = token_logprobs_each(engine, cuts, &self.held_out, &part(5))?;
        for (own, logprobs) in results.iter_mut().zip(logprobs) {
            own.perplexity = sentinel::perplexity(&logprobs)?;
        }
        Ok(results)
    }
}

impl CandidateResults {
    /// The diagnosis; compared with the uncut model's results, where given, also the change in the digits' log-probability
    /// and the ledger, with its entries.
    pub fn diagnosis(&self, base: Option<&Self>) -> (Diagnosis, Vec<LedgerEntry>) {
        let (mut diagnosis, entries) = diagnose_outcomes(&self.outcomes, base.map(|base| &base.outcomes));
        if let Some((digits, figures)) = &self.digits {
            let before = base.and_then(|base| base.digits.as_ref()).map(|(digits, _)| digits.as_slice());
            let logprob_change = arithmetic::summarize(digits, before).logprob_change;
            diagnosis.arithmetic = Some(Arithmetic { logprob_change, ..figures.clone() });
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

/// Degeneration of the tasks answered in text, with the log-probabilities of their generations.
fn degeneration(outcomes: &[TaskOutcome], generations: &[Generation]) -> Option<Degeneration> {
    let generated: Vec<(bool, &str)> = outcomes
        .iter()
        .flat_map(|outcome| outcome.items.iter().map(move |item| (is_text(outcome), item)))
        .filter_map(|(text, item)| Some((text, item.response.as_deref()?)))
        .collect();
    // One generation for each item with a response, in order; otherwise log-probabilities cannot be assigned.
    if generated.len() != generations.len() {
        return None;
    }
    let responses: Vec<_> = generated
        .par_iter()
        .zip(generations)
        .filter(|((text, _), _)| *text)
        .map(|((_, response), generation)| (text_metrics(response), generation.into()))
        .collect();
    let mut tally = DegenerationTally::default();
    responses.iter().for_each(|(metrics, metadata)| tally.add(metrics, metadata));
    (!responses.is_empty()).then(|| tally.finish())
}
