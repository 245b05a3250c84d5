//! The depth budget: how many layers may go. The decision itself is the study's; here is its form
//! and its wording.

use serde::{Deserialize, Serialize};

use super::GENERATIVE;
use crate::{Retention, finite};

/// The depth budget for one group of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetLine {
    /// The group of tasks.
    pub group: String,
    /// The retention to keep, such as 0.9.
    #[serde(with = "finite")]
    pub threshold: f64,
    /// Whether the cut is healed.
    pub healed: bool,
    /// How the layers are chosen.
    pub strategy: String,
    /// The most layers that may go: the deepest cut that holds when every shallower one does. 0 where the shallowest
    /// cut fails; absent where that is not decided.
    pub max_layers: Option<usize>,
    /// The decision in a sentence; see [`BudgetLine::sentence`].
    pub statement: String,
    /// The bound at each depth that was measured, in ascending order.
    pub depths: Vec<BudgetDepth>,
}

/// One depth as the budget sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetDepth {
    /// Layers removed.
    pub removed: usize,
    /// Retention with its one-sided bound.
    pub retention: Option<Retention>,
    /// Whether the lower bound reaches the threshold.
    pub holds: bool,
    /// Whether the threshold is kept, lost, or the items do not decide.
    pub verdict: Verdict,
}

/// What a retention's one-sided 95 % bounds say of a floor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The lower bound reaches the floor.
    Holds,
    /// The upper bound is below the floor.
    Fails,
    /// Neither: there are too few items.
    #[default]
    Undecided,
}

impl Verdict {
    /// The verdict on a retention.
    pub fn of(retention: &Retention, floor: f64) -> Self {
        if retention.lower95 >= floor {
            Self::Holds
        } else if retention.upper95 < floor {
            Self::Fails
        } else {
            Self::Undecided
        }
    }
}

impl BudgetLine {
    /// The decision in plain words.
    pub fn sentence(&self, num_layers: usize) -> String {
        let healing = if self.healed { " after healing" } else { "" };
        let use_of = match self.group.as_str() {
            GENERATIVE => "generative reasoning",
            group => group,
        };
        let keep = format!("≥ {:.0} % of {use_of}{healing} (95 % confidence)", self.threshold * 100.0);
        match self.max_layers {
            None => {
                let first = self.depths.first().filter(|depth| depth.retention.is_some());
                let why = first.map_or_else(String::new, |depth| {
                    format!(" With {} removed there are too few items to say.", depth.removed)
                });
                format!("The data do not decide how many layers may go to keep {keep}.{why}")
            }
            Some(0) => format!("Not one layer of those tried can go to keep {keep}."),
            Some(most) => {
                let deepest = self.depths.iter().map(|depth| depth.removed).max() == Some(most);
                let next = self.depths.iter().find(|depth| depth.removed > most);
                let more = match next.filter(|next| next.verdict == Verdict::Undecided && next.retention.is_some()) {
                    _ if deepest => "; no deeper cut was tried".to_owned(),
                    Some(next) => format!("; there are too few items to say whether {} can go", next.removed),
                    None => String::new(),
                };
                format!("Cut at most {most} of {num_layers} layers to keep {keep}{more}.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::CLASSIFICATION;

    #[test]
    fn the_budget_speaks_plainly() {
        let depth = |removed| BudgetDepth { removed, ..Default::default() };
        let mut line = BudgetLine {
            group: CLASSIFICATION.into(),
            threshold: 0.9,
            max_layers: Some(3),
            depths: vec![depth(1), depth(3), depth(5)],
            ..Default::default()
        };
        assert_eq!(line.sentence(12), "Cut at most 3 of 12 layers to keep ≥ 90 % of classification (95 % confidence).");
        line.max_layers = Some(5);
        line.healed = true;
        assert_eq!(
            line.sentence(12),
            "Cut at most 5 of 12 layers to keep ≥ 90 % of classification after healing (95 % confidence); no deeper cut was tried."
        );
        line.max_layers = Some(0);
        assert!(line.sentence(12).starts_with("Not one layer"));
        line.max_layers = None;
        assert!(line.sentence(12).ends_with("(95 % confidence)."), "nothing was measured");
        // What is not decided is not called a failure.
        line.healed = false;
        for (depth, lower95) in line.depths.iter_mut().zip([0.92, 0.85, 0.5]) {
            let retention = Retention { lower95, upper95: lower95 + 0.1, ..Retention::uncut(60) };
            (depth.retention, depth.verdict) = (Some(retention), Verdict::of(&retention, 0.9));
        }
        assert!(line.sentence(12).ends_with("confidence). With 1 removed there are too few items to say."));
        line.max_layers = Some(1);
        assert!(line.sentence(12).ends_with("; there are too few items to say whether 3 can go."));
        line.max_layers = Some(3);
        assert!(line.sentence(12).ends_with("(95 % confidence)."), "5 fails");
    }
}
