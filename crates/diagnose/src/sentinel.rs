//! Sentinels: a bundle cheap enough to run after every cut of a search or study. It tells a hopeless branch before
//! it is measured in full, and the gap alarm tells when classification hides what generation has lost (NVIDIA's
//! search by MMLU showed .508 where GSM8K was already at .011; METHOD.md section 6).
//!
//! ```no_run
//! # use lopper_diagnose::sentinel::{Sentinels, SentinelOptions, Floor};
//! # fn example(text: &lopper_infer::TextModel, cut: Vec<usize>) -> anyhow::Result<()> {
//! let sentinels = Sentinels::prepare(text, &SentinelOptions::default())?;
//! let readings = sentinels.read(text, &[text.engine.all_layers(), cut], &|_, _| {})?;
//! if let Some(reason) = Floor::default().hopeless(&readings[0], &readings[1]) {
//!     // Cut no deeper this way.
//! #   drop(reason);
//! }
//! # Ok(())
//! # }
//! ```

use anyhow::{Result, ensure};
use lopper_infer::{Request, Sampling, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::Split;
use lopper_record::Retention;
use lopper_record::study::{GapAlarm, SentinelReading};
use serde::{Deserialize, Serialize};

use super::arithmetic::ArithmeticProbe;
use super::brackets::BracketProbe;
use super::degeneration::{Circumstances, Tally, text_figures};
use super::many::{Cut, generate_each, loglikelihood_each, token_logprobs_each};
use super::material;

/// By how much classification's retention may exceed generation's before the alarm is raised, unless told
/// otherwise. With a hundred items a task's retention is known to about ± 0.1, so less would ring by chance; where it
/// mattered, the two were 0.45 (the pocket model at 7 of 12 layers) and 0.67 (NVIDIA's rows) apart.
pub const GAP: f64 = 0.2;

/// How much is asked. The defaults take about as long as scoring two thousand tokens and generating three hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelOptions {
    /// Items of the arithmetic probe.
    pub arithmetic: usize,
    /// Items of the bracket probe.
    pub brackets: usize,
    /// Open prompts that are answered.
    pub responses: usize,
    /// Most tokens of such an answer.
    pub response_tokens: usize,
    /// Tokens of held-out text.
    pub text_tokens: usize,
    /// Seed of the items.
    pub seed: u64,
}

impl Default for SentinelOptions {
    fn default() -> Self {
        Self { arithmetic: 24, brackets: 12, responses: 4, response_tokens: 40, text_tokens: 512, seed: 0 }
    }
}

/// The bundle in one model's tokens. Serves every cut of the model and its healed descendants.
pub struct Sentinels {
    arithmetic: ArithmeticProbe,
    brackets: BracketProbe,
    responses: Vec<Request>,
    held_out: Vec<Vec<u32>>,
}

impl Sentinels {
    /// Draws the items, from the split that layers are chosen on: sentinels choose, too.
    pub fn prepare(text: &TextModel, options: &SentinelOptions) -> Result<Self> {
        let (split, seed) = (Split::Select, options.seed);
        let prompts = material::prompts(text, split, options.responses, seed);
        let prompts: Vec<_> = prompts.into_iter().map(|prompt| vec![Message::user(prompt)]).collect();
        Ok(Self {
            arithmetic: material::arithmetic(text, split, options.arithmetic, seed)?,
            brackets: material::brackets(text, split, options.brackets, seed)?,
            responses: material::requests(text, &prompts, options.response_tokens, Sampling::Greedy, seed)?,
            held_out: material::held_out(text, split, options.text_tokens, seed)?,
        })
    }

    /// Reads the sentinels of every cut, in order; `observer` is told steps done and steps in all.
    pub fn read(
        &self,
        text: &TextModel,
        cuts: &[Cut],
        observer: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<SentinelReading>> {
        let engine = &text.engine;
        // Four passes over the cuts, so that an engine that takes cuts together can do so.
        let total = 4 * cuts.len();
        let part = |pass: usize| move |done: usize, _: usize| observer(pass * cuts.len() + done, total);
        let digits = loglikelihood_each(engine, cuts, &self.arithmetic.requests(), &part(0))?;
        let closings = generate_each(engine, cuts, self.brackets.requests(), &part(1))?;
        let responses = generate_each(engine, cuts, &self.responses, &part(2))?;
        let mut readings = Vec::with_capacity(cuts.len());
        let logprobs = token_logprobs_each(engine, cuts, &self.held_out, &part(3))?;
        for (at, logprobs) in logprobs.iter().enumerate() {
            let mut tally = Tally::default();
            for generation in &responses[at] {
                tally.add(&text_figures(&text.decode(&generation.tokens)?), &Circumstances::of(generation));
            }
            let arithmetic = self.arithmetic.figures(&self.arithmetic.read(&digits[at])?, None);
            readings.push(SentinelReading {
                arithmetic: arithmetic.accuracy.map(|mean| mean.value),
                brackets: self.brackets.figures(text, &closings[at])?.balanced.map(|mean| mean.value),
                rep_4: tally.finish().rep_4.map(|mean| mean.value),
                perplexity: perplexity(logprobs)?,
            });
        }
        Ok(readings)
    }
}

/// exp(−mean log-probability) over all predicted tokens; none without any.
pub fn perplexity(logprobs: &[Vec<Option<f32>>]) -> Result<Option<f64>> {
    let (mut sum, mut n) = (0.0, 0_usize);
    for value in logprobs.iter().flatten().flatten() {
        sum += f64::from(*value);
        n += 1;
    }
    ensure!(sum.is_finite(), "a log-probability is not finite");
    let value = (-sum / n as f64).exp();
    // Beyond what a number holds it is as good as absent.
    Ok((n > 0 && value.is_finite()).then_some(value))
}

/// What counts as nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Share of the uncut model's accuracy (arithmetic, brackets) at or below which it is gone.
    pub accuracy: f64,
    /// An accuracy of the uncut model below this says nothing about its cuts.
    pub usable: f64,
    /// Perplexity, as a multiple of the uncut model's, from which on the text is gone as well.
    pub perplexity: f64,
}

impl Default for Floor {
    fn default() -> Self {
        Self { accuracy: 0.25, usable: 0.3, perplexity: 10.0 }
    }
}

impl Floor {
    /// Why nothing is left of a model that read `cut` where the uncut one read `base`; none while anything is.
    ///
    /// Every sentinel that the uncut model passes has to be on the floor, perplexity among them: with arithmetic and
    /// brackets gone a cut may still classify.
    pub fn hopeless(&self, base: &SentinelReading, cut: &SentinelReading) -> Option<String> {
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

/// The gap alarm: raised where classification's retention exceeds generation's by more than `threshold`.
pub fn gap_alarm(classification: &Retention, generative: &Retention, threshold: f64) -> Option<GapAlarm> {
    let gap = classification.value - generative.value;
    // An undefined retention raises nothing.
    (gap > threshold).then(|| GapAlarm {
        classification: classification.value,
        generative: generative.value,
        threshold,
        certain: classification.ci95[0] > generative.ci95[1],
    })
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
        }
    }

    #[test]
    fn a_branch_is_hopeless_only_when_everything_is_gone() {
        let (floor, base) = (Floor::default(), reading(0.9, 1.0, 2.0));
        assert!(floor.hopeless(&base, &reading(0.1, 0.0, 40.0)).unwrap().contains("brackets 100 → 0 %"));
        assert_eq!(floor.hopeless(&base, &reading(0.1, 0.0, 6.0)), None);
        assert_eq!(floor.hopeless(&base, &reading(0.1, 0.5, 40.0)), None);
        assert_eq!(floor.hopeless(&base, &base), None);
        // A model that never could says nothing about its cuts.
        assert_eq!(floor.hopeless(&reading(0.1, 0.0, 2.0), &reading(0.0, 0.0, 900.0)), None);
    }

    #[test]
    fn the_alarm_needs_the_gap_and_says_whether_it_is_certain() {
        let retention =
            |value: f64, half: f64| Retention { value, ci95: [value - half, value + half], lower95: value, n: 9 };
        assert_eq!(gap_alarm(&retention(0.9, 0.1), &retention(0.75, 0.1), GAP), None);
        assert!(!gap_alarm(&retention(0.9, 0.2), &retention(0.6, 0.2), GAP).unwrap().certain);
        let alarm = gap_alarm(&retention(0.95, 0.05), &retention(0.2, 0.1), GAP).unwrap();
        assert!(alarm.certain && alarm.sentence().contains("keeps 95 %, generation 20 %"), "{}", alarm.sentence());
        assert_eq!(gap_alarm(&retention(f64::NAN, 0.1), &retention(0.1, 0.1), GAP), None);
    }
}
