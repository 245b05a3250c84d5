//! What each cut keeps against what it costs: time for an answer, and parameters. A cut that another one beats in both
//! is marked, and where a smaller cut is the better buy the section says so.

use lopper_record::study::{GENERATIVE, Point, Speed};
use lopper_record::{Result, StudyRecord};

use crate::chart::{Size, Spot, scatter};
use crate::format::{NONE, bytes, count, percent, short};
use crate::html::Column::{Left, Right};
use crate::html::{TABLE_END, Text, figure, table_start, titled_table};
use crate::order::{groups, judged_mean, main_points, plain};
use crate::sections::curves::thresholds;

const SIZE: Size = Size { width: 360, height: 300 };

/// The section, or nothing without a cut whose size or speed is known.
pub fn html(record: &StudyRecord) -> Result<String> {
    let models = models(record);
    let groups = groups(record);
    let Some(index) = groups.iter().position(|group| *group == GENERATIVE).or((!groups.is_empty()).then_some(0)) else {
        return Ok(String::new());
    };
    let group = groups[index];
    let thresholds = thresholds(record);
    let (mut charts, mut facts) = (String::new(), Vec::new());
    for (title, axis, name, read) in costs(record, &models) {
        let mut spots: Vec<Spot> = models.iter().filter_map(|point| spot(point, group, &read)).collect();
        mark_dominated(&mut spots);
        let label = describe(title, axis, &spots);
        let drawing = SIZE.drawing("small", &label).named(name);
        let Some(chart) = scatter(&spots, &thresholds, axis, index, drawing)? else { continue };
        charts.push_str(&figure(title, &chart));
        facts.extend(sentence(title, &spots));
    }
    let speeds = speeds(&models)?;
    if charts.is_empty() && speeds.is_empty() {
        return Ok(String::new());
    }
    let mut out = format!(
        "<section id=\"tradeoff\">\n<h2>What a cut buys</h2>\n<p>Up: mean of the {} tasks that is kept. A number is that \
         of the layers removed; hollow: as cut, filled: healed, <strong>crossed out: another model keeps no less and \
         costs no more</strong>. That is said of the means: a difference within the intervals \
         says nothing.</p>\n<div class=\"multiples\">\n{charts}</div>\n",
        Text(&plain(group))
    );
    let buys = &record.better_buys;
    if !buys.is_empty() {
        let items: String = buys.iter().map(|buy| format!("<li>{}</li>\n", Text(buy))).collect();
        out.push_str(&format!("<h3>The better buy</h3>\n<ul>\n{items}</ul>\n"));
    } else {
        let items: String = facts.iter().map(|fact| format!("<li>{}</li>\n", Text(fact))).collect();
        out.push_str(&format!("<ul>\n{items}</ul>\n"));
    }
    out.push_str(&speeds);
    out.push_str("</section>\n");
    Ok(out)
}

/// The uncut model and the cuts of the main strategy, as cut and healed.
fn models(record: &StudyRecord) -> Vec<&Point> {
    let main = record.strategies().first().copied().unwrap_or_default().to_owned();
    record.base.iter().chain(main_points(record, &main)).collect()
}

/// A cost, and the least and the most that it was measured to be.
type Read<'a> = Box<dyn Fn(&Point) -> Option<(f64, [f64; 2])> + 'a>;

/// The costs that are known: a title, the name of the axis, the name of the file, and how to read it.
fn costs<'a>(record: &'a StudyRecord, models: &[&Point]) -> Vec<(&'static str, &'static str, &'static str, Read<'a>)> {
    let answer: Read<'_> = Box::new(|point| {
        let speed = point.speed.as_ref()?;
        Some((speed.seconds_per_answer()?, speed.seconds_per_answer_range()?))
    });
    let token: Read<'_> = Box::new(|point| {
        let rates = point.speed.as_ref()?.at_batch(1)?;
        let [slowest, fastest] = rates.decode_range.unwrap_or([rates.decode; 2]);
        Some((1000.0 / rates.decode, [1000.0 / fastest, 1000.0 / slowest]))
    });
    let parameters: Read<'_> = Box::new(move |point| {
        let count = parameters(record, point)? as f64;
        Some((count, [count; 2]))
    });
    let finite = |read: &Read<'_>, point: &Point| read(point).is_some_and(|(cost, _)| cost.is_finite());
    let known = |read: &Read<'_>| models.iter().filter(|point| finite(read, point)).count() > 1;
    let mut found = Vec::new();
    if known(&answer) {
        found.push(("against the time of an answer", "seconds per answer, one at a time", "kept-by-time", answer));
    } else if known(&token) {
        found.push(("against the time of a token", "milliseconds per generated token", "kept-by-time", token));
    }
    if known(&parameters) {
        found.push(("against size", "parameters", "kept-by-size", parameters));
    }
    found
}

/// The uncut model's are those of its card where no speed was measured.
fn parameters(record: &StudyRecord, point: &Point) -> Option<u64> {
    let measured = point.speed.as_ref().map(|speed| speed.parameters).filter(|parameters| *parameters > 0);
    let of_card = (point.removed == 0).then_some(record.model.parameters).filter(|parameters| *parameters > 0);
    measured.or(point.parameters).or(of_card)
}

fn spot(point: &Point, group: &str, read: &Read<'_>) -> Option<Spot> {
    let kept = match point.removed {
        0 => 1.0,
        _ => judged_mean(point.group(group)?)?.value,
    };
    let (removed, healed) = (point.removed, point.healed.is_some());
    let (cost, cost_range) = read(point)?;
    Some(Spot { removed, healed, cost, cost_range, kept, dominated: false })
}

/// Marks what another model beats: one that keeps no less and costs no more, whatever repetition is looked at, and is
/// better in one of the two. The uncut model is what others are compared with.
fn mark_dominated(spots: &mut [Spot]) {
    let all = spots.to_vec();
    for spot in spots {
        spot.dominated = spot.removed > 0
            && all.iter().any(|other| {
                let no_worse = other.kept >= spot.kept && other.cost_range[1] <= spot.cost_range[0];
                no_worse && (other.kept > spot.kept || other.cost < spot.cost)
            });
    }
}

fn name(spot: &Spot) -> String {
    match (spot.removed, spot.healed) {
        (0, _) => "the uncut model".into(),
        (removed, false) => format!("{removed} removed"),
        (removed, true) => format!("{removed} removed and healed"),
    }
}

/// Which cuts are not worth it, in words.
fn sentence(title: &str, spots: &[Spot]) -> Option<String> {
    let beaten: Vec<String> = spots.iter().filter(|spot| spot.dominated).map(name).collect();
    Some(match beaten.is_empty() {
        true => format!("Kept {title}: every model costs less or keeps more than any other."),
        false => format!("Kept {title}: another model is no worse in either than {}.", beaten.join(", ")),
    })
}

fn describe(title: &str, axis: &str, spots: &[Spot]) -> String {
    let words = spots.iter().map(|spot| {
        let beaten = if spot.dominated { ", beaten by another" } else { "" };
        format!("{}: {} % kept, {}{beaten}", name(spot), percent(spot.kept, 0), short(spot.cost))
    });
    format!("Kept {title} ({axis}). {}.", words.collect::<Vec<_>>().join("; "))
}

/// Sizes and rates of each model.
fn speeds(models: &[&Point]) -> Result<String> {
    let known: Vec<(&Point, &Speed)> =
        models.iter().filter_map(|point| Some((*point, point.speed.as_ref()?))).collect();
    let Some((_, first)) = known.first() else { return Ok(String::new()) };
    let columns = [
        Right("removed"),
        Left("state"),
        Right("parameters"),
        Right("weights"),
        Right("KV cache / token"),
        Right("prefill, 1"),
        Right("prefill, 8"),
        Right("decode, 1"),
        Right("decode, 8"),
        Right("tokens / answer"),
        Right("s / answer"),
    ];
    let mut out = table_start("Size and speed", &columns);
    out.push_str("<tbody>\n");
    for (point, speed) in &known {
        let state = match (&point.healed, point.removed) {
            (Some(_), _) => "healed",
            (None, 0) => "uncut",
            _ => "cut",
        };
        let rate = |batch: usize, decode: bool| {
            let rates = speed.at_batch(batch);
            rates.map_or(NONE.into(), |rates| short(if decode { rates.decode } else { rates.prefill }))
        };
        let cells = [
            count(speed.parameters),
            bytes(speed.weight_bytes),
            bytes(speed.kv_bytes_per_token),
            rate(1, false),
            rate(8, false),
            rate(1, true),
            rate(8, true),
            speed.tokens_per_answer.map_or(NONE.into(), short),
            speed.seconds_per_answer().map_or(NONE.into(), short),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", Text(cell))).collect();
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td class=\"left\">{state}</td>{cells}</tr>\n",
            point.removed
        ));
    }
    out.push_str("</tbody>\n");
    out.push_str(TABLE_END);
    let mut note = "Prefill and decode in tokens a second, for 1 and 8 sequences together".to_owned();
    if !first.processor.is_empty() {
        note += &format!(
            ", measured on {} with {} and prompts of {} tokens: they hold for that machine only",
            first.processor,
            if first.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", first.threads) },
            first.prompt_tokens
        );
    }
    out.push_str(&format!("<p class=\"small\">{}.</p>\n", Text(&note)));
    Ok(titled_table("Size and speed", known.len(), &out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_that_is_neither_better_nor_cheaper_is_dominated() {
        let spot =
            |removed, cost, kept| Spot { removed, healed: false, cost, cost_range: [cost; 2], kept, dominated: false };
        let mut spots = vec![spot(0, 4.0, 1.0), spot(2, 3.0, 0.95), spot(4, 3.5, 0.9), spot(6, 3.0, 0.95)];
        mark_dominated(&mut spots);
        assert_eq!(spots.iter().map(|spot| spot.dominated).collect::<Vec<_>>(), [false, false, true, false]);
        assert!(sentence("against size", &spots).unwrap().ends_with("than 4 removed."));
        assert!(sentence("against size", &spots[..2]).unwrap().contains("every model"));
        // One slow repetition is no reason.
        spots[2].cost_range = [2.9, 3.6];
        mark_dominated(&mut spots);
        assert!(!spots[2].dominated);
    }
}
