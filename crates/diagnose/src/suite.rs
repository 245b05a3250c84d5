//! All diagnostics of one model and any number of its cuts: tasks, probes, open prompts and held-out text, tokenized
//! once.
//!
//! Where the tasks measure the same as a probe (`pocket_arith`, `pocket_brackets`, any task answered in text), the
//! probe is left out.

use lopper_infer::{Generation, TextModel};
use lopper_measure::{Execution, Outcomes, run_requests};
use lopper_model::chat::Conversation;
use lopper_pocket::{Group, Split};
use lopper_record::study::{Arithmetic, Degeneration, Diagnosis, LedgerEntry};
use lopper_record::{LayerSet, LayerSlot, Progress, Result};
use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Suite, TaskOutcome};
use rayon::prelude::*;

use crate::arithmetic::{self, ArithmeticItem, ArithmeticProbe};
use crate::degeneration::{DegenerationTally, text_metrics};
use crate::outcomes::{diagnose_outcomes, is_text};
use crate::probe_set::{self, OpenPrompts, ProbeResults, ProbeSet};

/// Most tokens of a response to an open prompt, where the policy has no length.
pub const RESPONSE_TOKENS: usize = 256;

/// What a diagnosis measures.
#[derive(Clone)]
pub struct DiagnosticOptions {
    /// Tasks to evaluate; may be empty.
    pub tasks: Vec<String>,
    /// Which items. Its split and seed hold for the probes and prompts as well, its limit for each task, each probe,
    /// and the prompts.
    pub selection: ItemSelection,
    /// How responses are produced, of tasks and of prompts.
    pub policy: GenerationPolicy,
    /// Where rows are read from, and what runs programs.
    pub resources: Resources,
    /// Arithmetic items in place of the default ones, and where they come from.
    pub arithmetic: Option<(Vec<ArithmeticItem>, String)>,
    /// Conversations in place of the default open prompts.
    pub prompts: Option<Vec<Conversation>>,
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
            text_tokens: 4096,
        }
    }
}

/// All diagnostics tokenized for one model; the same for every cut of it, healed or not.
pub struct DiagnosticSuite {
    tasks: Option<Suite>,
    probes: ProbeSet,
}

/// The results of one candidate.
#[derive(Debug, Clone, Default)]
pub struct CandidateResults {
    /// Outcomes of the tasks.
    pub outcomes: Outcomes,
    /// Of the tasks' responses, with log-probabilities.
    degeneration: Option<Degeneration>,
    probes: ProbeResults,
}

impl DiagnosticSuite {
    /// Draws the items and tokenizes them.
    pub fn prepare(text: &TextModel, options: &DiagnosticOptions) -> Result<Self> {
        let DiagnosticOptions { selection, policy, resources, .. } = options;
        let ItemSelection { split, limit, seed, .. } = *selection;
        let text = &text.with_template_variables(&policy.template_variables)?;
        let tasks = match options.tasks.is_empty() {
            true => None,
            false => Some(Suite::prepare(text, &options.tasks, selection, policy, resources)?),
        };
        let names: Vec<&str> = tasks.iter().flat_map(Suite::tasks).collect();
        let has = |name: &str| names.contains(&name);
        let arithmetic = match &options.arithmetic {
            Some((items, source)) => Some(ArithmeticProbe::prepare(text, items, source.clone())?),
            None if has("pocket_arith") => None,
            None => Some(probe_set::arithmetic(text, split, limit, seed)?),
        };
        let brackets = if has("pocket_brackets") { None } else { Some(probe_set::brackets(text, split, limit, seed)?) };
        let generative = tasks.iter().flat_map(Suite::groups).map(|group| group == Group::Generative);
        let probes = ["pocket_arith", "pocket_brackets"];
        let answered = names.iter().zip(generative).any(|(name, generative)| generative && !probes.contains(name));
        let conversations = match &options.prompts {
            Some(conversations) => conversations.iter().take(limit).cloned().collect(),
            None if answered => vec![],
            None => probe_set::open_prompts(text, split, limit, seed),
        };
        let prompts = OpenPrompts::prepare(text, &conversations, policy, RESPONSE_TOKENS)?;
        let held_out = probe_set::held_out(text, split, options.text_tokens, seed)?;
        Ok(Self { tasks, probes: ProbeSet { arithmetic, brackets, prompts, held_out } })
    }

    /// Measures every candidate, a set of layers to run; the results of each, in order.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the model's output is not finite;
    /// [`Interrupted`](lopper_record::Interrupted).
    pub fn run(
        &self,
        text: &TextModel,
        candidates: &[LayerSet<LayerSlot>],
        progress: &dyn Progress,
    ) -> Result<Vec<CandidateResults>> {
        let probes = self.probes.run(text, candidates, progress)?.into_iter();
        let mut results: Vec<_> = probes.map(|probes| CandidateResults { probes, ..Default::default() }).collect();
        if let Some(suite) = &self.tasks {
            let (replies, _) =
                run_requests(&text.engine, suite.requests(), candidates, &Execution::default(), progress)?;
            for (own, replies) in results.iter_mut().zip(replies) {
                let outcomes = suite.grade(text, &replies)?;
                own.degeneration = degeneration(&outcomes, &replies.generations);
                own.outcomes = outcomes.into_iter().map(|outcome| (outcome.task.clone(), outcome)).collect();
            }
        }
        Ok(results)
    }
}

impl CandidateResults {
    /// The diagnosis; compared with the uncut model's results, where given, also the change in the digits'
    /// log-probability and the ledger, with its entries.
    pub fn diagnosis(&self, base: Option<&Self>) -> (Diagnosis, Vec<LedgerEntry>) {
        let (mut diagnosis, entries) = diagnose_outcomes(&self.outcomes, base.map(|base| &base.outcomes));
        let probes = &self.probes;
        if let Some((digits, figures)) = &probes.digits {
            let before = base.and_then(|base| base.probes.digits.as_ref()).map(|(digits, _)| digits.as_slice());
            let logprob_change = arithmetic::summarize(digits, before).logprob_change;
            diagnosis.arithmetic = Some(Arithmetic { logprob_change, ..figures.clone() });
        }
        diagnosis.brackets = probes.brackets.clone().or(diagnosis.brackets);
        let degeneration = probes.degeneration.as_ref().or(self.degeneration.as_ref());
        diagnosis.degeneration = degeneration.cloned().or(diagnosis.degeneration);
        diagnosis.reasoning = probes.reasoning.clone().or(diagnosis.reasoning);
        diagnosis.perplexity = probes.perplexity.map(|mean| mean.value);
        diagnosis.perplexity_ci95 = probes.perplexity.and_then(|mean| mean.ci95);
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
