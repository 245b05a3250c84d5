//! The arithmetic probe of arXiv 2602.01997: `Question: What is (9 + 8) * 2? Answer:` after three few-shot examples;
//! three single digits, answered without steps.
//!
//! Digits are 1 to 9, so that no factor of 0 gives the answer away, and answers are in -99..=99, which a model of this
//! size can learn. The split follows from the expression, so held-out expressions occur in training neither as
//! questions nor as few-shot examples. Training also has easier questions: the two halves of such an expression.

use crate::draw::Draw;
use crate::example::{Check, Item, Prompt, Split};

const TASK: &str = "pocket_arith";
const OPERATORS: [char; 3] = ['+', '-', '*'];

/// Three digits, two operators and their grouping.
#[derive(Debug, Clone, Copy)]
struct Expression {
    digits: [i64; 3],
    operators: [char; 2],
    /// Parentheses around the left or the right pair, or none.
    grouping: Grouping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    Left,
    Right,
    None,
}

fn apply(a: i64, operator: char, b: i64) -> i64 {
    match operator {
        '+' => a + b,
        '-' => a - b,
        _ => a * b,
    }
}

impl Expression {
    fn draw(draw: &mut Draw) -> Self {
        loop {
            let grouping =
                *draw.pick(&[Grouping::Left, Grouping::Left, Grouping::Right, Grouping::Right, Grouping::None]);
            // Without parentheses only + and -, so that precedence does not matter.
            let operators: &[char] = if grouping == Grouping::None { &OPERATORS[..2] } else { &OPERATORS };
            let expression = Self {
                digits: [draw.int(1, 9), draw.int(1, 9), draw.int(1, 9)],
                operators: [*draw.pick(operators), *draw.pick(operators)],
                grouping,
            };
            if expression.value().abs() <= 99 {
                return expression;
            }
        }
    }

    fn train(draw: &mut Draw) -> Self {
        loop {
            let expression = Self::draw(draw);
            if Split::of(TASK, &expression.text()) == Split::Train {
                return expression;
            }
        }
    }

    /// The pair that is computed first, and its value.
    fn inner(&self) -> (String, i64) {
        let at = usize::from(self.grouping == Grouping::Right);
        let (a, o, b) = (self.digits[at], self.operators[at], self.digits[at + 1]);
        (format!("{a} {o} {b}"), apply(a, o, b))
    }

    /// The remaining computation once the inner pair is known.
    fn outer(&self) -> String {
        let ([a, _, c], [first, second]) = (self.digits, self.operators);
        let (_, value) = self.inner();
        match self.grouping {
            Grouping::Right => format!("{a} {first} {value}"),
            _ => format!("{value} {second} {c}"),
        }
    }

    fn value(&self) -> i64 {
        let ([a, _, c], [first, second]) = (self.digits, self.operators);
        let (_, value) = self.inner();
        match self.grouping {
            Grouping::Right => apply(a, first, value),
            _ => apply(value, second, c),
        }
    }

    fn text(&self) -> String {
        let ([a, b, c], [first, second]) = (self.digits, self.operators);
        match self.grouping {
            Grouping::Left => format!("({a} {first} {b}) {second} {c}"),
            Grouping::Right => format!("{a} {first} ({b} {second} {c})"),
            Grouping::None => format!("{a} {first} {b} {second} {c}"),
        }
    }
}

fn question(expression: &str) -> String {
    format!("Question: What is {expression}? Answer:")
}

pub(super) fn item(draw: &mut Draw) -> Item {
    let expression = Expression::draw(draw);
    let mut prompt = String::new();
    for _ in 0..3 {
        let shot = Expression::train(draw);
        prompt += &format!("{} {}\n", question(&shot.text()), shot.value());
    }
    prompt += &question(&expression.text());
    Item {
        key: expression.text(),
        prompt: Prompt::Plain(prompt),
        answer: format!(" {}", expression.value()),
        check: Check::Number(expression.value()),
    }
}

/// One question of the training split and its answer, without few-shot examples.
pub(crate) fn line(draw: &mut Draw) -> (String, String) {
    let expression = Expression::train(draw);
    (question(&expression.text()), format!(" {}", expression.value()))
}

/// One easier question: half of a probe expression.
pub(crate) fn fact(draw: &mut Draw) -> (String, String) {
    loop {
        let (a, operator, b) = match draw.below(5) {
            0 | 1 => (draw.int(0, 9), *draw.pick(&OPERATORS), draw.int(0, 9)),
            2 => (draw.int(-9, 18), *draw.pick(&OPERATORS), draw.int(0, 9)),
            3 => (draw.int(0, 9), *draw.pick(&OPERATORS), draw.int(-9, 18)),
            _ => {
                let wide = draw.int(10, 81);
                let narrow = draw.int(0, 9);
                let operator = *draw.pick(&OPERATORS[..2]);
                if draw.chance(50) { (wide, operator, narrow) } else { (narrow, operator, wide) }
            }
        };
        let value = apply(a, operator, b);
        if value.abs() <= 99 {
            return (question(&format!("{a} {operator} {b}")), format!(" {value}"));
        }
    }
}

/// A question of the training split after its own two halves.
pub(crate) fn derivation(draw: &mut Draw) -> [(String, String); 3] {
    let expression = Expression::train(draw);
    let (inner, value) = expression.inner();
    let result = format!(" {}", expression.value());
    [
        (question(&inner), format!(" {value}")),
        (question(&expression.outer()), result.clone()),
        (question(&expression.text()), result),
    ]
}
