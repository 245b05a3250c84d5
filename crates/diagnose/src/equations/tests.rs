use super::*;

/// The equations found and whether they are true.
fn read(text: &str) -> Vec<(String, bool)> {
    check_all(text).into_iter().map(|found| (found.equation, found.holds)).collect()
}

fn is_true(text: &str) {
    let found = read(text);
    assert!(!found.is_empty() && found.iter().all(|(_, holds)| *holds), "{text}: {found:?}");
}

fn is_false(text: &str) {
    assert!(first_false(text).is_some(), "{text}: {:?}", read(text));
}

fn is_not_read(text: &str) {
    assert_eq!(read(text), [], "{text}");
}

#[test]
fn true_equations_as_people_and_models_write_them_hold() {
    for text in [
        "20 - 2 = 18. 3 * 2 = 6.",
        "She makes 9 * 2 = $<<9*2=18>>18 every day",
        "The cost came out to 80,000+50,000=$130,000",
        "$5 x 3 boxes = $15",
        "5x3=15",
        "20% of 50 = 10",
        "60/100 * 5 = $3",
        "3/4 of 20 = 15 apples",
        "3(4 + 1) = 15",
        "2 + 3 = 5 * 2 = 10",
        "5 red apples + 3 green apples = 8 apples",
        "10 / 3 = 3.33",
        "2/3 = 0.66",
        "100 / 3 = 33",
        "5 / 20 = 25%",
        "5/20 * 100 = 25%",
        "100% - 20% = 80%",
        "\\frac{3}{4} \\times 8 = 6",
        "\\(12 \\div 4 = 3\\)",
        "1. 4 * 5 = 20\n2) 20 + 1 = 21",
        "- 5 * 3 = 15",
        "7 − 9 = -2",
        "-3 + 5 = 2",
        "so the total is **12 + 3 = 15**.",
        "12 + 13 = 25, and 25 * 2 = 50",
        "[(1 + 2) * (3 + 4)] = 21",
        "3 hours * 60 miles/hour = 180 miles",
        ".5 * 4 = 2",
        "$20/hour * 35 hours/week = $700/week",
        "43 brownies x $3/brownie = $129",
        "10 plus 9 plus 1 equals 20",
        "10 cages * 5 pieces of straw per hamster cage = 50 pieces of straw",
        "There are 3 times as many, 3 * 4 = 12",
    ] {
        is_true(text);
    }
}

#[test]
fn false_equations_are_found() {
    for text in [
        "20 - 2 = 17.",
        "She makes 9 * 2 = $<<9*2=19>>18 every day",
        "She makes 9 * 2 = $<<9*2=18>>19 every day",
        "80,000+50,000=$120,000",
        "2 + 3 = 6 * 2 = 12",
        "20% of 50 = 15",
        "10 / 3 = 3.4",
        "0.5 * 3 = 1.4",
        "7 / 2 = 3.4",
        "12 / 4 = 4",
        "5x3=16",
        "so she has 4 (2 + 3 = 6) left",
    ] {
        is_false(text);
    }
    let found = first_false("20 - 2 = 18. 18 * 3 = 64. 64 + 1 = 66.").unwrap();
    assert_eq!((found.equation.as_str(), found.value.as_str()), ("18 * 3 = 64", "54"));
    assert_eq!(first_false("1 / 8 = 0.5").unwrap().value, "0.125");
    assert_eq!(first_false("1 / 3 = 2").unwrap().value, "0.3333…");
}

#[test]
fn what_cannot_be_read_completely_is_not_checked() {
    for text in [
        "x = 5",
        "2x + 4 = 10",
        "2^3 + 1 = 9",
        "2 ** 3 + 1 = 9",
        "2 1/2 * 4 = 10",
        "10 / 4 = 2 1/2",
        "Total for week 2 = 3 * 4",
        "y - 3 + 4 = 7",
        "4! + 1 = 25",
        "n * 3 + 4 = 10",
        "5 / 0 = 1",
        "=",
        "<<",
        "a == b",
        "",
    ] {
        let found = read(text);
        assert!(found.iter().all(|(_, holds)| *holds), "{text}: {found:?}");
    }
    is_not_read("x = 5");
    is_not_read("1 + 1 ≈ 3");
}

#[test]
fn hostile_texts_take_bounded_time() {
    for text in [
        "(".repeat(5000) + "1 = 1",
        "1+".repeat(5000) + "1 = 2",
        "9".repeat(5000) + " + 1 = 1",
        "=".repeat(9000),
        "<<".repeat(100_000),
        "<<1+1=".repeat(40_000),
    ] {
        check_all(&text);
    }
    check_all(&"\\frac{1}{2".repeat(2000));
    check_all(&"\\text{".repeat(2000));
}
