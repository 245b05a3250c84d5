//! Whether a review is good or bad.
//!
//! Clauses of one polarity, some of them negated (`was not clean`); or a clause of the other polarity followed by `but`
//! and a closing clause, which decides.

use crate::draw::Draw;
use crate::example::Item;

const SUBJECTS: [&str; 16] = [
    "soup", "bread", "tea", "cake", "waiter", "room", "bed", "view", "music", "service", "price", "staff", "film",
    "story", "seat", "food",
];
const GOOD: [&str; 12] =
    ["great", "lovely", "fresh", "kind", "clean", "quick", "tasty", "fair", "bright", "nice", "superb", "charming"];
const BAD: [&str; 12] =
    ["awful", "cold", "stale", "rude", "dirty", "slow", "bland", "dull", "broken", "poor", "noisy", "nasty"];
const HAPPY: [&str; 4] = ["we were happy", "we loved it", "we will come back", "we had fun"];
const SAD: [&str; 4] = ["we were sad", "we hated it", "we left early", "we were bored"];

pub(super) fn item(draw: &mut Draw) -> Item {
    let good = draw.chance(50);
    let subjects = draw.distinct(&SUBJECTS, 3);
    let review = match draw.below(10) {
        0..=3 => format!("{} and {}", clause(draw, subjects[0], good), clause(draw, subjects[1], good)),
        4..=6 => format!(
            "{}, {} and {}",
            clause(draw, subjects[0], good),
            clause(draw, subjects[1], good),
            clause(draw, subjects[2], good)
        ),
        _ => {
            let closing = draw.pick(if good { &HAPPY } else { &SAD });
            format!("{}, but {closing}", clause(draw, subjects[0], !good))
        }
    };
    let prompt = format!("Review: {review}. Feeling:");
    let label = usize::from(!good);
    let choices = vec![" good".to_owned(), " bad".to_owned()];
    Item::choice(prompt, choices, label)
}

fn clause(draw: &mut Draw, subject: &str, good: bool) -> String {
    let negated = draw.chance(20);
    let adjective = draw.pick(if good != negated { &GOOD } else { &BAD });
    let not = if negated { "not " } else { "" };
    format!("the {subject} was {not}{adjective}")
}
