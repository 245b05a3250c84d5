//! Units after a number.
//!
//! The answer and the reference may each have a unit or leave it out, so units are compared only where both have a
//! known one: `5 cm` is not `5 m`, while `5 apples` is `5`.

/// Known units: the canonical name, then its spellings. `mm` and the like need no `\text` around them.
const UNITS: &[&[&str]] = &[
    &["mm", "millimeter", "millimeters", "millimetre", "millimetres"],
    &["cm", "centimeter", "centimeters", "centimetre", "centimetres"],
    &["m", "meter", "meters", "metre", "metres"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
    &["in", "inch", "inches"],
    &["ft", "foot", "feet"],
    &["yd", "yard", "yards"],
    &["mi", "mile", "miles"],
    &["mg", "milligram", "milligrams"],
    &["g", "gram", "grams", "gm"],
    &["kg", "kilogram", "kilograms"],
    &["lb", "lbs", "pound", "pounds"],
    &["oz", "ounce", "ounces"],
    &["s", "sec", "secs", "second", "seconds"],
    &["min", "mins", "minute", "minutes"],
    &["h", "hr", "hrs", "hour", "hours"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &["mph", "miles per hour"],
    &["kmh", "kph", "km/h", "kilometers per hour"],
    &["degree", "degrees", "deg"],
    &["rad", "radian", "radians"],
    &["dollar", "dollars"],
    &["cent", "cents"],
    &["ml", "milliliter", "milliliters"],
    &["l", "liter", "liters", "litre", "litres"],
    &["gal", "gallon", "gallons"],
    &["square units", "sq units", "units squared"],
    &["unit", "units"],
];

/// Words that are a factor, with their power of ten.
const FACTORS: [(&str, u32); 6] =
    [("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12), ("quadrillion", 15)];

/// First words of a text after a number that is not a unit but changes the meaning.
const CONDITIONS: [&str; 12] = ["or", "and", "to", "if", "when", "where", "for", "not", "than", "less", "more", "out"];

/// Letters that may be a unit after a number and a space: `5 m`.
const LETTERS: [char; 6] = ['m', 'g', 's', 'h', 'L', 'l'];

/// The unit of degrees, which is also written as a sign.
pub(crate) const DEGREE: &str = "degree";

/// Whether a lower-case word is a known unit.
pub(crate) fn is_known(word: &str) -> bool {
    word != "in" && UNITS.iter().any(|names| names.contains(&word))
}

/// The power of ten that a unit begins with (`million dollars`).
pub(crate) fn power_of_ten(unit: &str) -> Option<u32> {
    let first = unit.split_whitespace().next()?;
    FACTORS.iter().find(|(word, _)| *word == first).map(|(_, power)| *power)
}

/// Whether a text after a number is a condition rather than a unit.
pub(crate) fn is_condition(unit: &str) -> bool {
    unit.split_whitespace().next().is_some_and(|first| CONDITIONS.contains(&first))
}

/// Whether a letter may be a unit.
pub(crate) fn is_letter(c: char) -> bool {
    LETTERS.contains(&c)
}

/// Whether two texts after numbers may be the same unit: false only if both are known and differ.
pub(crate) fn may_agree(a: &str, b: &str) -> bool {
    match (canonical(a), canonical(b)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn canonical(unit: &str) -> Option<String> {
    let unit = unit.trim();
    let (base, power) = match unit.split_once('^') {
        Some((base, power)) => (base.trim(), power.trim()),
        None => (unit, "1"),
    };
    let (base, power) = match base.split_once(' ') {
        Some(("square" | "sq", base)) => (base, "2"),
        Some(("cubic" | "cu", base)) => (base, "3"),
        _ => (base, power),
    };
    let names = UNITS.iter().find(|names| names.contains(&base) && base != "units")?;
    Some(format!("{}^{power}", names[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_units_can_contradict() {
        assert!(may_agree("cm", "centimeters") && may_agree("square feet", "ft^2"));
        assert!(!may_agree("cm", "m") && !may_agree("cm", "cm^2") && !may_agree("degrees", "radians"));
        assert!(may_agree("apples", "cm") && may_agree("apples", "pears"));
        assert!(is_known("feet") && !is_known("in") && !is_known("apples"));
    }
}
