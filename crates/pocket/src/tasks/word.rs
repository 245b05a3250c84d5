//! Word problems of two to four steps in the form of GSM8K: a story, a question, a solution with one equation per step,
//! and the final answer after `####`.
//!
//! A story has an opening, some events, sometimes an irrelevant number, and one of several questions. Which numbers to
//! combine must be read from the text: people give and receive, own other things, or are compared with each other.
//! Every intermediate value is in 1..=99 and every division is exact.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt};
use crate::lexicon::{PEOPLE, Person};
use crate::tokenizer::pieces;

const FOODS: [&str; 6] = ["apples", "pears", "plums", "eggs", "nuts", "cakes"];
const GOODS: [&str; 6] = ["cards", "books", "pens", "shells", "stones", "stamps"];
const PAIRS: [(&str, &str); 3] = [("red", "green"), ("big", "small"), ("old", "new")];
const PACKS: [(&str, &str); 4] = [("bags", "bag"), ("boxes", "box"), ("jars", "jar"), ("baskets", "basket")];
const PROMPT_TOKENS: usize = 52;

pub(super) fn item(draw: &mut Draw) -> Item {
    loop {
        if let Some(item) = attempt(draw) {
            return item;
        }
    }
}

struct Story {
    hero: Person,
    thing: &'static str,
    food: bool,
    sentences: Vec<String>,
    steps: Vec<String>,
    /// Whether a pronoun now refers to the hero.
    hero_is_subject: bool,
}

impl Story {
    fn step(&mut self, a: i64, operator: char, b: i64) -> Option<i64> {
        let result = match operator {
            '+' => a + b,
            '-' => a - b,
            '*' => a * b,
            _ if b != 0 && a % b == 0 => a / b,
            _ => return None,
        };
        self.steps.push(format!("{a} {operator} {b} = {result}."));
        (1..=99).contains(&result).then_some(result)
    }

    fn say(&mut self, sentence: String, about_hero: bool) {
        self.sentences.push(sentence);
        self.hero_is_subject = about_hero;
    }

    /// The hero as the subject of the next sentence.
    fn subject(&self, draw: &mut Draw) -> &'static str {
        if self.hero_is_subject && draw.chance(75) { self.hero.pronoun } else { self.hero.name }
    }
}

fn attempt(draw: &mut Draw) -> Option<Item> {
    let people = draw.distinct(&PEOPLE, 3);
    let (hero, friend, other) = (*people[0], people[1].name, people[2].name);
    let food = draw.chance(50);
    let thing = *draw.pick(if food { &FOODS } else { &GOODS });
    let mut story = Story { hero, thing, food, sentences: Vec::new(), steps: Vec::new(), hero_is_subject: false };

    let mut value = opening(&mut story, draw, friend)?;
    let distractor_first = draw.chance(20);
    if distractor_first {
        distract(&mut story, draw, other);
    }
    for _ in 0..draw.weighted(&[20.0, 45.0, 35.0]) {
        value = event(&mut story, draw, friend, value)?;
    }
    if !distractor_first && draw.chance(15) {
        distract(&mut story, draw, friend);
    }
    let answer = question(&mut story, draw, other, value)?;
    if !(2..=4).contains(&story.steps.len()) {
        return None;
    }
    let prompt = story.sentences.join(" ");
    if pieces(&prompt).count() > PROMPT_TOKENS {
        return None;
    }
    Some(Item {
        key: prompt.clone(),
        prompt: Prompt::Chat(prompt),
        answer: format!("{}\n#### {answer}", story.steps.join(" ")),
        check: Check::Number(answer),
    })
}

fn opening(story: &mut Story, draw: &mut Draw, friend: &str) -> Option<i64> {
    let (hero, thing) = (story.hero.name, story.thing);
    match draw.weighted(&[45.0, 20.0, 15.0, 20.0]) {
        0 => {
            let a = draw.int(5, 40);
            story.say(format!("{hero} has {a} {thing}."), true);
            Some(a)
        }
        1 => {
            let (packs, _) = draw.pick(&PACKS);
            let (n, each) = (draw.int(2, 9), draw.int(2, 9));
            story.say(format!("{hero} has {n} {packs} of {each} {thing}."), true);
            story.step(n, '*', each)
        }
        2 => {
            let (one, two) = draw.pick(&PAIRS);
            let (a, b) = (draw.int(2, 30), draw.int(2, 30));
            story.say(format!("{hero} has {a} {one} {thing} and {b} {two} {thing}."), true);
            story.step(a, '+', b)
        }
        _ => {
            let a = draw.int(4, 30);
            story.say(format!("{friend} has {a} {thing}."), false);
            compare(story, draw, hero, friend, a, true)
        }
    }
}

/// States how many `who` has relative to `whom`, who has `value`.
fn compare(story: &mut Story, draw: &mut Draw, who: &str, whom: &str, value: i64, about_hero: bool) -> Option<i64> {
    let thing = story.thing;
    let (sentence, operator, b) = match draw.below(3) {
        0 => {
            let b = draw.int(2, 20);
            (format!("{who} has {b} more {thing} than {whom}."), '+', b)
        }
        1 => {
            let b = draw.int(2, 20);
            (format!("{who} has {b} fewer {thing} than {whom}."), '-', b)
        }
        _ => {
            let b = draw.int(2, 4);
            (format!("{who} has {b} times as many {thing} as {whom}."), '*', b)
        }
    };
    story.say(sentence, about_hero);
    story.step(value, operator, b)
}

fn event(story: &mut Story, draw: &mut Draw, friend: &str, value: i64) -> Option<i64> {
    let (hero, thing) = (story.hero.name, story.thing);
    let subject = story.subject(draw);
    let packs = draw.pick(&PACKS).0;
    let b = draw.int(2, 20);
    let (n, each) = (draw.int(2, 9), draw.int(2, 9));
    match draw.weighted(&[25.0, 12.0, 30.0, 18.0, 7.0, 8.0]) {
        0 => {
            let verb = draw.pick(&["finds", "buys", "gets"]);
            story.say(format!("{subject} {verb} {b} more."), true);
            story.step(value, '+', b)
        }
        1 => {
            story.say(format!("{friend} gives {hero} {b} more."), false);
            story.step(value, '+', b)
        }
        2 => {
            let verbs: &[&str] =
                if story.food { &["loses", "sells", "eats", "gives"] } else { &["loses", "sells", "gives"] };
            let verb = *draw.pick(verbs);
            let to = if verb == "gives" { format!(" to {friend}") } else { String::new() };
            story.say(format!("{subject} {verb} {b}{to}."), true);
            story.step(value, '-', b)
        }
        3 => {
            story.say(format!("{subject} buys {n} {packs} of {each} {thing}."), true);
            let product = story.step(n, '*', each)?;
            story.step(value, '+', product)
        }
        4 => {
            story.say(format!("{subject} sells {n} {packs} of {each} {thing}."), true);
            let product = story.step(n, '*', each)?;
            story.step(value, '-', product)
        }
        _ => {
            story.say(format!("{subject} gives half of them to {friend}."), true);
            story.step(value, '/', 2)
        }
    }
}

/// A number that is irrelevant to the question.
fn distract(story: &mut Story, draw: &mut Draw, other: &str) {
    let hero = story.hero.name;
    let b = draw.int(2, 30);
    let kinds: Vec<&str> = FOODS.iter().chain(&GOODS).copied().filter(|t| *t != story.thing).collect();
    let unrelated = draw.pick(&kinds);
    match draw.below(3) {
        0 => story.say(format!("{other} has {b} {unrelated}."), false),
        1 => story.say(format!("{hero} also has {b} {unrelated}."), true),
        _ => story.say(format!("{other} is {b} years old."), false),
    }
}

fn question(story: &mut Story, draw: &mut Draw, other: &str, value: i64) -> Option<i64> {
    let (hero, thing) = (story.hero.name, story.thing);
    let subject = story.subject(draw);
    match draw.weighted(&[50.0, 14.0, 12.0, 14.0, 10.0]) {
        0 => {
            let now = if draw.chance(50) { " now" } else { "" };
            story.say(format!("How many {thing} does {hero} have{now}?"), true);
            Some(value)
        }
        1 => {
            let (packs, pack) = draw.pick(&PACKS);
            let divisors: Vec<i64> = (2..=9).filter(|d| value <= 60 && value % d == 0 && value > *d).collect();
            if divisors.is_empty() {
                return None;
            }
            let n = *draw.pick(&divisors);
            story.say(format!("{subject} puts them in {n} {packs}."), true);
            story.say(format!("How many {thing} are in each {pack}?"), true);
            story.step(value, '/', n)
        }
        2 => {
            let price = draw.int(2, 5);
            story.say(format!("{subject} sells them for {price} coins each."), true);
            story.say(format!("How many coins does {hero} get?"), true);
            (value <= 30).then(|| story.step(value, '*', price))?
        }
        3 => {
            let result = compare(story, draw, other, hero, value, false)?;
            story.say(format!("How many {thing} does {other} have?"), false);
            Some(result)
        }
        _ => {
            let b = draw.int(2, 30);
            story.say(format!("{other} has {b} {thing}."), false);
            story.say(format!("How many {thing} do {hero} and {other} have together?"), false);
            story.step(value, '+', b)
        }
    }
}
