//! The tokens of a written answer.
//!
//! [`crate::lex`] makes them. Commands that only steer typesetting (`\left`, `\displaystyle`, thin spaces, dollar
//! signs) are dropped, synonyms (`\dfrac`, `\leqslant`, `≤`) are one command, numbers are exact.

use num_bigint::BigInt;
use num_rational::Ratio;

/// An exact rational number.
pub(crate) type Rational = Ratio<BigInt>;

/// A token, and whether white space precedes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub spaced: bool,
}

/// The kinds of tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A number as written, and the places after its decimal point, where it has one.
    Number { value: Rational, places: Option<u32> },
    /// A letter that stands for a variable or constant.
    Letter(char),
    /// Prose: the content of `\text{…}`, or a word that no formula contains; lower case.
    Text(String),
    /// A command without its backslash, or a name that is written without one (`sin`).
    Command(&'static str),
    /// A single character with a meaning: operators, brackets, separators.
    Symbol(char),
    /// `\begin{…}` of a matrix, or of a determinant.
    Begin { determinant: bool },
    /// `\end{…}` of a matrix.
    End,
    /// `\\`, the end of a row.
    Row,
    /// `and`, `or` or a comma between answers; whether it was `and`.
    Separator { and: bool },
}

/// A written set's braces, which are not the grouping braces of LaTeX.
pub(crate) const SET_OPEN: char = '⦃';
/// See [`SET_OPEN`].
pub(crate) const SET_CLOSE: char = '⦄';

/// The parser's names of commands, each with all its spellings. Other commands are refused.
const COMMANDS: &[(&str, &str)] = &[
    ("frac", "frac dfrac tfrac cfrac"),
    ("sqrt", "sqrt"),
    ("binom", "binom dbinom tbinom"),
    ("choose", "choose"),
    ("pi", "pi"),
    ("infty", "infty infinity inf"),
    ("circ", "circ degree"),
    ("pm", "pm"),
    ("mp", "mp"),
    ("le", "le leq leqslant leqq"),
    ("ge", "ge geq geqslant geqq"),
    ("ne", "ne neq"),
    ("approx", "approx simeq"),
    ("in", "in"),
    ("cup", "cup bigcup"),
    ("setminus", "setminus backslash"),
    ("emptyset", "emptyset varnothing"),
    ("implies", "implies Rightarrow Longrightarrow"),
    ("prime", "prime"),
    ("log", "log lg"),
    ("overline", "overline bar"),
    ("vec", "vec overrightarrow hat widehat"),
    ("angle", "angle measuredangle"),
    ("triangle", "triangle"),
    ("mathbb", "mathbb"),
];

/// Functions of one argument that have one spelling.
const FUNCTIONS: [&str; 14] =
    ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "exp"];

/// Greek letters and similar: variables with a name of more than one letter.
const NAMES: [&str; 36] = [
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

/// What is also written without a backslash, apart from the functions.
const BARE: [&str; 6] = ["sqrt", "pi", "infty", "infinity", "inf", "log"];

/// Whether `word` is in a list of words separated by spaces.
pub(crate) fn is_listed(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

/// The parser's name of a command; none if it is unknown.
pub(crate) fn command(name: &str) -> Option<&'static str> {
    let synonym = COMMANDS.iter().find(|(_, spellings)| is_listed(spellings, name)).map(|(known, _)| *known);
    synonym.or_else(|| FUNCTIONS.into_iter().chain(NAMES).find(|known| *known == name))
}

/// Whether a command takes an argument as functions do.
pub(crate) fn is_function(command: &str) -> bool {
    command == "log" || FUNCTIONS.contains(&command)
}

/// Whether a command is the name of a variable.
pub(crate) fn is_name(command: &str) -> bool {
    NAMES.contains(&command)
}

/// The parser's name of a word that needs no backslash.
pub(crate) fn bare(word: &str) -> Option<&'static str> {
    (BARE.contains(&word) || FUNCTIONS.contains(&word)).then(|| command(word)).flatten()
}

/// The token of a Unicode character that has a LaTeX command.
pub(crate) fn spelt(c: char) -> Option<Kind> {
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
pub(crate) fn superscript(c: char) -> Option<u32> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == c).map(|digit| digit as u32)
}
