//! Items of simulated studies, from true rates.

use std::thread;

use lopper_stats::Pair;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A task's true rates.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    /// Retention above chance.
    pub retention: f64,
    /// The uncut model's accuracy.
    pub base: f64,
    /// The cut model's accuracy where the uncut one is wrong.
    pub gain: f64,
    /// The accuracy of guessing.
    pub chance: f64,
}

impl Truth {
    /// A task without a chance level.
    pub fn new(retention: f64, base: f64, gain: f64) -> Self {
        Self { retention, base, gain, chance: 0.0 }
    }

    /// The cut model's accuracy where the uncut one is right; outside 0..=1 where there are no such rates.
    pub fn kept(&self) -> f64 {
        let cut = self.chance + self.retention * (self.base - self.chance);
        (cut - self.gain * (1.0 - self.base)) / self.base
    }

    /// The scores of `n` items.
    pub fn draw(&self, n: usize, rng: &mut ChaCha8Rng) -> Items {
        let kept = self.kept();
        let mut happens = |p: f64| f64::from(rng.next_u32()) < p * 4_294_967_296.0;
        let mut items = Items { base: Vec::with_capacity(n), cut: Vec::with_capacity(n), chance: Vec::new() };
        for _ in 0..n {
            let right = happens(self.base);
            items.base.push(f64::from(u8::from(right)));
            items.cut.push(f64::from(u8::from(happens(if right { kept } else { self.gain }))));
        }
        if self.chance > 0.0 {
            items.chance = vec![self.chance; n];
        }
        items
    }
}

/// One task's items.
#[derive(Debug, Clone)]
pub struct Items {
    /// The uncut model's scores.
    pub base: Vec<f64>,
    /// The cut model's.
    pub cut: Vec<f64>,
    /// Of guessing; empty for 0.
    pub chance: Vec<f64>,
}

impl Items {
    /// As the library takes them.
    pub fn pair(&self) -> Pair<'_> {
        Pair { base: &self.base, cut: &self.cut, chance: &self.chance }
    }
}

/// The outcome of each study, with a random stream of its own, so that threads change nothing but the order.
pub fn outcomes<T: Send>(studies: u64, seed: u64, outcome: impl Fn(&mut ChaCha8Rng) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let part = |first: u64| {
        let of = |study: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(study);
            outcome(&mut rng)
        };
        (first..studies).step_by(threads as usize).map(of).collect::<Vec<T>>()
    };
    thread::scope(|scope| {
        let part = &part;
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        running.into_iter().flat_map(|part| part.join().expect("a simulated study does not panic")).collect()
    })
}

/// How often `happens` in studies.
pub fn rate(studies: u64, seed: u64, happens: impl Fn(&mut ChaCha8Rng) -> bool + Sync) -> f64 {
    outcomes(studies, seed, happens).into_iter().filter(|happened| *happened).count() as f64 / studies as f64
}
