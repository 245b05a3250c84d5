//! What a finished study shows on the terminal below its table: how healing went, and speed next to quality.

use lopper_record::StudyRecord;
use lopper_record::study::{GroupResult, HealInfo, HealingRole, Point};

use crate::better_buy::duration;

/// The columns of [`speed_rows`].
pub const SPEED_HEADER: [&str; 9] =
    ["model", "parameters", "weights", "KV per token", "prefill ×1", "×8", "decode ×1", "×8", "answer"];

fn healed<'a>(record: &'a StudyRecord, role: HealingRole) -> impl Iterator<Item = (&'a Point, &'a HealInfo)> {
    let of_role = move |point: &'a Point| Some((point, point.healed.as_ref().filter(|info| info.role == role)?));
    record.points.iter().filter_map(of_role)
}

fn layers(removed: usize) -> String {
    if removed == 1 { "1 layer removed".to_owned() } else { format!("{removed} layers removed") }
}

fn percent(value: f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

/// How healing went: its data, what became of the answers, the losses, and how other seeds and the control compare.
pub fn healing_lines(record: &StudyRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((_, info)) = healed(record, HealingRole::Main).next() {
        let known = if info.in_distribution { ", in-distribution" } else { "" };
        lines.push(format!("healed on {}{known}, {} steps", info.data, info.steps));
        lines.extend(info.answers.map(|answers| answers.sentence()));
    }
    for (point, info) in healed(record, HealingRole::Main) {
        lines.push(format!("{}: {}", layers(point.removed), info.losses()));
        lines.extend(comparison(record, point, HealingRole::Seed, "other seeds"));
        lines.extend(comparison(record, point, HealingRole::Control, "reference answers instead"));
    }
    lines
}

/// How the retentions of `main` compare with those of the same cut in another role.
fn comparison(record: &StudyRecord, main: &Point, role: HealingRole, name: &str) -> Option<String> {
    let others: Vec<&Point> =
        healed(record, role).map(|(point, _)| point).filter(|point| point.dropped == main.dropped).collect();
    let of_group = |group: &GroupResult| {
        let own = group.retention?.value;
        let others = others.iter().filter_map(|point| point.group(&group.group)?.retention);
        let others: Vec<f64> = others.map(|retention| retention.value).collect();
        let lowest = others.iter().copied().min_by(f64::total_cmp)?;
        let highest = others.iter().copied().max_by(f64::total_cmp)?;
        let span = match lowest == highest {
            true => percent(lowest),
            false => format!("{:.0}–{}", 100.0 * lowest, percent(highest)),
        };
        Some(format!("{} {} → {span}", group.group, percent(own)))
    };
    let groups: Vec<String> = main.groups.iter().filter_map(of_group).collect();
    (!groups.is_empty()).then(|| format!("  {name}: {}", groups.join(", ")))
}

/// Size and speed of the uncut model and the cuts that were measured, by [`SPEED_HEADER`]; `bytes` writes a number of
/// bytes.
pub fn speed_rows(record: &StudyRecord, bytes: impl Fn(u64) -> String) -> Vec<[String; SPEED_HEADER.len()]> {
    let row = |point: &Point| {
        let speed = point.speed.as_ref()?;
        let name = match (point.removed, point.healed.is_some()) {
            (0, _) => "uncut".to_owned(),
            (removed, true) => format!("−{removed}, healed"),
            (removed, false) => format!("−{removed}"),
        };
        let [(prefill, decode), (prefill_8, decode_8)] = [1, 8].map(|batch| {
            let rates = speed.at_batch(batch);
            (rate(rates.map(|at| at.prefill)), rate(rates.map(|at| at.decode)))
        });
        let tokens = speed.tokens_per_answer.map(|tokens| format!("{tokens:.0} tokens"));
        let seconds = speed.seconds_per_answer().map(|seconds| format!(", {}", duration(seconds)));
        Some([
            name,
            format!("{:.1} M", speed.parameters as f64 / 1e6),
            bytes(speed.weight_bytes),
            bytes(speed.kv_bytes_per_token),
            prefill,
            prefill_8,
            decode,
            decode_8,
            tokens.unwrap_or_default() + &seconds.unwrap_or_default(),
        ])
    };
    let main = record.points.iter().filter(|point| point.is_main_healing());
    record.base.iter().chain(main).filter_map(row).collect()
}

/// A rate in tokens a second.
fn rate(value: Option<f64>) -> String {
    value.filter(|rate| rate.is_finite()).map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}/s"))
}

/// On what the rates were measured, if they were.
pub fn speed_note(record: &StudyRecord) -> Option<String> {
    let speed = record.base.as_ref()?.speed.as_ref().filter(|speed| !speed.rates.is_empty())?;
    Some(format!(
        "tokens a second on {} with {} threads, prompts of {} tokens; they hold for this machine only",
        speed.processor, speed.threads, speed.prompt_tokens
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::Retention;
    use lopper_record::study::{AnswerCounts, GENERATIVE, Speed, SpeedAtBatch};

    fn point(removed: usize, role: HealingRole, kept: f64) -> Point {
        let retention = Some(Retention { value: kept, ..Retention::uncut(100) });
        let info = HealInfo {
            role,
            data: "90 self-generated answers to prompts of own.jsonl".into(),
            in_distribution: true,
            steps: 12,
            train_loss_first: 3.0,
            train_loss_last: 2.0,
            held_out: 10,
            held_out_loss_first: Some(3.1),
            held_out_loss_last: Some(2.5),
            answers: Some(AnswerCounts { answers: 120, used: 100, empty: 20, ..Default::default() }),
            ..HealInfo::default()
        };
        Point {
            removed,
            dropped: (0..removed).collect(),
            healed: Some(info),
            groups: vec![GroupResult { group: GENERATIVE.into(), retention, ..Default::default() }],
            ..Point::default()
        }
    }

    #[test]
    fn healing_is_summed_up_with_its_answers_losses_and_the_spread_of_seeds() {
        let points = vec![
            point(2, HealingRole::Main, 0.8),
            point(2, HealingRole::Seed, 0.7),
            point(2, HealingRole::Seed, 0.9),
            point(2, HealingRole::Control, 0.6),
            point(3, HealingRole::Main, 0.5),
        ];
        let record = StudyRecord { points, ..StudyRecord::default() };
        assert_eq!(
            healing_lines(&record),
            [
                "healed on 90 self-generated answers to prompts of own.jsonl, in-distribution, 12 steps",
                "100 of 120 answers could be learned from; left out: 20 empty",
                "2 layers removed: training loss 3.000 → 2.000, on 10 held-out answers 3.100 → 2.500",
                "  other seeds: generative 80 % → 70–90 %",
                "  reference answers instead: generative 80 % → 60 %",
                "3 layers removed: training loss 3.000 → 2.000, on 10 held-out answers 3.100 → 2.500",
            ]
        );
        assert_eq!(healing_lines(&StudyRecord::default()), [""; 0]);
    }

    #[test]
    fn speed_is_a_row_for_each_model_that_has_one() {
        let rates = vec![SpeedAtBatch { batch: 1, prefill: 400.0, decode: 20.0, repetitions: 3, decode_range: None }];
        let speed = Speed {
            parameters: 1_500_000,
            weight_bytes: 3_000_000,
            kv_bytes_per_token: 2048,
            processor: "a processor".into(),
            threads: 2,
            prompt_tokens: 64,
            rates,
            tokens_per_answer: Some(30.0),
        };
        let base = Point { speed: Some(speed.clone()), ..Point::default() };
        let healed = Point { speed: Some(speed.clone()), ..point(2, HealingRole::Main, 0.8) };
        let control = Point { speed: Some(speed), ..point(2, HealingRole::Control, 0.8) };
        let points = vec![point(1, HealingRole::Main, 0.9), healed, control];
        let record = StudyRecord { base: Some(base), points, ..StudyRecord::default() };
        let rows = speed_rows(&record, |bytes| bytes.to_string());
        let expected = ["uncut", "1.5 M", "3000000", "2048", "400/s", "–", "20/s", "–", "30 tokens, 1.50 s"];
        assert_eq!(rows[0], expected.map(String::from));
        assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["uncut", "−2, healed"]);
        assert!(speed_note(&record).unwrap().contains("a processor with 2 threads"));
        assert_eq!(speed_note(&StudyRecord::default()), None);
    }
}
