//! Random layers: the baseline that every other criterion has to beat. Seeded; the layers of a smaller cut are among
//! those of a larger one with the same seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use lopper_record::{LayerPosition, LayerSet};

use super::{By, Criterion, Selection};

pub(super) const CRITERION: Criterion =
    Criterion { needs_seed: true, ..Criterion::new("random", "random layers, by the seed", CHOOSE) };

const CHOOSE: By = By::Place(|request| {
    Ok(Selection { dropped: draw(request.num_layers, request.remove, request.seed), scores: None })
});

fn draw(num_layers: usize, n: usize, seed: u64) -> LayerSet<LayerPosition> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut layers: Vec<usize> = (0..num_layers).collect();
    for i in 0..n {
        // A multiply-shift on the raw word: the draw stays the same whatever `rand` does to ranges.
        let below = (num_layers - i) as u128;
        let j = i + ((u128::from(rng.next_u64()) * below) >> 64) as usize;
        layers.swap(i, j);
    }
    layers.into_iter().take(n).collect()
}
