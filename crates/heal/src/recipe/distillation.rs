//! Learning from the uncut model's distributions of the next token: logit distillation.

use lopper_model::Divergence;
use lopper_record::Result;
use serde::{Deserialize, Serialize};

use super::out_of_range;

/// How a cut learns from the uncut model. For each token in the loss, with distributions softmax(logits / T), t of the
/// uncut model and s of the cut: answers · (−log s(token)) + (1 − answers) · T² · ((1 − reverse) · KL(t‖s) + reverse ·
/// KL(s‖t)) + hidden_states · mean((hₛ − hₜ)²), where h are the last hidden states after the final norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distillation {
    /// T: above 1 for more of the uncut model's second thoughts.
    pub temperature: f64,
    /// Part of the reverse divergence, from 0 to 1: 0 is the forward one, by which the cut learns to give every token
    /// that the uncut model would, and 1 the reverse one, by which it learns to give no other.
    pub reverse: f64,
    /// Part of the tokens' own loss, from 0 to 1.
    pub answers: f64,
    /// Weight of the difference between the last hidden states; 0 for none.
    pub hidden_states: f64,
    /// Learn on answers that the cut itself writes, too; without it, on the given ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<OnPolicy>,
}

/// On-policy distillation (generalised knowledge distillation, Agarwal et al., arXiv 2306.13649): the cut answers the
/// prompts of the examples itself, as it is at that time, and learns at each of its tokens what the uncut model would
/// have given there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnPolicy {
    /// Part of the examples that it answers, drawn for each step; the others have their given answers.
    pub part: f64,
    /// It answers for so many steps at once, before the first of them.
    pub every: usize,
    /// Longest answer, in tokens; one that is longer is learned on up to there.
    pub max_new_tokens: usize,
    /// Temperature of its sampling; 0: always the most probable token.
    pub temperature: f64,
}

impl Default for OnPolicy {
    fn default() -> Self {
        Self { part: 1.0, every: 4, max_new_tokens: 128, temperature: 1.0 }
    }
}

impl OnPolicy {
    fn check(&self) -> Result<()> {
        let Self { part, every, max_new_tokens, temperature } = *self;
        if !(part > 0.0 && part <= 1.0) {
            return out_of_range("the part of the cut's own answers", "above 0, up to 1", part);
        }
        if every == 0 || max_new_tokens == 0 {
            let what = "the number of steps or tokens of the cut's own answers";
            return out_of_range(what, "at least 1", format!("{every} and {max_new_tokens}"));
        }
        if !(0.0..=100.0).contains(&temperature) {
            return out_of_range("the temperature of the cut's own answers", "from 0 to 100", temperature);
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let Self { part, every, max_new_tokens, temperature } = self;
        format!(
            "{:.0} % on the cut's own answers (temperature {temperature}, up to {max_new_tokens} tokens, every {every} \
             steps)",
            100.0 * part
        )
    }
}

impl Default for Distillation {
    fn default() -> Self {
        Self { temperature: 1.0, reverse: 0.0, answers: 0.0, hidden_states: 0.0, on_policy: None }
    }
}

impl Distillation {
    /// The divergence for the trainer.
    pub(crate) fn divergence(&self) -> Divergence {
        let [temperature, reverse, targets] = [self.temperature, self.reverse, self.answers].map(|value| value as f32);
        Divergence { temperature, reverse, targets }
    }

    /// In a few words, for reports.
    pub fn summary(&self) -> String {
        let kind = match self.reverse {
            0.0 => "forward KL".to_owned(),
            1.0 => "reverse KL".to_owned(),
            part => format!("KL, {:.0} % reverse", 100.0 * part),
        };
        let mut parts = vec![format!("{kind} at temperature {}", self.temperature)];
        if self.answers > 0.0 {
            parts.push(format!("{:.0} % loss of the answers", 100.0 * self.answers));
        }
        if self.hidden_states > 0.0 {
            parts.push(format!("hidden states × {}", self.hidden_states));
        }
        parts.extend(self.on_policy.map(|of| of.summary()));
        parts.join(", ")
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for the first one that is out of range.
    pub fn check(&self) -> Result<()> {
        if !(0.01..=100.0).contains(&self.temperature) {
            return out_of_range("the temperature of distillation", "from 0.01 to 100", self.temperature);
        }
        for (what, part) in
            [("the part of the reverse divergence", self.reverse), ("the part of the answers' loss", self.answers)]
        {
            if !(0.0..=1.0).contains(&part) {
                return out_of_range(what, "from 0 to 1", part);
            }
        }
        if !(0.0..=1e6).contains(&self.hidden_states) {
            return out_of_range("the weight of the hidden states", "from 0 to 1e6", self.hidden_states);
        }
        self.on_policy.map_or(Ok(()), |on_policy| on_policy.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_ranges_and_words() {
        let usual = OnPolicy::default();
        let whole = Distillation { temperature: 2.0, reverse: 0.5, answers: 0.1, hidden_states: 3.0, on_policy: None };
        whole.check().unwrap();
        assert_eq!(whole.summary(), "KL, 50 % reverse at temperature 2, 10 % loss of the answers, hidden states × 3");
        assert_eq!(Distillation::default().summary(), "forward KL at temperature 1");
        let own = Distillation { on_policy: Some(usual), ..Distillation::default() };
        own.check().unwrap();
        let words = "100 % on the cut's own answers (temperature 1, up to 128 tokens, every 4 steps)";
        assert_eq!(own.summary(), format!("forward KL at temperature 1, {words}"));
        for wrong in [
            Distillation { temperature: 0.0, ..whole },
            Distillation { temperature: f64::NAN, ..whole },
            Distillation { reverse: 1.5, ..whole },
            Distillation { answers: -0.1, ..whole },
            Distillation { hidden_states: f64::INFINITY, ..whole },
            Distillation { on_policy: Some(OnPolicy { part: 0.0, ..usual }), ..whole },
            Distillation { on_policy: Some(OnPolicy { every: 0, ..usual }), ..whole },
            Distillation { on_policy: Some(OnPolicy { temperature: f64::NAN, ..usual }), ..whole },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
