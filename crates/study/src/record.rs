//! The parts of a study's record that are known from its recipe alone, and the criteria's view of
//! the layers.

use lopper_infer::Sampling;
use lopper_pocket::Split;
use lopper_prune::LayerScores;
use lopper_record::Fault;
use lopper_record::study::{Criterion, Seed};

use crate::cuts::Kind;
use crate::recipe::TASKS;
use crate::tasks::StudyTasks;
use crate::{Recipe, calibration};

/// Every seed with its use.
pub fn seeds(recipe: &Recipe) -> Result<Vec<Seed>, Fault> {
    let seed = |name: &str, value: u64| Seed { name: name.to_owned(), value };
    let mut seeds = vec![
        seed("items, random cuts, self-generation and bootstrap", recipe.seed),
        seed("finetuning", recipe.heal.recipe.seed),
        seed("calibration text", calibration::SEED),
    ];
    if recipe.sampling.sampling() != Sampling::Greedy {
        seeds.push(seed("sampled answers", recipe.generation_policy().sampling_seed));
    }
    for (name, kind) in recipe.cuts.named()? {
        if let Kind::Criterion(_, added @ 1..) = kind {
            seeds.push(seed(&name, recipe.seed.wrapping_add(added)));
        }
    }
    Ok(seeds)
}

/// How items are split, in sentences.
pub fn splits(recipe: &Recipe, tasks: &StudyTasks, objective: &[String]) -> Vec<String> {
    let name = |split: Split| split.name();
    let mut sentences =
        vec!["Items are divided by a hash of their content: one item is in one split only, whatever the seed.".into()];
    sentences.push(format!(
        "Scores, retentions and the depth budget: {} items per task from the `{}` split.",
        recipe.items.report,
        name(Split::Report)
    ));
    sentences.push(format!(
        "Layer map, searches, choice of the main strategy and sentinels: {} items per task (sentinels fewer) from the \
         `{}` split.",
        recipe.items.select,
        name(Split::Select)
    ));
    if objective.len() < tasks.entries.len() {
        sentences.push(format!(
            "Layers and the main strategy are chosen by the group mean retention over {}.",
            objective.join(", ")
        ));
    }
    for pooled in tasks.entries.iter().filter(|entry| tasks.members_of(&entry.name) > 1) {
        sentences.push(format!(
            "{} is one task: its items are those of {} tasks, as many of each, and weigh the same.",
            pooled.name,
            tasks.members_of(&pooled.name)
        ));
    }
    let (documents, prompts) = (recipe.items.calibration, recipe.heal.prompts);
    sentences.push(match recipe.heal.data == TASKS {
        true => format!(
            "Calibration text of the criteria (up to {documents} documents) and the prompts that are answered for healing \
             (up to {prompts}): the `{}` split.",
            name(Split::Train)
        ),
        false => format!(
            "Calibration text of the criteria (up to {documents} documents) and the prompts that are answered for healing \
             (up to {prompts}): {}, in which no item is.",
            recipe.heal.data
        ),
    });
    if !tasks.all_generated() {
        sentences.push(
            "Of tasks over rows of data sets, one row in four of the evaluated split is for choosing and the others are \
             reported on; the training split is that of few-shot examples."
                .into(),
        );
    }
    sentences
}

/// One value per layer for each criterion that has one.
pub fn criteria(scores: &LayerScores) -> Vec<Criterion> {
    let over = format!("over {} tokens of calibration text", scores.tokens);
    let criterion = |name: &str, title: &str, values: &[f64], note: String| Criterion {
        name: name.into(),
        title: title.into(),
        values: values.to_vec(),
        note,
    };
    let mut criteria = vec![criterion(
        "bi",
        "Block influence",
        &scores.block_influence,
        format!("1 − mean cosine of the hidden states before and after the layer, {over}; the smallest go first"),
    )];
    if let Some(single) = scores.angular.of_size(1) {
        let note = "angle between the hidden states before and after the layer, at the last token, in half turns; \
                    the smallest go first";
        criteria.push(criterion("angular", "Angular distance", single, note.into()));
    }
    if let Some(perplexity) = &scores.perplexity {
        let note = "rise of the mean negative log-likelihood of the calibration text without the layer, in nats for \
                    each token; the smallest go first";
        criteria.push(criterion("perplexity", "Perplexity", &perplexity.rises(), note.into()));
    }
    if let Some(fits) = &scores.linear_r2 {
        let far: Vec<f64> = fits.iter().map(|r2| 1.0 - r2).collect();
        let note = "what a linear map of the hidden states leaves unexplained, 1 − R², on tokens it was not fitted to; \
                    the smallest go first";
        criteria.push(criterion("linear", "Distance from a linear map", &far, note.into()));
    }
    if let Some(sums) = &scores.taylor {
        let note = "Σ |weight · gradient| over the layer's linear maps; the smallest go first";
        criteria.push(criterion("taylor", "First-order Taylor", sums, note.into()));
    }
    criteria
}
