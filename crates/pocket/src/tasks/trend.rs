//! The trend of two to four prices, which rise, fall or stay.

use crate::draw::Draw;
use crate::example::Item;

const GOODS: [&str; 12] =
    ["tea", "bread", "cake", "soup", "bike", "lamp", "clock", "coat", "hat", "piano", "ticket", "kite"];
const WAYS: [&str; 3] = [" rose", " fell", " stayed"];

pub(super) fn item(draw: &mut Draw) -> Item {
    let label = draw.below(WAYS.len());
    let n = 2 + draw.below(3);
    let mut prices: Vec<i64> = if label == 2 {
        vec![draw.int(1, 99); n]
    } else {
        // Different numbers in order, so that every step goes the same way.
        let numbers: Vec<usize> = draw.positions(99, n);
        numbers.into_iter().map(|number| number as i64 + 1).collect()
    };
    prices.sort_unstable();
    if label == 1 {
        prices.reverse();
    }
    let prices: Vec<String> = prices.iter().map(i64::to_string).collect();
    let prompt = format!("The price of the {} was {}. It", draw.pick(&GOODS), prices.join(", then "));
    // The position of the correct choice is random.
    let order = draw.positions(WAYS.len(), WAYS.len());
    let choices = order.iter().map(|way| WAYS[*way].to_owned()).collect();
    Item::choice(prompt, choices, order.iter().position(|way| *way == label).unwrap_or_default())
}
