//! What holds for every text: no panic, no verdict that depends on the order, and no false equality of
//! polynomials, whose values are known exactly.

use lopper_answer::extract::{chat_answer, code_blocks, python_block};
use lopper_answer::{Verdict, equivalent};
use proptest::prelude::*;

/// Pieces of which answers are made, and some that break them.
const PIECES: &str = r"
    1 2 10 3.5 .25 1,234 1e3 0.\overline{3} x y n e i \pi + - * / ^ _ ! = < \le \ne \in ( ) [ ] { } \{ \} , ; :
    | \frac \sqrt \sqrt[3] \binom \sin \log_2 \ln ^\circ \% \$ $ \pm \infty \cup \setminus \text{cm} \text{B}
    \mathbb{R} \begin{pmatrix} \end{pmatrix} & \\ \left( \right) {2} {x+1} ^{-1} east \lfloor \rfloor \boxed{
    \emptyset \approx − ² √ π é \ .
";

/// An expression in x and y with small whole coefficients.
#[derive(Debug, Clone)]
enum Tree {
    Number(i8),
    Variable(bool),
    Sum(Box<Tree>, Box<Tree>),
    Difference(Box<Tree>, Box<Tree>),
    Product(Box<Tree>, Box<Tree>),
    Square(Box<Tree>),
}

impl Tree {
    fn value(&self, x: i128, y: i128) -> i128 {
        match self {
            Self::Number(n) => i128::from(*n),
            Self::Variable(first) => {
                if *first {
                    x
                } else {
                    y
                }
            }
            Self::Sum(a, b) => a.value(x, y) + b.value(x, y),
            Self::Difference(a, b) => a.value(x, y) - b.value(x, y),
            Self::Product(a, b) => a.value(x, y) * b.value(x, y),
            Self::Square(a) => a.value(x, y).pow(2),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Number(n) if *n < 0 => format!("({n})"),
            Self::Number(n) => n.to_string(),
            Self::Variable(first) => if *first { "x" } else { "y" }.to_owned(),
            Self::Sum(a, b) => format!("({} + {})", a.text(), b.text()),
            Self::Difference(a, b) => format!("({} - {})", a.text(), b.text()),
            Self::Product(a, b) => format!("{} \\cdot {}", a.text(), b.text()),
            Self::Square(a) => format!("{{{}}}^2", a.text()),
        }
    }

    /// The same value in another shape: sides exchanged, products taken apart.
    fn reshaped(&self) -> Tree {
        let new = |tree: &Tree| Box::new(tree.reshaped());
        match self {
            Self::Sum(a, b) => Self::Sum(new(b), new(a)),
            Self::Difference(a, b) => {
                let minus = Self::Product(Box::new(Self::Number(-1)), new(b));
                Self::Sum(Box::new(minus), new(a))
            }
            Self::Product(a, b) => match &**a {
                Self::Sum(c, d) => {
                    Self::Sum(Box::new(Self::Product(new(b), new(c))), Box::new(Self::Product(new(d), new(b))))
                }
                _ => Self::Product(new(b), new(a)),
            },
            Self::Square(a) => Self::Product(new(a), a.clone()),
            leaf => leaf.clone(),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![any::<i8>().prop_map(|n| Tree::Number(n % 10)), any::<bool>().prop_map(Tree::Variable)];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            pair.clone().prop_map(|(a, b)| Tree::Sum(a.into(), b.into())),
            pair.clone().prop_map(|(a, b)| Tree::Difference(a.into(), b.into())),
            pair.prop_map(|(a, b)| Tree::Product(a.into(), b.into())),
            inner.prop_map(|a| Tree::Square(a.into())),
        ]
    })
}

fn garbage(most: usize) -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = PIECES.split_whitespace().chain([" ", r"\text{ or }"]).collect();
    prop::collection::vec(prop::sample::select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

/// Answers of every form over few values, so that some are equal.
fn structured() -> impl Strategy<Value = String> {
    const VALUES: [&str; 6] = ["2", "-2", "3", "\\frac{2}{3}", "\\sqrt{2}", "5"];
    let value = prop::sample::select(&VALUES[..]);
    (value.clone(), value, 0usize..14).prop_map(|(a, b, form)| match form {
        0 => a.to_owned(),
        1 => format!("({a}, {b})"),
        2 => format!("[{a}, {b})"),
        3 => format!("\\{{{a}, {b}\\}}"),
        4 => format!("{a}, {b}"),
        5 => format!("x = {a}"),
        6 => format!("x > {a}"),
        7 => format!("x \\in ({a}, \\infty)"),
        8 => format!("(-\\infty, {a}) \\cup [{b}, \\infty)"),
        9 => format!("{a} \\pm {b}"),
        10 => format!("\\begin{{pmatrix}} {a} \\\\ {b} \\end{{pmatrix}}"),
        11 => format!("{a} \\text{{ cm}}"),
        12 => format!("{a}x + {b}y = 3"),
        _ => format!("{a}\\%"),
    })
}

fn numbers() -> impl Strategy<Value = String> {
    let root = (1u32..60, 1u32..60).prop_map(|(a, b)| format!("{a}\\sqrt{{{b}}}"));
    let fraction = (1i32..60, 1u32..60).prop_map(|(a, b)| format!("\\frac{{{a}}}{{{b}}}"));
    prop_oneof![root, fraction, (0u32..99, 0u32..99).prop_map(|(a, b)| format!("{a}.{b:02}"))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_neither_panics_nor_depends_on_the_order(a in garbage(14), b in garbage(14)) {
        let (forth, back) = (equivalent(&a, &b), equivalent(&b, &a));
        prop_assert_eq!(forth.is_equal(), back.is_equal());
        prop_assert_eq!(forth == Verdict::Different, back == Verdict::Different);
    }

    #[test]
    fn answers_of_every_form_are_read_and_equal_to_themselves(a in structured(), b in structured()) {
        let (forth, back) = (equivalent(&a, &b), equivalent(&b, &a));
        prop_assert!(!matches!(forth, Verdict::Unparsed { .. }), "{} and {}: {:?}", a, b, forth);
        prop_assert_eq!(&forth, &back, "{} and {}", a, b);
        // In other words of the same meaning, so that comparing words does not decide.
        let other = a.replace('2', "(1+1)").replace('(', r"\left( ").replace(')', r" \right)");
        prop_assert_eq!(equivalent(&a, &other), Verdict::Equal, "{} and {}", a, other);
    }

    #[test]
    fn any_text_is_safe(a in any::<String>(), b in garbage(400)) {
        equivalent(&a, &b);
        chat_answer(&a);
        chat_answer(&b);
        code_blocks(&a);
        python_block(&b);
    }

    #[test]
    fn polynomials_are_equal_exactly_if_they_are(a in tree(), b in tree()) {
        // Of degree and size as small as these, polynomials that agree at 17 × 17 points beyond
        // their zeros are the same.
        let points = (40..57).flat_map(|x| (60..77).map(move |y| (x, y)));
        let same = points.clone().all(|(x, y)| a.value(x, y) == b.value(x, y));
        let verdict = equivalent(&a.text(), &b.text());
        prop_assert_eq!(verdict.is_equal(), same, "{} and {}: {:?}", a.text(), b.text(), verdict);
    }

    #[test]
    fn reshaping_changes_nothing_and_one_more_changes_it(a in tree()) {
        let other = a.reshaped().text();
        prop_assert!(equivalent(&a.text(), &other).is_equal(), "{} and {}", a.text(), other);
        prop_assert_eq!(equivalent(&format!("{other} + 1"), &a.text()), Verdict::Different);
    }

    #[test]
    fn numbers_are_equal_exactly_if_their_values_are(a in numbers(), b in numbers()) {
        let value = |text: &str| -> f64 {
            let numbers: Vec<f64> = text
                .split(|c: char| !c.is_ascii_digit() && c != '.')
                .filter(|part| !part.is_empty())
                .map(|part| part.parse().unwrap())
                .collect();
            match numbers[..] {
                [x] => x,
                [x, y] if text.contains("sqrt") => x * y.sqrt(),
                [x, y] => x / y,
                _ => f64::NAN,
            }
        };
        let same = (value(&a) - value(&b)).abs() < 1e-9;
        prop_assert_eq!(equivalent(&a, &b).is_equal(), same, "{} and {}", a, b);
    }
}
