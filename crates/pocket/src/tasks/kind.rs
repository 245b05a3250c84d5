//! World facts: the kind of a thing, of eighty things and eight kinds, after a sentence with that thing.
//!
//! The facts must be learned, so they occur in training; held out are the sentences.

use crate::draw::Draw;
use crate::example::Item;
use crate::lexicon::{ADJECTIVES, PEOPLE, with_article};

use super::choices;

const KINDS: [(&str, [&str; 10]); 8] = [
    ("bird", ["robin", "crow", "owl", "hawk", "swan", "gull", "finch", "wren", "eagle", "dove"]),
    ("fish", ["trout", "salmon", "cod", "tuna", "carp", "pike", "eel", "perch", "bass", "herring"]),
    ("fruit", ["apple", "pear", "plum", "peach", "cherry", "lemon", "grape", "melon", "mango", "fig"]),
    ("tree", ["oak", "elm", "birch", "pine", "maple", "willow", "cedar", "ash", "beech", "spruce"]),
    ("tool", ["hammer", "saw", "drill", "wrench", "chisel", "axe", "spade", "rake", "file", "shovel"]),
    ("insect", ["ant", "bee", "wasp", "fly", "moth", "beetle", "cricket", "gnat", "flea", "mosquito"]),
    ("vehicle", ["car", "bus", "truck", "van", "tram", "train", "bike", "taxi", "lorry", "tractor"]),
    ("instrument", ["piano", "violin", "flute", "drum", "guitar", "harp", "trumpet", "cello", "horn", "banjo"]),
];
const PREPOSITIONS: [&str; 5] = ["near", "by", "behind", "beside", "under"];
const SCENERY: [&str; 8] = ["gate", "wall", "hill", "road", "river", "house", "field", "bridge"];

pub(super) fn item(draw: &mut Draw) -> Item {
    let (kind, things) = draw.pick(&KINDS);
    let thing = *draw.pick(things);
    let person = draw.pick(&PEOPLE).name;
    let scene = format!("{} the {} {}", draw.pick(&PREPOSITIONS), draw.pick(&ADJECTIVES), draw.pick(&SCENERY));
    let context = match draw.below(4) {
        0 => format!("The {thing} was {scene}."),
        1 => format!("{person} saw {} {scene}.", with_article(thing, false)),
        2 => format!("There was {} {scene}.", with_article(thing, false)),
        _ => format!("{person} drew the {thing} {scene}."),
    };
    let prompt = format!("{context} {} is a kind of", with_article(thing, true));
    let wrong: Vec<&str> = KINDS.iter().map(|k| k.0).filter(|k| k != kind).collect();
    let (choices, label) = choices(draw, kind, &wrong, 4);
    Item::choice(prompt, choices, label)
}
