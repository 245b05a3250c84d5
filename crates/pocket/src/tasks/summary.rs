//! One-sentence summaries: who did what, and where.
//!
//! These are in two sentences, the second with a pronoun, among one or two irrelevant sentences. The reference is one
//! sentence; the metric is ROUGE-L.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt};
use crate::lexicon::{ADJECTIVES, OBJECTS, PEOPLE, with_article};

const VERBS: [&str; 10] = ["found", "lost", "bought", "sold", "broke", "painted", "saw", "made", "hid", "cleaned"];
/// Places with their prepositions.
const SCENES: [(&str, &str); 10] = [
    ("in", "park"),
    ("at", "school"),
    ("at", "market"),
    ("on", "beach"),
    ("at", "station"),
    ("on", "farm"),
    ("in", "library"),
    ("in", "museum"),
    ("in", "garden"),
    ("in", "kitchen"),
];
const ARRIVALS: [&str; 3] = ["went to", "was at", "came to"];
const THINGS: [&str; 10] = ["sky", "wind", "bus", "road", "river", "sun", "music", "street", "train", "grass"];
const STATES: [&str; 10] = ["grey", "strong", "late", "quiet", "cold", "warm", "loud", "empty", "slow", "wet"];
const ELSEWHERE: [&str; 6] = ["stayed at home", "slept all day", "was ill", "had no time", "read a story", "made tea"];

pub(super) fn item(draw: &mut Draw) -> Item {
    let people = draw.distinct(&PEOPLE, 2);
    let (hero, other) = (people[0], people[1]);
    let (preposition, place) = *draw.pick(&SCENES);
    let arrival = draw.pick(&ARRIVALS);
    let verb = draw.pick(&VERBS);
    let object = format!("{} {}", draw.pick(&ADJECTIVES), draw.pick(&OBJECTS));
    let object = with_article(&object, false);

    let mut sentences =
        vec![format!("{} {arrival} the {place}.", hero.name), format!("{} {verb} {object}.", hero.pronoun)];
    for n in 0..draw.int(1, 2) {
        // A sentence about another person is never between the two, because the pronoun would refer to that person.
        let about_other = n == 0 && draw.chance(40);
        let sentence = if about_other {
            format!("{} {}.", other.name, draw.pick(&ELSEWHERE))
        } else {
            format!("The {} was {}.", draw.pick(&THINGS), draw.pick(&STATES))
        };
        let at = if about_other {
            if draw.chance(50) { 0 } else { sentences.len() }
        } else {
            draw.below(sentences.len() + 1)
        };
        sentences.insert(at, sentence);
    }
    let prompt = format!("Summarise: {}", sentences.join(" "));
    let reference = format!("{} {verb} {object} {preposition} the {place}.", hero.name);
    Item {
        key: prompt.clone(),
        prompt: Prompt::Chat(prompt),
        answer: reference.clone(),
        check: Check::Summary { reference },
    }
}
