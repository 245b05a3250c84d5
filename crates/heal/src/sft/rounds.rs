//! Layers that are removed while the model is trained, a few at a time: prune, heal, and prune again.

use lopper_model::Model;
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug, Formatter};

/// Chooses so many layers of a model, which has only the layers that are left, to remove.
pub type Choose<'a> = dyn Fn(&Model, usize, &dyn Progress) -> Result<LayerSet<LayerPosition>> + Sync + 'a;

/// When layers are removed, and which. The steps of the training are divided evenly among the rounds, each of which
/// begins with a removal.
#[derive(Clone, Copy)]
pub struct Rounds<'a> {
    /// Layers to remove in all.
    pub remove: usize,
    /// Layers to remove at a time; in the last round there may be fewer.
    pub at_once: usize,
    /// What the choice is called; a run is continued only with the same.
    pub criterion: &'a str,
    /// How they are chosen.
    pub choose: &'a Choose<'a>,
}

impl Debug for Rounds<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers, {} at a time, by {}", self.remove, self.at_once, self.criterion)
    }
}

/// A removal, and what it did to the loss on held-out examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Steps before it.
    pub step: usize,
    /// The removed layers, by their position in the model that was given.
    pub layers: LayerSet<LayerPosition>,
    /// Loss before it and after it, before any further step, in nats per token; where examples are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<[f64; 2]>,
}

impl Rounds<'_> {
    /// Refuses numbers of layers that a model of `layers` cannot lose, and more rounds than steps.
    ///
    /// # Errors
    /// A [`Fault`] that names the numbers that are possible.
    pub(super) fn check(&self, layers: usize, steps: usize) -> Result<()> {
        if self.at_once > 0 && self.number() > steps {
            return Err(Fault::new("there are more removals than steps of training")
                .expected(format!("a step or more for each of {} removals", self.number()))
                .got(steps.to_string())
                .hint("train longer, on more examples, or remove more layers at a time")
                .into());
        }
        if (1..layers).contains(&self.remove) && (1..=self.remove).contains(&self.at_once) {
            return Ok(());
        }
        Err(Fault::new("layers cannot be removed like this")
            .expected(format!("from 1 to {} layers in all, and no more at a time", layers.saturating_sub(1)))
            .got(format!("{} layers, {} at a time", self.remove, self.at_once))
            .hint("remove fewer layers, or fewer at a time")
            .into())
    }

    fn number(&self) -> usize {
        self.remove.div_ceil(self.at_once)
    }

    /// How many layers go before the step `step` (from 0) of `steps`, when `done` rounds have begun.
    pub(super) fn due(&self, step: usize, steps: usize, done: usize) -> Option<usize> {
        let rounds = self.number();
        (done < rounds && step * rounds >= done * steps).then(|| self.at_once.min(self.remove - done * self.at_once))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_its_steps() {
        let rounds = Rounds { remove: 5, at_once: 2, criterion: "none", choose: &|_, _, _| Ok([0].into()) };
        rounds.check(6, 3).unwrap();
        assert!(rounds.check(5, 3).is_err() && rounds.check(6, 2).is_err());
        assert!(Rounds { at_once: 0, ..rounds }.check(9, 3).is_err());
        let mut removals = Vec::new();
        for step in 0..10 {
            while let Some(layers) = rounds.due(step, 10, removals.len()) {
                removals.push((step, layers));
            }
        }
        assert_eq!(removals, [(0, 2), (4, 2), (7, 1)]);
    }
}
