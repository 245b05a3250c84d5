//! Python's `random.Random(seed).sample`: the few-shot examples of a prompt are those that
//! lm-evaluation-harness draws only if the same generator makes the same draws.
//!
//! The generator is the Mersenne Twister MT19937 (the `rand_mt` crate); how CPython seeds it with a whole
//! number, draws below a bound and samples without replacement is in its `Lib/random.py` and
//! `Modules/_randommodule.c` (3.8 to 3.13 agree). Not covered: seeds beyond 32 bits, anything but
//! `sample`.

use rand_mt::Mt;

/// A generator in the state of Python's `random.Random(seed)`.
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// Seeds it as Python does with a whole number.
    pub fn new(seed: u32) -> Self {
        Self(Mt::new_with_key([seed]))
    }

    /// `randrange(bound)`; a bound of 0 gives 0.
    fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        if bits == 0 || bits > 32 {
            return 0;
        }
        loop {
            let drawn = (self.0.next_u32() >> (32 - bits)) as usize;
            if drawn < bound {
                return drawn;
            }
        }
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
}
