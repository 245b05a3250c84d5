//! Which layers a strategy removes: by a criterion over calibration text, or by what single removals cost on the
//! selection items.

use lopper_prune::LayerScores;
use lopper_prune::criteria::{self, Request};
use lopper_record::{LayerPosition, LayerSet, Result};

/// The strategy that removes the layers whose single removal costs least.
pub const ABLATION: &str = "ablation";

/// What strategies choose by.
pub struct Evidence<'a> {
    /// Layers of the model.
    pub num_layers: usize,
    /// Criteria over calibration text.
    pub scores: &'a LayerScores,
    /// For each layer, the group mean retention without it, on the selection items.
    pub ablation: &'a [f64],
    /// Layers that `ablation` never removes.
    pub keep: &'a LayerSet<LayerPosition>,
    /// Seed of random choices.
    pub seed: u64,
}

/// The layers that `strategy` removes when `remove` are to go.
pub fn choose(strategy: &str, remove: usize, evidence: &Evidence<'_>) -> Result<LayerSet<LayerPosition>> {
    criteria::check_removal(evidence.num_layers, remove)?;
    if strategy != ABLATION {
        let request =
            Request { num_layers: evidence.num_layers, remove, scores: Some(evidence.scores), seed: evidence.seed };
        return Ok(criteria::select(criteria::criterion(strategy)?, &request)?.dropped);
    }
    let mut order: Vec<usize> = evidence.keep.complement(evidence.num_layers).indices().collect();
    // What keeps most goes first; of equal layers the later one.
    order.sort_by(|&a, &b| evidence.ablation[b].total_cmp(&evidence.ablation[a]).then(b.cmp(&a)));
    lopper_record::ensure!(order.len() >= remove, "{remove} layers are to go but only {} may", order.len());
    Ok(order.into_iter().take(remove).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_prune::criteria::BlockScores;

    #[test]
    fn ablation_removes_what_costs_least_and_spares_what_is_kept() {
        let scores = LayerScores {
            block_influence: vec![0.3, 0.1, 0.2, 0.4],
            angular: BlockScores::new(vec![vec![0.3, 0.1, 0.2, 0.4]]),
            angular_mean: BlockScores::new(vec![vec![0.3, 0.1, 0.2, 0.4]]),
            relative_magnitude: vec![0.0; 4],
            tokens: 1,
            sequences: 1,
            angular_mean_tokens: 1,
            perplexity: None,
            linear_r2: None,
            taylor: None,
        };
        let ablation = [1.0, 0.5, 0.9, 0.9];
        let first = LayerSet::from([0]);
        let evidence = Evidence { num_layers: 4, scores: &scores, ablation: &ablation, keep: &first, seed: 1 };
        let chosen = |strategy: &str, remove: usize| choose(strategy, remove, &evidence).unwrap();
        assert_eq!(chosen(ABLATION, 1), LayerSet::from([3]));
        assert_eq!(chosen(ABLATION, 2), LayerSet::from([2, 3]));
        assert_eq!(chosen(ABLATION, 3), LayerSet::from([1, 2, 3]));
        assert_eq!(chosen("bi", 2), LayerSet::from([1, 2]));
        assert_eq!(chosen("reverse", 2), LayerSet::from([2, 3]));
        assert!(choose(ABLATION, 4, &evidence).is_err());
        let all_kept = Evidence { keep: &LayerSet::from([0, 1, 2]), ..evidence };
        assert!(choose(ABLATION, 2, &all_kept).is_err());
    }
}
