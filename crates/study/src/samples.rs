//! The same prompts answered by the uncut, the cut and the healed model, for the report.

use lopper_measure::Outcomes;
use lopper_record::study::{Answer, Sample};

/// Items shown per task.
const PER_TASK: usize = 3;

/// For each generative task the first items that the uncut model gets right, those that the cut
/// changes first: what is lost is what a reader wants to see, and the choice is a rule, not taste.
pub fn samples(tasks: &[String], base: &Outcomes, cut: (usize, &Outcomes), healed: Option<&Outcomes>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for task in tasks {
        let (Some(base), Some(cut_items)) = (base.get(task), cut.1.get(task)) else { continue };
        let healed_items = healed.and_then(|h| h.get(task));
        let right = |score: f64| score >= 0.999;
        let mut order: Vec<usize> = (0..base.items.len().min(cut_items.items.len())).collect();
        order.retain(|i| right(base.items[*i].score));
        order.sort_by_key(|i| right(cut_items.items[*i].score));
        for i in order.into_iter().take(PER_TASK) {
            let item = &base.items[i];
            let answer = |removed: usize, outcome: &lopper_tasks::TaskOutcome| {
                outcome.items.get(i).map(|item| Answer {
                    removed,
                    reasoning: item.reasoning.clone().unwrap_or_default(),
                    text: item.response.clone().unwrap_or_default(),
                    correct: right(item.score),
                })
            };
            samples.push(Sample {
                task: task.clone(),
                prompt: item.prompt.clone(),
                target: item.target.clone(),
                base: answer(0, base),
                cut: answer(cut.0, cut_items),
                healed: healed_items.and_then(|h| answer(cut.0, h)),
            });
        }
    }
    samples
}
