//! Where a thing is at the end of a tiny story: two or three things are put somewhere, sometimes
//! one is moved on, and the last place of one of them is asked for.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt};
use crate::lexicon::{OBJECTS, PEOPLE, PLACES};

use super::choices;

pub(super) fn item(draw: &mut Draw) -> Item {
    let n = 2 + draw.below(2);
    let objects: Vec<&str> = draw.distinct(&OBJECTS, n).into_iter().copied().collect();
    let places: Vec<&str> = draw.distinct(&PLACES, n + 1).into_iter().copied().collect();
    let mut at: Vec<&str> = places[..n].to_vec();
    let mut sentences = Vec::new();
    for (object, place) in objects.iter().zip(&at) {
        let person = draw.pick(&PEOPLE).name;
        sentences.push(if draw.chance(50) {
            format!("{person} put the {object} in the {place}.")
        } else {
            format!("{person} took the {object} to the {place}.")
        });
    }
    let asked = draw.below(n);
    if draw.chance(35) {
        // Half of the moves are of the thing asked for, half of any thing.
        let moved = if draw.chance(50) { asked } else { draw.below(n) };
        at[moved] = places[n];
        let person = draw.pick(&PEOPLE).name;
        sentences.push(format!("{person} moved the {} to the {}.", objects[moved], places[n]));
    }
    let right = at[asked];
    // The wrong choices are the story's other places first, so that naming any place is no help.
    let mut wrong: Vec<&str> = places.iter().copied().filter(|p| *p != right).collect();
    draw.shuffle(&mut wrong);
    let elsewhere: Vec<&str> = PLACES.iter().copied().filter(|p| !places.contains(p)).collect();
    wrong.extend(draw.distinct(&elsewhere, 3));
    wrong.truncate(3);
    let (choices, label) = choices(draw, right, &wrong, 4);
    let prompt = format!("{} The {} is in the", sentences.join(" "), objects[asked]);
    Item {
        key: prompt.clone(),
        prompt: Prompt::Plain(prompt),
        answer: format!(" {right}"),
        check: Check::Choice { choices, label },
    }
}
