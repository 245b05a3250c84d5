//! Candidates evaluated on tasks, for ablations and searches.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::Result;
use lopper_diagnose::sentinel::gap_alarm;
use lopper_infer::TextModel;
use lopper_measure::{Cost, Drafts, ManyOptions};
use lopper_prune::search::{Evaluator, ItemScores};
use lopper_record::study::GapAlarm;
use lopper_stats::{self as stats, Pair, RESAMPLES};
use lopper_tasks::{EvalProgress, Group, Suite};

/// A suite of tasks as what a search evaluates candidates by.
pub struct SuiteEvaluator<'a> {
    text: &'a TextModel,
    suite: &'a Suite,
    options: ManyOptions,
    observer: &'a (dyn Fn(EvalProgress) + Sync),
    cost: Mutex<Cost>,
    drafts: Drafts,
}

impl<'a> SuiteEvaluator<'a> {
    /// Candidates of `text`'s model on the items of `suite`.
    pub fn new(
        text: &'a TextModel,
        suite: &'a Suite,
        options: ManyOptions,
        observer: &'a (dyn Fn(EvalProgress) + Sync),
    ) -> Self {
        Self { text, suite, options, observer, cost: Mutex::default(), drafts: Drafts::default() }
    }

    /// What all evaluations so far took.
    pub fn cost(&self) -> Cost {
        *self.cost.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Evaluator for SuiteEvaluator<'_> {
    fn items(&self) -> Vec<usize> {
        self.suite.items().collect()
    }

    fn evaluate(&self, candidates: &[Vec<usize>], range: Range<usize>) -> Result<Vec<ItemScores>> {
        let suite = self.suite.subset(range);
        let (outcomes, cost) =
            lopper_measure::run_many(&suite, self.text, candidates, &self.options, &self.drafts, self.observer)?;
        self.cost.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&cost);
        Ok(outcomes.iter().map(|tasks| tasks.iter().map(lopper_tasks::TaskOutcome::scores).collect()).collect())
    }
}

/// The gap alarm of a search: raised where what it has chosen keeps more of classification than of
/// generation by `threshold`. None where the tasks are of one group only.
pub fn gap(suite: &Suite, base: &ItemScores, cut: &ItemScores, threshold: f64, seed: u64) -> Result<Option<GapAlarm>> {
    let groups: Vec<Group> = suite.groups().collect();
    let retention = |wanted: Group| {
        // A race may have asked the cut fewer items.
        let pairs: Vec<Pair<'_>> = groups
            .iter()
            .zip(base.iter().zip(cut))
            .filter(|(group, (_, cut))| **group == wanted && !cut.is_empty())
            .map(|(_, (base, cut))| Pair { base: &base[..cut.len()], cut })
            .collect();
        stats::group_retention(&pairs, RESAMPLES, seed)
    };
    let (classification, generative) = (retention(Group::Classification)?, retention(Group::Generative)?);
    Ok(classification.zip(generative).and_then(|(c, g)| gap_alarm(&c, &g, threshold)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_infer::{Engine, Sampling};
    use lopper_model::Checkpoint;
    use lopper_pocket::Split;
    use lopper_tasks::EvalOptions;

    #[test]
    fn the_alarm_compares_the_groups_over_the_items_asked() {
        let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES).unwrap();
        let engine = Engine::new(checkpoint.load_model().unwrap(), 1).unwrap();
        let text = TextModel::new(engine, &checkpoint).unwrap();
        let (split, sampling) = (Split::Select, Sampling::Greedy);
        let options = EvalOptions { split, limit: 40, seed: 0, sampling, sampling_seed: 0 };
        let suite = Suite::prepare(&text, &["pocket_kind", "pocket_word"], &options).unwrap();
        let base = vec![vec![1.0; 40]; 2];
        let half = |n: usize| (0..n).map(|i| f64::from(u8::from(i % 2 == 0))).collect::<Vec<_>>();
        let alarm = gap(&suite, &base, &vec![vec![1.0; 20], half(20)], 0.2, 0).unwrap().unwrap();
        assert_eq!((alarm.classification, alarm.generative, alarm.certain), (1.0, 0.5, true));
        assert_eq!(gap(&suite, &base, &vec![half(20), vec![1.0; 20]], 0.2, 0).unwrap(), None);
        let one = Suite::prepare(&text, &["pocket_word"], &options).unwrap();
        assert_eq!(gap(&one, &base[..1].to_vec(), &vec![half(20)], 0.2, 0).unwrap(), None);
    }
}
