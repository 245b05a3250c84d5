//! The words of a written answer, before any grammar.
//!
//! [`super::lex`] makes them. What only steers typesetting (`\left`, `\displaystyle`, thin spaces,
//! dollar signs) is gone; synonyms (`\dfrac`, `\leqslant`, `≤`) are one; numbers are exact.

use num_bigint::BigInt;
use num_rational::Ratio;

/// An exact rational number.
pub(super) type Rational = Ratio<BigInt>;

/// One word, and whether space stood before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub spaced: bool,
}

/// What a word is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A number as written; the places after its point, where it has one.
    Number { value: Rational, places: Option<u32> },
    /// A letter that stands for a variable or constant.
    Letter(char),
    /// Prose: what `\text{…}` holds, or a word that no formula would contain; lower case.
    Text(String),
    /// A command without its backslash, or a name that is written without one (`sin`).
    Command(&'static str),
    /// A single character with a meaning: operators, brackets, separators.
    Symbol(char),
    /// `\begin{…}` of a matrix; whether its value is its determinant.
    Begin { determinant: bool },
    /// `\end{…}` of a matrix.
    End,
    /// `\\`, the end of a row.
    Row,
    /// `and`, `or` or a comma between answers; whether it was `and`.
    Separator { and: bool },
}

/// A written set's braces, which are not the grouping braces of LaTeX.
pub(super) const SET_OPEN: char = '⦃';
/// See [`SET_OPEN`].
pub(super) const SET_CLOSE: char = '⦄';

/// Synonyms: as written, and the name the parser knows. Commands that are absent are refused.
const COMMANDS: &[(&str, &str)] = &[
    ("frac", "frac"),
    ("dfrac", "frac"),
    ("tfrac", "frac"),
    ("cfrac", "frac"),
    ("sqrt", "sqrt"),
    ("binom", "binom"),
    ("dbinom", "binom"),
    ("tbinom", "binom"),
    ("choose", "choose"),
    ("pi", "pi"),
    ("infty", "infty"),
    ("infinity", "infty"),
    ("inf", "infty"),
    ("circ", "circ"),
    ("degree", "circ"),
    ("pm", "pm"),
    ("mp", "mp"),
    ("le", "le"),
    ("leq", "le"),
    ("leqslant", "le"),
    ("leqq", "le"),
    ("ge", "ge"),
    ("geq", "ge"),
    ("geqslant", "ge"),
    ("geqq", "ge"),
    ("ne", "ne"),
    ("neq", "ne"),
    ("approx", "approx"),
    ("simeq", "approx"),
    ("in", "in"),
    ("cup", "cup"),
    ("bigcup", "cup"),
    ("setminus", "setminus"),
    ("backslash", "setminus"),
    ("emptyset", "emptyset"),
    ("varnothing", "emptyset"),
    ("implies", "implies"),
    ("Rightarrow", "implies"),
    ("Longrightarrow", "implies"),
    ("prime", "prime"),
    ("sin", "sin"),
    ("cos", "cos"),
    ("tan", "tan"),
    ("cot", "cot"),
    ("sec", "sec"),
    ("csc", "csc"),
    ("arcsin", "arcsin"),
    ("arccos", "arccos"),
    ("arctan", "arctan"),
    ("sinh", "sinh"),
    ("cosh", "cosh"),
    ("tanh", "tanh"),
    ("ln", "ln"),
    ("log", "log"),
    ("lg", "log"),
    ("exp", "exp"),
    ("overline", "overline"),
    ("bar", "overline"),
    ("vec", "vec"),
    ("overrightarrow", "vec"),
    ("hat", "vec"),
    ("widehat", "vec"),
    ("angle", "angle"),
    ("measuredangle", "angle"),
    ("triangle", "triangle"),
    ("mathbb", "mathbb"),
];

/// Greek letters and their like: variables under a name of more than one letter.
const NAMES: &[&str] = &[
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
    "ell",
];

/// Functions and constants that people also write without a backslash.
const BARE: &[&str] = &[
    "sqrt", "pi", "infty", "infinity", "inf", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan",
    "sinh", "cosh", "tanh", "ln", "log", "exp",
];

/// The parser's name of a command; none if it is unknown.
pub(super) fn command(name: &str) -> Option<&'static str> {
    COMMANDS
        .iter()
        .find(|(written, _)| *written == name)
        .map(|(_, known)| *known)
        .or_else(|| NAMES.iter().find(|known| **known == name).copied())
}

/// Whether a command is the name of a variable.
pub(super) fn is_name(command: &str) -> bool {
    NAMES.contains(&command)
}

/// The parser's name of a word that needs no backslash.
pub(super) fn bare(word: &str) -> Option<&'static str> {
    BARE.contains(&word).then(|| command(word)).flatten()
}

/// A character that stands for LaTeX, spelt out.
pub(super) fn spelt(c: char) -> Option<Kind> {
    let command = |name| Some(Kind::Command(name));
    match c {
        '−' | '–' | '—' => Some(Kind::Symbol('-')),
        '×' | '·' | '⋅' | '∙' | '∗' => Some(Kind::Symbol('*')),
        '÷' | '∕' => Some(Kind::Symbol('/')),
        'π' => command("pi"),
        '√' => command("sqrt"),
        '∞' => command("infty"),
        '≤' | '⩽' => command("le"),
        '≥' | '⩾' => command("ge"),
        '≠' => command("ne"),
        '≈' => command("approx"),
        '∈' => command("in"),
        '∪' => command("cup"),
        '∅' => command("emptyset"),
        '±' => command("pm"),
        '∓' => command("mp"),
        '°' => command("circ"),
        'θ' => command("theta"),
        'α' => command("alpha"),
        'β' => command("beta"),
        'γ' => command("gamma"),
        'λ' => command("lambda"),
        '⟨' | '⟩' | '⌊' | '⌋' | '⌈' | '⌉' => Some(Kind::Symbol(c)),
        _ => None,
    }
}

/// The digit of a superscript.
pub(super) fn superscript(c: char) -> Option<u32> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == c).map(|digit| digit as u32)
}
