//! Runs of removed layers.

use lopper_record::{Fault, LayerPosition, LayerSet, Result, ensure};

/// Consecutive removed layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// The first of them.
    pub first: usize,
    /// The first layer after them, or the number of layers.
    pub end: usize,
}

impl Gap {
    /// The removed layers.
    pub fn removed(self) -> LayerSet<LayerPosition> {
        (self.first..self.end).collect()
    }
}

/// The gaps of a cut of a model with `layers` layers, in order.
///
/// # Errors
/// A [`Fault`] where no layer is removed, or every one.
pub(super) fn gaps(layers: usize, kept: &LayerSet<LayerPosition>) -> Result<Vec<Gap>> {
    ensure!(kept.indices().all(|layer| layer < layers), "layers {kept} of a model that has {layers}");
    if kept.is_empty() || kept.len() == layers {
        return Err(Fault::new("there is nothing to compensate")
            .expected(format!("a cut of 1 to {} of the {layers} layers", layers.saturating_sub(1)))
            .got(format!("{} removed", layers - kept.len()))
            .hint("name the layers to remove")
            .into());
    }
    let mut gaps: Vec<Gap> = Vec::new();
    for removed in kept.complement(layers).indices() {
        match gaps.last_mut() {
            Some(gap) if gap.end == removed => gap.end += 1,
            _ => gaps.push(Gap { first: removed, end: removed + 1 }),
        }
    }
    Ok(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_runs_of_removed_layers() {
        let of = |kept: &[usize]| -> Vec<[usize; 2]> {
            let kept: LayerSet<LayerPosition> = kept.iter().copied().collect();
            gaps(7, &kept).unwrap().iter().map(|gap| [gap.first, gap.end]).collect()
        };
        assert_eq!(of(&[0, 1, 4, 6]), [[2, 4], [5, 6]]);
        assert_eq!(of(&[3]), [[0, 3], [4, 7]]);
        assert_eq!(of(&[1, 2, 3, 4, 5, 6]), [[0, 1]]);
        for kept in [vec![], (0..7).collect()] {
            let kept: LayerSet<LayerPosition> = kept.into_iter().collect();
            assert!(gaps(7, &kept).unwrap_err().fault().is_some());
        }
    }
}
