//! Bracket completion: close all open brackets, innermost first.
//!
//! The prefix has two to eight open brackets of three kinds, and possibly closed pairs. The response must balance it,
//! with nothing else.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt};

const KINDS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];
/// Weights of 2, 3, ... 8 open brackets.
const DEPTHS: [f64; 7] = [8.0, 20.0, 22.0, 20.0, 14.0, 9.0, 7.0];

pub(super) fn item(draw: &mut Draw) -> Item {
    let depth = 2 + draw.weighted(&DEPTHS);
    let closed = draw.below(5);
    let (mut opens, mut closes) = (depth + closed, closed);
    let mut stack = Vec::new();
    let mut prefix = Vec::new();
    while opens + closes > 0 {
        let close = !stack.is_empty() && draw.below(opens + closes) < closes;
        if close || opens == 0 {
            let Some(bracket) = stack.pop() else { break };
            prefix.push(bracket);
            closes -= 1;
        } else {
            let (open, bracket) = *draw.pick(&KINDS);
            prefix.push(open);
            stack.push(bracket);
            opens -= 1;
        }
    }
    let prefix = spaced(prefix);
    let answer: String = stack.iter().rev().map(|b| format!(" {b}")).collect();
    Item {
        prompt: Prompt::Plain(format!("Close the brackets: {prefix} Answer:")),
        answer,
        check: Check::Brackets { prefix: prefix.clone() },
        key: prefix,
    }
}

fn spaced(brackets: Vec<char>) -> String {
    brackets.iter().map(char::to_string).collect::<Vec<_>>().join(" ")
}
