//! Sentinels: probes cheap enough to run on every cut of a search or study. They find cuts of which nothing is left
//! before those are measured in full. And the gap alarm, raised where classification hides what generation has lost
//! (NVIDIA's search by MMLU showed .508 where GSM8K was already at .011).

use std::collections::BTreeMap;

use lopper_infer::TextModel;
use lopper_model::chat::ReasoningMarkers;
use lopper_pocket::Split;
use lopper_record::study::{CLASSIFICATION, GENERATIVE, GapAlarm, GroupResult, SentinelReading};
use lopper_record::{LayerSet, LayerSlot, Progress, Result, Retention};
use lopper_tasks::GenerationPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::probe_set::{self, OpenPrompts, ProbeSet};

mod probes;

pub use probes::{ProbeGaps, SentinelProbes};

/// The default threshold of the gap alarm: the difference of classification's and generation's retention. With a
/// hundred items the 95 % interval of a task's retention is about ± 0.1, so a smaller threshold would raise false
/// alarms; where it mattered, the difference was 0.45 (the pocket model without 7 of 12 layers) and 0.67 (NVIDIA's
/// Qwen3-8B).
pub const GAP_THRESHOLD: f64 = 0.2;

/// Sizes of the probes. The defaults cost about as much as scoring two thousand tokens and generating three hundred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentinelOptions {
    /// Items of the arithmetic probe.
    pub arithmetic: usize,
    /// Items of the bracket probe.
    pub brackets: usize,
    /// Open prompts.
    pub responses: usize,
    /// Most tokens of a response to an open prompt.
    pub response_tokens: usize,
    /// Tokens of held-out text.
    pub text_tokens: usize,
    /// Seed of the items.
    pub seed: u64,
    /// Variables of the chat template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_variables: BTreeMap<String, Value>,
    /// Between which texts the model reasons, where not between those of its own tokenizer or template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_markers: Option<ReasoningMarkers>,
}

impl Default for SentinelOptions {
    fn default() -> Self {
        let (arithmetic, brackets, responses, response_tokens, text_tokens) = (24, 12, 4, 40, 512);
        let (template_variables, reasoning_markers) = (BTreeMap::new(), None);
        let seed = 0;
        Self {
            arithmetic,
            brackets,
            responses,
            response_tokens,
            text_tokens,
            seed,
            template_variables,
            reasoning_markers,
        }
    }
}

/// The sentinels tokenized for one model; the same for every cut of it, healed or not.
pub struct Sentinels(ProbeSet);

impl Sentinels {
    /// Draws the items, from the split that layers are chosen on, since sentinels choose too.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for template variables where the model has no chat template.
    pub fn prepare(text: &TextModel, options: &SentinelOptions) -> Result<Self> {
        let text = &text.with_template_variables(&options.template_variables)?;
        let (split, seed) = (Split::Select, options.seed);
        let prompts = probe_set::open_prompts(text, split, options.responses, seed);
        let reasoning_markers = options.reasoning_markers.clone();
        let policy = GenerationPolicy { sampling_seed: seed, reasoning_markers, ..GenerationPolicy::default() };
        Ok(Self(ProbeSet {
            arithmetic: Some(probe_set::arithmetic(text, split, options.arithmetic, seed)?),
            brackets: Some(probe_set::brackets(text, split, options.brackets, seed)?),
            prompts: OpenPrompts::prepare(text, &prompts, &policy, options.response_tokens)?,
            held_out: probe_set::held_out(text, split, options.text_tokens, seed)?,
        }))
    }

    /// Measures the sentinels of every candidate, a set of layers to run, in order.
    ///
    /// # Errors
    /// Those of running it; [`Interrupted`](lopper_record::Interrupted).
    pub fn probe(
        &self,
        text: &TextModel,
        candidates: &[LayerSet<LayerSlot>],
        progress: &dyn Progress,
    ) -> Result<Vec<SentinelProbes>> {
        Ok(self.0.run(text, candidates, progress)?.into_iter().map(SentinelProbes::from).collect())
    }

    /// [`Sentinels::probe`], of which only what cuts are stopped by.
    ///
    /// # Errors
    /// Those of [`Sentinels::probe`].
    pub fn measure(
        &self,
        text: &TextModel,
        candidates: &[LayerSet<LayerSlot>],
        progress: &dyn Progress,
    ) -> Result<Vec<SentinelReading>> {
        Ok(self.probe(text, candidates, progress)?.iter().map(SentinelProbes::reading).collect())
    }
}

/// When a cut counts as collapsed: nothing is left of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CollapseThresholds {
    /// Retained fraction of the uncut model's accuracy (arithmetic, brackets), at or below which that ability is lost.
    pub accuracy: f64,
    /// Accuracy that the uncut model needs for the ability to be considered.
    pub usable: f64,
    /// Perplexity as a multiple of the uncut model's, at or above which the text is lost.
    pub perplexity: f64,
}

impl Default for CollapseThresholds {
    fn default() -> Self {
        Self { accuracy: 0.25, usable: 0.3, perplexity: 10.0 }
    }
}

impl CollapseThresholds {
    /// Why a cut has collapsed, from its sentinels and the uncut model's; none if it has not.
    ///
    /// Every ability that the uncut model has must be lost, and the text as well: without arithmetic and brackets a cut
    /// may still classify.
    pub fn collapsed(&self, base: &SentinelReading, cut: &SentinelReading) -> Option<String> {
        let mut parts = Vec::new();
        for (name, before, after) in
            [("arithmetic", base.arithmetic, cut.arithmetic), ("brackets", base.brackets, cut.brackets)]
        {
            let (Some(before), Some(after)) = (before, after) else { continue };
            if before < self.usable {
                continue;
            }
            if after > self.accuracy * before {
                return None;
            }
            parts.push(format!("{name} {:.0} → {:.0} %", before * 100.0, after * 100.0));
        }
        let before = base.perplexity?;
        let after = cut.perplexity.unwrap_or(f64::INFINITY);
        if parts.is_empty() || after < self.perplexity * before {
            return None;
        }
        parts.push(format!("perplexity {before:.2} → {after:.1}"));
        Some(parts.join(", "))
    }
}

/// The gap alarm: raised where classification's retention exceeds generation's by more than `threshold`; never where
/// one of them is undefined.
pub fn gap_alarm(classification: &Retention, generative: &Retention, threshold: f64) -> Option<GapAlarm> {
    let gap = classification.value - generative.value;
    (gap > threshold).then(|| GapAlarm {
        classification: classification.value,
        generative: generative.value,
        threshold,
        certain: classification.ci95[0] > generative.ci95[1],
    })
}

/// The gap alarm of a model's results by group of tasks, above chance; none where one of the two groups is missing, or
/// has no task that can be judged.
pub fn gap_alarm_of_groups(groups: &[GroupResult], threshold: f64) -> Option<GapAlarm> {
    let retention = |name: &str| groups.iter().find(|group| group.group == name)?.corrected;
    gap_alarm(&retention(CLASSIFICATION)?, &retention(GENERATIVE)?, threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(arithmetic: f64, brackets: f64, perplexity: f64) -> SentinelReading {
        SentinelReading {
            arithmetic: Some(arithmetic),
            brackets: Some(brackets),
            rep_4: None,
            perplexity: Some(perplexity),
            perplexity_ci95: None,
        }
    }

    #[test]
    fn a_cut_has_collapsed_only_when_everything_is_lost() {
        let (thresholds, base) = (CollapseThresholds::default(), reading(0.9, 1.0, 2.0));
        assert!(thresholds.collapsed(&base, &reading(0.1, 0.0, 40.0)).unwrap().contains("brackets 100 → 0 %"));
        assert_eq!(thresholds.collapsed(&base, &reading(0.1, 0.0, 6.0)), None);
        assert_eq!(thresholds.collapsed(&base, &reading(0.1, 0.5, 40.0)), None);
        assert_eq!(thresholds.collapsed(&base, &base), None);
        // A model without the abilities says nothing about its cuts.
        assert_eq!(thresholds.collapsed(&reading(0.1, 0.0, 2.0), &reading(0.0, 0.0, 900.0)), None);
    }

    #[test]
    fn the_alarm_needs_the_gap_and_says_whether_it_is_certain() {
        let retention = |value: f64, half: f64| Retention {
            value,
            ci95: [value - half, value + half],
            lower95: value,
            upper95: value,
            n: 9,
        };
        assert_eq!(gap_alarm(&retention(0.9, 0.1), &retention(0.75, 0.1), GAP_THRESHOLD), None);
        assert!(!gap_alarm(&retention(0.9, 0.2), &retention(0.6, 0.2), GAP_THRESHOLD).unwrap().certain);
        let alarm = gap_alarm(&retention(0.95, 0.05), &retention(0.2, 0.1), GAP_THRESHOLD).unwrap();
        assert!(alarm.certain && alarm.sentence().contains("keeps 95 %, generation 20 %"), "{}", alarm.sentence());
        assert_eq!(gap_alarm(&retention(f64::NAN, 0.1), &retention(0.1, 0.1), GAP_THRESHOLD), None);
    }
}
