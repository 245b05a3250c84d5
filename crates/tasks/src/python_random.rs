//! Python's `random.Random(seed)`, its `sample`, `shuffle` and `gauss`: the few-shot examples of a prompt and the order
//! of choices are those of lm-evaluation-harness only if the same generator makes the same draws.
//!
//! The generator is the Mersenne Twister MT19937 (the `rand_mt` crate); how CPython seeds it with a whole
//! number, draws below a bound and samples without replacement is in its `Lib/random.py` and
//! `Modules/_randommodule.c` (3.8 to 3.13 agree). Not covered: seeds beyond 32 bits, other
//! draws.

use rand_mt::Mt;

/// A generator in the state of Python's `random.Random(seed)`.
pub struct PythonRandom {
    generator: Mt,
    /// `gauss` makes two numbers at once.
    spare: Option<f64>,
}

impl PythonRandom {
    /// Seeds it as Python does with a whole number.
    pub fn new(seed: u32) -> Self {
        Self { generator: Mt::new_with_key([seed]), spare: None }
    }

    /// `random()`: from 0 to below 1.
    fn random(&mut self) -> f64 {
        let (high, low) = (self.generator.next_u32() >> 5, self.generator.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `gauss(0, 1)`.
    pub fn gauss(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = self.random() * std::f64::consts::TAU;
        let radius = (-2.0 * (1.0 - self.random()).ln()).sqrt();
        self.spare = Some(angle.sin() * radius);
        angle.cos() * radius
    }

    /// `randrange(bound)`; a bound of 0 gives 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        if bits == 0 || bits > 32 {
            return 0;
        }
        loop {
            let drawn = (self.generator.next_u32() >> (32 - bits)) as usize;
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// The order that `shuffle` brings a list of `count` into: the places that its entries were at.
    pub fn shuffle(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }

    /// The places that `sample(range(population), count)` gives, in its order; none where there are
    /// fewer than `count`.
    pub fn sample(&mut self, population: usize, count: usize) -> Option<Vec<usize>> {
        if count > population || u32::try_from(population).is_err() {
            return None;
        }
        // Up to here a list of all is as small as a set of the drawn.
        let mut list_up_to = 21.0f64;
        if count > 5 {
            // Python's `math.log(x, 4)` is a quotient of two logarithms.
            list_up_to += 4f64.powf((((count * 3) as f64).ln() / 4f64.ln()).ceil());
        }
        let mut drawn = Vec::with_capacity(count);
        if population as f64 <= list_up_to {
            let mut pool: Vec<usize> = (0..population).collect();
            for at in 0..count {
                let place = self.below(population - at);
                drawn.push(pool[place]);
                pool[place] = pool[population - at - 1];
            }
        } else {
            let mut seen = std::collections::HashSet::with_capacity(count);
            while drawn.len() < count {
                let place = self.below(population);
                if seen.insert(place) {
                    drawn.push(place);
                }
            }
        }
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fixtures/tasks/make_random.py` with CPython 3.11: draws one after the other from
    /// `random.Random(1234)`.
    #[test]
    fn draws_are_those_of_python() {
        let cases: Vec<(usize, usize, Vec<usize>)> =
            serde_json::from_str(include_str!("../../../fixtures/tasks/random.json")).unwrap();
        assert!(cases.len() > 20);
        let mut random = PythonRandom::new(1234);
        for (population, count, expected) in cases {
            assert_eq!(random.sample(population, count).unwrap(), expected, "{count} of {population}");
        }
        assert_eq!(random.sample(3, 4), None);
        assert_eq!(random.sample(0, 0), Some(vec![]));
    }

    /// `fixtures/tasks/make_random.py` with CPython 3.11: shuffles one after the other by `random.Random(0)`.
    #[test]
    fn shuffles_are_those_of_python() {
        let cases: Vec<Vec<usize>> =
            serde_json::from_str(include_str!("../../../fixtures/tasks/shuffles.json")).unwrap();
        assert!(cases.len() > 20);
        let mut random = PythonRandom::new(0);
        for expected in cases {
            assert_eq!(random.shuffle(expected.len()), expected);
        }
    }
}
