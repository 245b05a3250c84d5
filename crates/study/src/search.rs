//! What a search is warned by.

use lopper_diagnose::sentinel::gap_alarm;
use lopper_measure::ItemScores;
use lopper_record::Result;
use lopper_record::study::GapAlarm;
use lopper_stats::{self as stats, Pair};
use lopper_tasks::{Group, Suite};

/// The gap alarm of a search: raised where what it has chosen keeps more of classification than of
/// generation by `threshold`. None where the tasks are of one group only.
pub fn gap(suite: &Suite, base: &ItemScores, cut: &ItemScores, threshold: f64) -> Result<Option<GapAlarm>> {
    let groups: Vec<Group> = suite.groups().collect();
    let chances: Vec<Vec<f64>> = suite.chance_levels().collect();
    let retention = |wanted: Group| {
        // A race may have evaluated the cut on fewer items.
        let pairs: Vec<Pair<'_>> = groups
            .iter()
            .zip(&chances)
            .zip(base.iter().zip(cut))
            .filter(|((group, _), (_, cut))| **group == wanted && !cut.is_empty())
            .map(|((_, chance), (base, cut))| Pair {
                base: &base[..cut.len()],
                cut,
                chance: &chance[..cut.len().min(chance.len())],
            })
            .collect();
        stats::group_retention(&pairs)
    };
    let (classification, generative) = (retention(Group::Classification)?, retention(Group::Generative)?);
    Ok(classification.zip(generative).and_then(|(c, g)| gap_alarm(&c, &g, threshold)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_infer::{Engine, TextModel};
    use lopper_model::{Checkpoint, Model};
    use lopper_tasks::{ItemSelection, Split};

    #[test]
    fn the_alarm_compares_the_groups_over_the_items_asked() {
        let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES).unwrap();
        let engine = Engine::new(Model::from_checkpoint(&checkpoint).unwrap(), 1).unwrap();
        let text = TextModel::new(engine, &checkpoint).unwrap();
        let suite = |tasks: &[&str]| {
            let selection = ItemSelection::new(Split::Select, 40, 0);
            Suite::prepare(&text, tasks, &selection, &Default::default(), &Default::default()).unwrap()
        };
        let both = suite(&["pocket_kind", "pocket_word"]);
        let base = vec![vec![1.0; 40]; 2];
        let half = |n: usize| (0..n).map(|i| f64::from(u8::from(i % 2 == 0))).collect::<Vec<_>>();
        let alarm = gap(&both, &base, &vec![vec![1.0; 30], half(40)], 0.2).unwrap().unwrap();
        assert_eq!((alarm.classification, alarm.generative, alarm.certain), (1.0, 0.5, true));
        assert_eq!(gap(&both, &base, &vec![half(20), vec![1.0; 20]], 0.2).unwrap(), None);
        assert_eq!(gap(&suite(&["pocket_word"]), &base[..1].to_vec(), &vec![half(20)], 0.2).unwrap(), None);
    }
}
