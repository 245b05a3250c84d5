//! How a cut was healed: on what, by which steps, and whether they can have done anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finite;

/// Optimiser steps below which little is to be expected. Of SmolLM2-135M without 6 of 30 layers, 54 steps at the
/// paper's learning rate took the loss from 3.86 to 2.63 and 5 steps took it nowhere.
pub const FEW_STEPS: usize = 30;

/// What a healed model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealingRole {
    /// It is what the depth budget is about.
    #[default]
    Main,
    /// The same with another seed of finetuning, to show how much a seed changes.
    Seed,
    /// Healed on reference answers instead of the uncut model's own, to show what these bring. Also what a newer
    /// version calls otherwise: nothing that the budget is about.
    #[serde(other)]
    Control,
}

/// How a cut model was finetuned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealInfo {
    /// `lora`, `full`, …
    pub method: String,
    /// What this healed model is for; only [`HealingRole::Main`] counts for the depth budget.
    pub role: HealingRole,
    /// Seed of the finetuning.
    pub seed: u64,
    /// What it was trained on, such as `1,754 self-generated answers to general instructions (tatsu-lab/alpaca)`;
    /// empty where that is not known.
    pub data: String,
    /// Whether the prompts are from the training splits of the tasks that are measured.
    pub in_distribution: bool,
    /// What became of the answers; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerCounts>,
    /// Answers that were graded by the task that their prompt is of; empty where wrong ones are learned, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<CheckedAnswers>,
    /// Prompts and answers that were left out because an evaluated item is in them, by its task.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overlap: BTreeMap<String, usize>,
    /// Examples that were trained on.
    pub examples: usize,
    /// Tokens the loss was taken on.
    pub tokens: u64,
    /// Optimiser steps.
    pub steps: usize,
    /// Of these, the ones of the warm-up.
    pub warmup: usize,
    /// Wall time.
    #[serde(with = "finite")]
    pub seconds: f64,
    /// Training loss at the start.
    #[serde(with = "finite")]
    pub train_loss_first: f64,
    /// Training loss at the end.
    #[serde(with = "finite")]
    pub train_loss_last: f64,
    /// Answers that were held out of the training.
    pub held_out: usize,
    /// Mean loss on the held-out answers before the training, in nats per token; none where too few are held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_loss_first: Option<f64>,
    /// The same after the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_loss_last: Option<f64>,
    /// The recipe in one line.
    pub recipe: String,
}

impl HealInfo {
    /// Reasons to expect nothing of this healing, a sentence each; none where there is no such reason.
    pub fn doubts(&self) -> Vec<String> {
        self.doubts_of_training().into_iter().chain(self.doubt_of_loss()).collect()
    }

    /// Of these, the ones that the answers and the number of steps give, whatever the cut.
    pub fn doubts_of_training(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let Self { steps, warmup, examples, .. } = self;
        if let Some(answers) = self.answers.as_ref().filter(|answers| 2 * answers.used < answers.answers) {
            doubts.push(answers.sentence());
        }
        if (1..FEW_STEPS).contains(steps) {
            doubts.push(format!(
                "{} on {examples} answers are too few to expect anything of (fewer than {FEW_STEPS}): more prompts, \
                 more epochs or a smaller batch give more steps",
                counted_steps(*steps)
            ));
        }
        if *steps > 0 && warmup >= steps {
            let (all, of_warmup) = (counted_steps(*steps), counted_steps(*warmup));
            doubts.push(format!("all of the training, {all}, was within the warm-up of {of_warmup}"));
        }
        doubts
    }

    /// And the one that the loss on held-out answers gives.
    pub fn doubt_of_loss(&self) -> Option<String> {
        let (first, last) = (self.held_out_loss_first?, self.held_out_loss_last?);
        (last >= first).then(|| {
            format!(
                "the loss on {} held-out answers did not fall: {first:.3} before, {last:.3} after (nats per token)",
                self.held_out
            )
        })
    }

    /// The losses in a sentence.
    pub fn losses(&self) -> String {
        let mut text = format!("training loss {:.3} → {:.3}", self.train_loss_first, self.train_loss_last);
        if let (Some(first), Some(last)) = (self.held_out_loss_first, self.held_out_loss_last) {
            text += &format!(", on {} held-out answers {first:.3} → {last:.3}", self.held_out);
        }
        text
    }
}

fn counted_steps(steps: usize) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") }
}

/// What became of answers that were to be learned from. Each is counted once: as used, or by the first reason that
/// excluded it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerCounts {
    /// All answers.
    pub answers: usize,
    /// Learned from, or held out of the training to measure the loss on.
    pub used: usize,
    /// Excluded: cut off at the limit of new tokens.
    pub cut_off: usize,
    /// Excluded: cut off where prompt and answer filled the context.
    pub context_full: usize,
    /// Excluded: stopped because it repeated itself.
    pub repetitive: usize,
    /// Excluded: without text.
    pub empty: usize,
    /// Excluded: reasoning after which no answer came.
    pub no_answer: usize,
    /// Excluded: wrong, by the grader of the task that the prompt is of.
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected: usize,
    /// Excluded: prompt and answer are longer than the longest example.
    pub too_long: usize,
    /// Excluded: the answer has fewer tokens than it should.
    #[serde(skip_serializing_if = "is_zero")]
    pub short_answer: usize,
    /// Excluded: the answer has more tokens than it should.
    #[serde(skip_serializing_if = "is_zero")]
    pub long_answer: usize,
    /// Excluded: an item that is evaluated is in prompt or answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub overlap: usize,
    /// Excluded: the same prompt and answer as before.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: usize,
    /// Excluded: nearly the same prompt and answer as before.
    #[serde(skip_serializing_if = "is_zero")]
    pub near_duplicate: usize,
    /// Excluded: for another reason, such as a row in no known layout.
    pub unusable: usize,
}

impl AnswerCounts {
    /// The reasons with how often each excluded an answer; only those that did.
    pub fn reasons(&self) -> Vec<(usize, &'static str)> {
        let reasons = [
            (self.cut_off, "cut off at the length limit"),
            (self.context_full, "cut off at the end of the context"),
            (self.repetitive, "repetitive"),
            (self.empty, "empty"),
            (self.no_answer, "reasoning without an answer"),
            (self.rejected, "wrong by their task's grader"),
            (self.too_long, "longer than an example may be"),
            (self.unusable, "not usable"),
        ];
        reasons.into_iter().filter(|(count, _)| *count > 0).chain(self.filtered()).collect()
    }

    /// Of these, the ones that leave out what could be learned from.
    pub fn filtered(&self) -> Vec<(usize, &'static str)> {
        let reasons = [
            (self.short_answer, "with too short an answer"),
            (self.long_answer, "with too long an answer"),
            (self.overlap, "with an evaluated item in them"),
            (self.duplicate, "duplicates"),
            (self.near_duplicate, "nearly duplicates"),
        ];
        reasons.into_iter().filter(|(count, _)| *count > 0).collect()
    }

    /// The excluded answers of both, of which `later` are counts of those that `self` did not exclude.
    pub fn then(self, later: Self) -> Self {
        Self {
            answers: self.answers,
            used: later.used,
            cut_off: self.cut_off + later.cut_off,
            context_full: self.context_full + later.context_full,
            repetitive: self.repetitive + later.repetitive,
            empty: self.empty + later.empty,
            no_answer: self.no_answer + later.no_answer,
            rejected: self.rejected + later.rejected,
            short_answer: self.short_answer + later.short_answer,
            long_answer: self.long_answer + later.long_answer,
            overlap: self.overlap + later.overlap,
            duplicate: self.duplicate + later.duplicate,
            near_duplicate: self.near_duplicate + later.near_duplicate,
            too_long: self.too_long + later.too_long,
            unusable: self.unusable + later.unusable,
        }
    }

    /// The counts in a sentence.
    pub fn sentence(&self) -> String {
        let mut sentence = format!("{} of {} answers could be learned from", self.used, self.answers);
        let reasons: Vec<String> = self.reasons().into_iter().map(|(count, why)| format!("{count} {why}")).collect();
        if !reasons.is_empty() {
            sentence += &format!("; left out: {}", reasons.join(", "));
        }
        sentence
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How many answers to a task's prompts were right, by its own grader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckedAnswers {
    /// The task.
    pub task: String,
    /// Answers that it graded.
    pub answers: usize,
    /// Of these, the right ones.
    pub right: usize,
}

impl CheckedAnswers {
    /// How many of the answers of each task and of all were right, in a sentence; none where nothing was graded.
    pub fn sentence(checked: &[Self]) -> Option<String> {
        let (all, right) = checked.iter().fold((0, 0), |sum, one| (sum.0 + one.answers, sum.1 + one.right));
        let rejected = |answers: usize, right: usize| {
            let percent = 100.0 * (answers - right) as f64 / answers.max(1) as f64;
            format!("{} of {answers} rejected ({percent:.1} %)", answers - right)
        };
        let each: Vec<String> =
            checked.iter().map(|one| format!("{} {}", one.task, rejected(one.answers, one.right))).collect();
        match checked {
            [] => None,
            [_] => Some(format!("answers graded: {}", each.join(""))),
            _ => Some(format!("answers graded: {}: {}", rejected(all, right), each.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healing_that_cannot_have_done_anything_is_named_with_its_numbers() {
        let good = HealInfo {
            examples: 1700,
            steps: 106,
            warmup: 10,
            held_out: 64,
            held_out_loss_first: Some(2.0),
            held_out_loss_last: Some(1.2),
            answers: Some(AnswerCounts { answers: 2000, used: 1764, cut_off: 236, ..Default::default() }),
            ..HealInfo::default()
        };
        assert_eq!(good.doubts(), [""; 0]);
        assert_eq!(HealInfo::default().doubts(), [""; 0], "of an adapter from elsewhere nothing is known");
        let five = HealInfo { steps: 5, warmup: 50, examples: 34, ..good.clone() };
        let doubts = five.doubts();
        assert!(doubts[0].contains("5 steps on 34 answers") && doubts[1].contains("warm-up of 50"), "{doubts:?}");
        let risen = HealInfo { held_out_loss_last: Some(2.0), ..good.clone() };
        assert!(risen.doubts()[0].contains("64 held-out answers did not fall: 2.000 before"), "{:?}", risen.doubts());
        let few = AnswerCounts { answers: 100, used: 34, cut_off: 60, repetitive: 4, empty: 2, ..Default::default() };
        let expected = "34 of 100 answers could be learned from; left out: 60 cut off at the length limit, 4 \
                        repetitive, 2 empty";
        assert_eq!(HealInfo { answers: Some(few), ..good }.doubts(), [expected]);
    }

    #[test]
    fn counts_of_two_sieves_are_those_of_both() {
        let generated = AnswerCounts { answers: 10, used: 7, repetitive: 3, ..Default::default() };
        let rendered = AnswerCounts { answers: 7, used: 5, too_long: 2, ..Default::default() };
        let both = generated.then(rendered);
        assert_eq!((both.answers, both.used, both.repetitive, both.too_long), (10, 5, 3, 2));
        assert_eq!(both.reasons().len(), 2);
    }

    #[test]
    fn rejected_answers_are_counted_by_task_and_in_all() {
        let task = |task: &str, answers, right| CheckedAnswers { task: task.to_owned(), answers, right };
        assert_eq!(CheckedAnswers::sentence(&[]), None);
        let one = CheckedAnswers::sentence(&[task("word", 8, 6)]).unwrap();
        assert_eq!(one, "answers graded: word 2 of 8 rejected (25.0 %)");
        let two = CheckedAnswers::sentence(&[task("word", 8, 6), task("code", 2, 2)]).unwrap();
        assert!(
            two.starts_with("answers graded: 2 of 10 rejected (20.0 %): word 2 of 8") && two.contains("code 0 of 2")
        );
    }

    #[test]
    fn what_older_records_hold_is_the_main_healing() {
        let info: HealInfo = serde_json::from_str("{\"method\": \"lora\", \"steps\": 3}").unwrap();
        assert_eq!((info.role, info.steps, info.held_out_loss_first), (HealingRole::Main, 3, None));
        let newer: HealInfo = serde_json::from_str("{\"role\": \"ablation\"}").unwrap();
        assert_eq!(newer.role, HealingRole::Control, "what is not known does not count for the budget");
    }
}
