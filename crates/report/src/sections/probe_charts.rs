//! The probes against layers removed, from the uncut model to the cut and the healed ones: the arithmetic probe as
//! arXiv 2602.01997 compares them, and the brackets.

use lopper_record::Result;
use lopper_record::study::{Diagnosis, Mean, Point};

use crate::chart::{Mark, Series, Size, lines};
use crate::html::figure;
use crate::sections::describe;

const SIZE: Size = Size { width: 420, height: 280 };

/// The charts, or nothing where no cut was probed.
pub fn html(models: &[(&Point, &Diagnosis)]) -> Result<String> {
    type Read = fn(&Diagnosis) -> Option<Mean>;
    let digits: Read = |diagnosis| diagnosis.arithmetic.as_ref()?.accuracy;
    let brackets: Read = |diagnosis| diagnosis.brackets.as_ref()?.balanced;
    // The accuracy of always naming the most frequent first digit.
    let constant = models.iter().find_map(|(_, diagnosis)| Some(diagnosis.arithmetic.as_ref()?.constant));
    let mut out = String::new();
    for (title, read, guess) in
        [("arithmetic: right first digit", digits, constant), ("brackets closed", brackets, None)]
    {
        let series: Vec<Series> = [false, true].into_iter().filter_map(|healed| series(models, read, healed)).collect();
        if series.is_empty() {
            continue;
        }
        let deepest = series.iter().flat_map(|line| &line.marks).map(|mark| mark.removed).max().unwrap_or(0);
        let guesses: Vec<f64> = guess.into_iter().filter(|share| share.is_finite()).collect();
        let label = describe(&format!("{title}, by layers removed."), &series, |_| String::new());
        let chart = lines(&series, &guesses, deepest, SIZE.drawing("small", &label).named(title))?;
        out.push_str(&figure(title, &chart));
    }
    if out.is_empty() {
        return Ok(out);
    }
    let solid = if models.iter().any(|(point, _)| point.healed.is_some()) { ", solid: healed" } else { "" };
    let dotted = if constant.is_some() { "; dotted: always naming the most frequent first digit" } else { "" };
    let note = format!("<p class=\"small\">Dashed: as cut{solid}{dotted}. Bars are 95 % intervals.</p>\n");
    Ok(format!("<div class=\"multiples\">\n{out}</div>\n{note}"))
}

/// A line from the uncut model through the cuts, or the healed ones; nothing without one of these.
fn series(models: &[(&Point, &Diagnosis)], read: fn(&Diagnosis) -> Option<Mean>, healed: bool) -> Option<Series> {
    let marks: Vec<Mark> = models
        .iter()
        .filter(|(point, _)| point.removed == 0 || point.healed.is_some() == healed)
        .filter_map(|(point, diagnosis)| {
            let mean = read(diagnosis)?;
            Some(Mark {
                removed: point.removed,
                value: mean.value,
                ci95: mean.ci95.unwrap_or([f64::NAN; 2]),
                at_chance: false,
            })
        })
        .filter(|mark| mark.value.is_finite())
        .collect();
    marks.iter().any(|mark| mark.removed > 0).then_some(Series { group: 0, healed, marks })
}
