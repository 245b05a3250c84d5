//! Small Python functions by description, which are executed.
//!
//! A description has one to three parts joined by `then`: changes of the first parameter, one `if`/`else`, or one
//! counted loop. The response is graded by what it returns, not by its text; the reference answer gives the expected
//! results.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt};
use crate::lang::{Limits, run};

const FUNCTIONS: [&str; 3] = ["f", "g", "h"];
const PARAMETERS: [&[&str]; 5] = [&["x"], &["n"], &["x"], &["x", "y"], &["a", "b"]];

pub(super) fn item(draw: &mut Draw) -> Item {
    loop {
        if let Some(item) = attempt(draw) {
            return item;
        }
    }
}

/// A part of the description and its lines of code.
struct Part {
    phrase: String,
    lines: Vec<String>,
    /// A number at which the behaviour changes; tests call the function on both sides of it.
    threshold: Option<i64>,
}

fn attempt(draw: &mut Draw) -> Option<Item> {
    let function = *draw.pick(&FUNCTIONS);
    let parameters = *draw.pick(&PARAMETERS);
    let n = 1 + draw.weighted(&[8.0, 46.0, 46.0]);
    let compound = draw.chance(60).then(|| draw.below(n));
    let mut parts = Vec::new();
    for i in 0..n {
        parts.push(match compound {
            Some(at) if at == i && draw.chance(60) => branch(draw, parameters),
            Some(at) if at == i => repetition(draw, parameters),
            _ => {
                let (phrase, line) = change(draw, parameters, false);
                Part { phrase, lines: vec![line], threshold: None }
            }
        });
    }
    let signature = format!("{function}({})", parameters.join(", "));
    let phrases: Vec<&str> = parts.iter().map(|p| p.phrase.as_str()).collect();
    let prompt = format!("Write {signature}: {}.", phrases.join(", then "));
    let mut answer = format!("def {signature}:\n");
    for line in parts.iter().flat_map(|p| &p.lines) {
        answer += &format!("    {line}\n");
    }
    answer += &format!("    return {}", parameters[0]);

    let threshold = parts.iter().find_map(|p| p.threshold);
    let cases = cases(draw, &answer, function, parameters.len(), threshold)?;
    Some(Item {
        key: prompt.clone(),
        prompt: Prompt::Chat(prompt),
        answer,
        check: Check::Code { function: function.to_owned(), cases },
    })
}

/// Arguments and the reference's results; none if it does not return.
fn cases(
    draw: &mut Draw,
    source: &str,
    function: &str,
    arity: usize,
    threshold: Option<i64>,
) -> Option<Vec<(Vec<i64>, i64)>> {
    let mut firsts: Vec<i64> = threshold.map(|t| vec![t - 1, t, t + 1]).unwrap_or_default();
    while firsts.len() < 5 {
        let first = draw.int(-9, 20);
        if !firsts.contains(&first) {
            firsts.push(first);
        }
    }
    let mut cases = Vec::new();
    for first in firsts {
        let mut args = vec![first];
        args.extend((1..arity).map(|_| draw.int(-3, 9)));
        let result = run(source, function, &args, Limits::default()).ok()?;
        cases.push((args, result));
    }
    Some(cases)
}

/// A change of the first parameter: its phrase and its line. `mild` ones can be repeated.
fn change(draw: &mut Draw, parameters: &[&str], mild: bool) -> (String, String) {
    let v = parameters[0];
    let k = draw.int(2, 9);
    // An operand is a number or, where there is one, the other parameter.
    let operand = match parameters.get(1) {
        Some(other) if draw.chance(40) => (*other).to_owned(),
        _ => k.to_string(),
    };
    match draw.below(if mild { 3 } else { 11 }) {
        0 => (format!("add {operand}"), format!("{v} = {v} + {operand}")),
        1 => (format!("subtract {operand}"), format!("{v} = {v} - {operand}")),
        2 => ("double it".to_owned(), format!("{v} = {v} * 2")),
        3 => (format!("multiply by {operand}"), format!("{v} = {v} * {operand}")),
        4 => (format!("divide by {k}"), format!("{v} = {v} // {k}")),
        5 => (format!("take the remainder by {k}"), format!("{v} = {v} % {k}")),
        6 => (format!("take the larger with {operand}"), format!("{v} = max({v}, {operand})")),
        7 => (format!("take the smaller with {operand}"), format!("{v} = min({v}, {operand})")),
        8 => ("negate it".to_owned(), format!("{v} = -{v}")),
        9 => ("square it".to_owned(), format!("{v} = {v} * {v}")),
        _ => ("take the absolute value".to_owned(), format!("{v} = abs({v})")),
    }
}

fn branch(draw: &mut Draw, parameters: &[&str]) -> Part {
    let v = parameters[0];
    let k = draw.int(2, 9);
    let (words, condition, threshold) = match draw.below(6) {
        0 => (format!("more than {k}"), format!("{v} > {k}"), Some(k)),
        1 => (format!("less than {k}"), format!("{v} < {k}"), Some(k)),
        2 => (format!("at least {k}"), format!("{v} >= {k}"), Some(k)),
        3 => (format!("at most {k}"), format!("{v} <= {k}"), Some(k)),
        4 => ("even".to_owned(), format!("{v} % 2 == 0"), None),
        _ => match parameters.get(1) {
            Some(other) => (format!("more than {other}"), format!("{v} > {other}"), None),
            None => ("below zero".to_owned(), format!("{v} < 0"), Some(0)),
        },
    };
    let (then_phrase, then_line) = change(draw, parameters, false);
    let mut phrase = format!("if it is {words}, {then_phrase}");
    let mut lines = vec![format!("if {condition}:"), format!("    {then_line}")];
    if draw.chance(70) {
        let (else_phrase, else_line) = change(draw, parameters, false);
        phrase += &format!(", otherwise {else_phrase}");
        lines.extend(["else:".to_owned(), format!("    {else_line}")]);
    }
    Part { phrase, lines, threshold }
}

fn repetition(draw: &mut Draw, parameters: &[&str]) -> Part {
    let v = parameters[0];
    let k = draw.int(2, 6);
    let limit = match parameters.get(1) {
        Some(other) if draw.chance(40) => (*other).to_owned(),
        _ => k.to_string(),
    };
    if draw.chance(50) {
        let (phrase, line) = change(draw, &parameters[..1], true);
        Part {
            phrase: format!("repeat {limit} times: {phrase}"),
            lines: vec![format!("for i in range({limit}):"), format!("    {line}")],
            threshold: None,
        }
    } else {
        let (word, operator) = *draw.pick(&[("add", '+'), ("subtract", '-')]);
        let factor = draw.int(2, 5);
        let term = if draw.chance(50) { format!("i * {factor}") } else { "i".to_owned() };
        Part {
            phrase: format!("for each i below {limit} {word} {term}"),
            lines: vec![format!("for i in range({limit}):"), format!("    {v} = {v} {operator} {term}")],
            threshold: None,
        }
    }
}
