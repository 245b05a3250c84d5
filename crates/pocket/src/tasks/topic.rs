//! The topic of a short text: that of most of its sentences.

use crate::draw::Draw;
use crate::example::Item;
use crate::lexicon::{PEOPLE, capitalised};

use super::choices;

/// A topic and its sentences, divided by semicolons; `@` stands for a name.
const TOPICS: [(&str, &str); 6] = [
    (
        "sport",
        "@ kicked the ball; @ won the match; @ ran the race; @ scored a goal; \
         @ joined the team; the crowd cheered; the coach shouted; the game was close",
    ),
    (
        "cooking",
        "@ fried the eggs; @ baked the bread; @ chopped the onions; @ stirred the soup; \
         @ added salt; the oven was hot; the sauce was thick; the pan was full",
    ),
    (
        "weather",
        "rain fell all day; the wind was strong; snow covered the hills; clouds hid the sun; \
         the storm came at night; thunder was loud; the fog was thick; @ felt the frost",
    ),
    (
        "music",
        "@ played the violin; @ sang a song; @ wrote a tune; @ tuned the guitar; \
         the band was loud; the choir sang well; the concert was long; the piano was old",
    ),
    (
        "travel",
        "@ packed a bag; @ booked a ticket; @ flew to the coast; @ lost the passport; \
         @ crossed the border; the train was late; the hotel was full; the plane landed",
    ),
    (
        "school",
        "@ passed the exam; @ learned to read; @ did the homework; @ opened the textbook; \
         the teacher was kind; the lesson was long; the class was quiet; the bell rang",
    ),
];

fn sentences(topic: usize) -> Vec<&'static str> {
    TOPICS[topic].1.split("; ").collect()
}

pub(super) fn item(draw: &mut Draw) -> Item {
    let order = draw.positions(TOPICS.len(), 2);
    let topic = TOPICS[order[0]].0;
    let n = 2 + draw.below(2);
    let mut text: Vec<String> = draw.distinct(&sentences(order[0]), n).into_iter().map(|s| fill(draw, s)).collect();
    if n == 3 && draw.chance(40) {
        // Two of three still belong to the topic.
        let intruder = *draw.pick(&sentences(order[1]));
        let at = draw.below(3);
        text[at] = fill(draw, intruder);
    }
    let prompt = format!("Text: {} Topic:", text.join(" "));
    let wrong: Vec<&str> = TOPICS.iter().map(|t| t.0).filter(|t| *t != topic).collect();
    let (choices, label) = choices(draw, topic, &wrong, 4);
    Item::choice(prompt, choices, label)
}

fn fill(draw: &mut Draw, sentence: &str) -> String {
    format!("{}.", capitalised(&sentence.replace('@', draw.pick(&PEOPLE).name)))
}
