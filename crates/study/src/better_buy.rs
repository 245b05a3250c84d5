//! Where a smaller cut is the better buy: it keeps at least as much of generation and answers at least as fast.
//!
//! A cut makes each token cheaper, but its answers may be longer (arXiv 2509.12464 found answers of a pruned model to
//! take six times as long), and then nothing but memory speaks for it.

use lopper_record::StudyRecord;
use lopper_record::study::{GENERATIVE, Point};

/// What a model offers.
#[derive(Debug, Clone, Copy)]
struct Offer<'a> {
    point: &'a Point,
    /// Retention of generation.
    kept: f64,
    seconds: f64,
    /// By the fastest and the slowest repetition.
    range: [f64; 2],
    tokens: f64,
}

impl<'a> Offer<'a> {
    fn of(point: &'a Point) -> Option<Self> {
        let kept = point.group(GENERATIVE)?.corrected?.value;
        let speed = point.speed.as_ref()?;
        let (seconds, range) = (speed.seconds_per_answer()?, speed.seconds_per_answer_range()?);
        Some(Self { point, kept, seconds, range, tokens: speed.tokens_per_answer? })
    }

    /// Whether it cuts less, and is worse in nothing but size. A deeper cut generates each token faster, so times that
    /// overlap, on a machine that was busy, do not speak against it.
    fn is_better_than(&self, other: &Self) -> bool {
        let faster = self.range[1] <= other.range[0];
        self.point.removed < other.point.removed && self.kept >= other.kept && faster
    }

    fn name(&self) -> String {
        let Point { removed, healed, .. } = self.point;
        let healed = if healed.is_some() { " and healed" } else { "" };
        match removed {
            0 => "the uncut model".to_owned(),
            1 => format!("1 layer removed{healed}"),
            removed => format!("{removed} layers removed{healed}"),
        }
    }

    fn figures(&self) -> String {
        let Self { kept, seconds, tokens, .. } = self;
        format!("{:.0} % of generation kept, {} an answer of {tokens:.0} tokens", 100.0 * kept, duration(*seconds))
    }
}

/// A duration in three digits.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.1} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.2} s"),
        s => format!("{s:.0} s"),
    }
}

/// The cuts of the main strategy to which a smaller cut, healed or not, or the uncut model is to be preferred by
/// everything but size, in a sentence each. A cut that was healed is judged as it is then. Of several better ones the
/// one that keeps most is named. Empty where generation or speed was not measured.
pub fn better_buys(record: &StudyRecord) -> Vec<String> {
    let main = record.points.iter().filter(|point| point.strategy == record.main_strategy && point.is_main_healing());
    let offers: Vec<Offer<'_>> = record.base.iter().chain(main).filter_map(Offer::of).collect();
    let mut sentences = Vec::new();
    let healed = |removed| offers.iter().any(|o| o.point.removed == removed && o.point.healed.is_some());
    for offer in offers.iter().filter(|o| o.point.healed.is_some() || !healed(o.point.removed)) {
        let better = offers.iter().filter(|other| other.is_better_than(offer));
        let best = better.max_by(|a, b| a.kept.total_cmp(&b.kept).then(b.seconds.total_cmp(&a.seconds)));
        if let Some(best) = best {
            sentences.push(format!(
                "{} is the better buy than {}, but for its size: {}, against {}",
                best.name(),
                offer.name(),
                best.figures(),
                offer.figures()
            ));
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::Retention;
    use lopper_record::study::{GroupResult, HealInfo, HealingRole, Speed, SpeedAtBatch};

    /// A model that keeps `kept` and answers in `tokens` tokens, of which it generates `rate` a second.
    fn point(removed: usize, kept: f64, tokens: f64, rate: f64) -> Point {
        let corrected = Some(Retention { value: kept, ..Retention::uncut(100) });
        let rates = vec![SpeedAtBatch { batch: 1, decode: rate, ..SpeedAtBatch::default() }];
        Point {
            strategy: if removed > 0 { "bi".into() } else { String::new() },
            removed,
            groups: vec![GroupResult { group: GENERATIVE.into(), corrected, ..Default::default() }],
            speed: Some(Speed { rates, tokens_per_answer: Some(tokens), ..Speed::default() }),
            ..Point::default()
        }
    }

    fn healed(point: Point, role: HealingRole) -> Point {
        Point { healed: Some(HealInfo { role, ..HealInfo::default() }), ..point }
    }

    fn record(points: Vec<Point>) -> StudyRecord {
        let base = Some(point(0, 1.0, 100.0, 100.0));
        StudyRecord { main_strategy: "bi".into(), base, points, ..StudyRecord::default() }
    }

    #[test]
    fn a_cut_that_answers_at_greater_length_is_a_worse_buy() {
        let points = vec![point(2, 0.95, 100.0, 110.0), point(4, 0.9, 180.0, 120.0), point(6, 0.4, 100.0, 130.0)];
        assert_eq!(
            better_buys(&record(points)),
            [
                "the uncut model is the better buy than 4 layers removed, but for its size: 100 % of generation kept, 1.00 \
              s an answer of 100 tokens, against 90 % of generation kept, 1.50 s an answer of 180 tokens"
            ]
        );
    }

    #[test]
    fn times_that_overlap_say_nothing() {
        // As a busy machine measures it: the deeper cut slower, by one slow repetition.
        let mut deep = point(4, 0.9, 100.0, 90.0);
        let with_range = |point: &mut Point, range| {
            point.speed.iter_mut().for_each(|speed| speed.rates[0].decode_range = Some(range));
        };
        with_range(&mut deep, [60.0, 130.0]);
        assert_eq!(better_buys(&record(vec![deep.clone()])), [""; 0]);
        with_range(&mut deep, [60.0, 95.0]);
        assert_eq!(better_buys(&record(vec![deep])).len(), 1);
    }

    #[test]
    fn healing_a_smaller_cut_may_be_better_than_a_deeper_one() {
        let small = point(2, 0.8, 100.0, 110.0);
        let deep = point(3, 0.7, 120.0, 115.0);
        let points = vec![small.clone(), deep, healed(point(2, 0.9, 90.0, 110.0), HealingRole::Main)];
        let said = better_buys(&record(points));
        assert!(said.len() == 1 && said[0].starts_with("the uncut model is the better buy than 3"), "{said:?}");
        let slow_base = StudyRecord { base: Some(point(0, 1.0, 100.0, 50.0)), ..record(vec![]) };
        let points = vec![small, point(3, 0.7, 120.0, 115.0), healed(point(2, 0.9, 90.0, 110.0), HealingRole::Main)];
        let said = better_buys(&StudyRecord { points, ..slow_base });
        assert!(said.len() == 1 && said[0].starts_with("2 layers removed and healed is the better buy"), "{said:?}");
    }

    #[test]
    fn a_healed_cut_is_judged_as_healed() {
        let points = vec![
            point(2, 0.8, 100.0, 110.0),
            point(3, 0.2, 300.0, 115.0),
            healed(point(3, 0.9, 90.0, 115.0), HealingRole::Main),
        ];
        assert_eq!(better_buys(&record(points)), [""; 0]);
    }

    #[test]
    fn other_strategies_controls_and_what_was_not_measured_say_nothing() {
        let mut other = point(1, 1.0, 10.0, 100.0);
        other.strategy = "random".into();
        let control = healed(point(1, 1.0, 10.0, 100.0), HealingRole::Control);
        let mut unmeasured = point(1, 1.0, 10.0, 100.0);
        unmeasured.speed = None;
        let points = vec![other, control, unmeasured, point(2, 0.9, 50.0, 110.0)];
        assert_eq!(better_buys(&record(points)), [""; 0]);
        assert_eq!(better_buys(&StudyRecord::default()), [""; 0]);
    }

    #[test]
    fn durations_have_three_digits() {
        assert_eq!([0.0123, 0.5, 9.5, 123.4].map(duration), ["12.3 ms", "0.50 s", "9.50 s", "123 s"]);
    }
}
