//! Words that several tasks use. Sharing them keeps the model's vocabulary small.

/// A person of the stories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: &'static str,
    /// The pronoun at the beginning of a sentence.
    pub pronoun: &'static str,
}

const fn he(name: &'static str) -> Person {
    Person { name, pronoun: "He" }
}

const fn she(name: &'static str) -> Person {
    Person { name, pronoun: "She" }
}

/// The people of the stories.
pub const PEOPLE: [Person; 12] = [
    he("Tom"),
    she("Ann"),
    he("Ben"),
    she("Eva"),
    he("Max"),
    she("Mia"),
    he("Leo"),
    she("Zoe"),
    he("Dan"),
    she("Ida"),
    he("Sam"),
    she("Kim"),
];

/// Things that people find and lose.
pub const OBJECTS: [&str; 12] =
    ["key", "cup", "ball", "book", "hat", "lamp", "kite", "clock", "toy", "pen", "coat", "map"];

/// Adjectives of things.
pub const ADJECTIVES: [&str; 8] = ["red", "blue", "green", "black", "old", "new", "small", "big"];

/// The noun with its indefinite article, as it begins a sentence (`An owl`) or not (`an owl`).
pub fn with_article(noun: &str, capital: bool) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    let article = match (vowel, capital) {
        (true, true) => "An",
        (true, false) => "an",
        (false, true) => "A",
        (false, false) => "a",
    };
    format!("{article} {noun}")
}

/// The sentence with a capital first letter.
pub fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}
