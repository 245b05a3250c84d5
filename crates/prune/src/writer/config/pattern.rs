//! Cuts that keep the pattern of the layers (`--keep-pattern`): each kept layer must be of the kind that the uncut
//! model has at its new position. Then every program computes the same model, also those that know the pattern only by
//! its period.

use lopper_model::config::LayerKind;
use lopper_record::{Fault, LayerSet, OriginalLayer, Result};

use super::Cut;

/// Refuses cuts that move a layer to a position where the uncut model has a layer of another kind.
pub(super) fn check(cut: &Cut<'_>, kinds: &[LayerKind]) -> Result<()> {
    let Some((place, layer)) = first_broken(kinds, cut.kept) else { return Ok(()) };
    Err(Fault::new("the cut breaks the pattern of the layers")
        .file(cut.path)
        .expected(format!("{} at place {place}, as in the uncut model", describe(kinds[place])))
        .got(format!("layer {}, which has {}", cut.originals[layer], describe(kinds[layer])))
        .hint(suggestion(kinds, cut))
        .into())
}

/// The first new position at which the layer would be of another kind than in the uncut model, and that layer's
/// position in the uncut model.
pub(super) fn first_broken<K: PartialEq>(kinds: &[K], kept: &[usize]) -> Option<(usize, usize)> {
    kept.iter().copied().enumerate().find(|(place, layer)| kinds[*place] != kinds[*layer])
}

/// What to cut instead.
pub(super) fn suggestion<K: PartialEq>(kinds: &[K], cut: &Cut<'_>) -> String {
    let kept = nearest(kinds, cut.kept);
    let dropped: LayerSet<OriginalLayer> =
        (0..kinds.len()).filter(|layer| !kept.contains(layer)).map(|layer| cut.originals[layer]).collect();
    format!("`--drop {dropped}` removes as many layers and keeps the pattern")
}

/// As many layers as `kept`, each of the kind that `kinds` has at its place, with as many of `kept`
/// as possible; where several sets do, the one that keeps earlier layers. There always is one,
/// since the first layers are at their places.
fn nearest<K: PartialEq>(kinds: &[K], kept: &[usize]) -> Vec<usize> {
    let (places, layers) = (kept.len(), kinds.len());
    let mut wanted = vec![false; layers];
    kept.iter().for_each(|layer| wanted[*layer] = true);
    let fits = |place: usize, layer: usize| kinds[place] == kinds[layer];
    // best[place][layer]: most of `kept` when the first `place` places are filled from the first
    // `layer` layers; None where they cannot be.
    let mut best: Vec<Vec<Option<u32>>> = vec![vec![None; layers + 1]; places + 1];
    best[0] = vec![Some(0); layers + 1];
    for place in 1..=places {
        for layer in place..=layers {
            let without = best[place][layer - 1];
            let with = best[place - 1][layer - 1]
                .filter(|_| fits(place - 1, layer - 1))
                .map(|n| n + u32::from(wanted[layer - 1]));
            best[place][layer] = without.max(with);
        }
    }
    let mut chosen = Vec::with_capacity(places);
    let (mut place, mut layer) = (places, layers);
    while place > 0 {
        // A layer left out when that costs nothing: earlier ones are then taken.
        if layer > place && best[place][layer - 1] == best[place][layer] {
            layer -= 1;
            continue;
        }
        chosen.push(layer - 1);
        (place, layer) = (place - 1, layer - 1);
    }
    chosen.reverse();
    chosen
}

fn describe(kind: LayerKind) -> String {
    let attention = match kind.window {
        Some(window) => format!("a window of {window}"),
        None => "full attention".to_owned(),
    };
    match kind.rope {
        Some(0) => attention,
        Some(rope) => format!("{attention} and rotary embedding {rope}"),
        None => format!("{attention} without positions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_keeps_the_pattern_and_most_of_the_wish() {
        let kinds = [0, 0, 1, 0, 0, 1, 0, 0, 1];
        // Whole periods stay as they are.
        assert_eq!(nearest(&kinds, &[0, 1, 2, 6, 7, 8]), [0, 1, 2, 6, 7, 8]);
        // One layer too few of the first period: layer 2 cannot be at position 1.
        assert_eq!(nearest(&kinds, &[0, 2, 3, 4, 5, 6, 7, 8]), [0, 1, 2, 3, 4, 5, 6, 7]);
        // The last layer can stay if another one of its kind is removed.
        assert_eq!(nearest(&kinds, &[0, 1, 8]), [0, 1, 8]);
        assert_eq!(first_broken(&kinds, &[0, 1, 8]), None);
        assert_eq!(first_broken(&kinds, &[1, 2, 8]), Some((1, 2)));
    }

    #[test]
    fn nearest_always_finds_a_set() {
        for picks in 1u32..1 << 9 {
            let kinds = [0, 1, 1, 0, 2, 0, 1, 0, 0];
            let kept: Vec<usize> = (0..9).filter(|layer| picks >> layer & 1 == 1).collect();
            let found = nearest(&kinds, &kept);
            assert_eq!(found.len(), kept.len());
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(first_broken(&kinds, &found), None, "{kept:?}");
            if first_broken(&kinds, &kept).is_none() {
                assert_eq!(found, kept);
            }
        }
    }
}
