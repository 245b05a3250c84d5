//! Every model as a table: how it was healed, its size and speed, and what broke.

use lopper_record::StudyRecord;
use lopper_record::study::{Diagnosis, HealInfo, Mean, Point, Speed};
use serde_json::{Value, json};

use super::{MODEL, Table, all_models, model, named};

const HEALING: [&str; 12] = [
    "method",
    "healing_data",
    "in_distribution",
    "answers",
    "answers_used",
    "examples",
    "tokens",
    "steps",
    "train_loss_first",
    "train_loss_last",
    "held_out_loss_first",
    "held_out_loss_last",
];

fn healing(healed: Option<&HealInfo>) -> Vec<Value> {
    let Some(healed) = healed else { return vec![Value::Null; HEALING.len()] };
    vec![
        json!(healed.method),
        json!(healed.data),
        json!(healed.in_distribution),
        json!(healed.answers.map(|answers| answers.answers)),
        json!(healed.answers.map(|answers| answers.used)),
        json!(healed.examples),
        json!(healed.tokens),
        json!(healed.steps),
        json!(healed.train_loss_first),
        json!(healed.train_loss_last),
        json!(healed.held_out_loss_first),
        json!(healed.held_out_loss_last),
    ]
}

const SPEED: [&str; 9] = [
    "parameters",
    "weight_bytes",
    "kv_bytes_per_token",
    "prefill_1",
    "prefill_8",
    "decode_1",
    "decode_8",
    "tokens_per_answer",
    "seconds_per_answer",
];

fn speed(point: &Point) -> Vec<Value> {
    let speed = point.speed.as_ref();
    let rate = |batch: usize, read: fn(&lopper_record::study::SpeedAtBatch) -> f64| {
        json!(speed.and_then(|speed| speed.at_batch(batch)).map(read))
    };
    let of = |read: fn(&Speed) -> u64| speed.map(read);
    vec![
        json!(of(|speed| speed.parameters).or(point.parameters)),
        json!(of(|speed| speed.weight_bytes)),
        json!(of(|speed| speed.kv_bytes_per_token)),
        rate(1, |rates| rates.prefill),
        rate(8, |rates| rates.prefill),
        rate(1, |rates| rates.decode),
        rate(8, |rates| rates.decode),
        json!(speed.and_then(|speed| speed.tokens_per_answer)),
        json!(speed.and_then(Speed::seconds_per_answer)),
    ]
}

const DIAGNOSIS: [&str; 12] = [
    "responses",
    "empty",
    "loops",
    "rep_4",
    "self_bleu_4",
    "arithmetic_accuracy",
    "arithmetic_logprob_change",
    "brackets_balanced",
    "programs",
    "programs_passed",
    "lost",
    "gained",
];

fn diagnosis(diagnosis: Option<&Diagnosis>) -> Vec<Value> {
    let value = |mean: Option<Mean>| json!(mean.map(|mean| mean.value));
    let text = diagnosis.and_then(|own| own.degeneration.as_ref());
    let arithmetic = diagnosis.and_then(|own| own.arithmetic.as_ref());
    let programs = diagnosis.and_then(|own| own.programs);
    let ledger = diagnosis.and_then(|own| own.ledger.as_ref());
    vec![
        json!(text.map(|text| text.responses)),
        json!(text.map(|text| text.empty)),
        json!(text.map(|text| text.loops)),
        value(text.and_then(|text| text.rep_4)),
        value(text.and_then(|text| text.self_bleu_4)),
        value(arithmetic.and_then(|figures| figures.accuracy)),
        value(arithmetic.and_then(|figures| figures.logprob_change)),
        value(diagnosis.and_then(|own| own.brackets.as_ref()?.balanced)),
        json!(programs.map(|programs| programs.total())),
        json!(programs.map(|programs| programs.passed)),
        json!(ledger.map(|ledger| ledger.lost)),
        json!(ledger.map(|ledger| ledger.gained)),
    ]
}

/// The table.
pub fn models(record: &StudyRecord) -> Table {
    let row = |point: &Point| {
        let own = point.diagnosis.as_ref();
        let of_point = point.perplexity.map(|value| (value, point.perplexity_ci95));
        let of_diagnosis = own.and_then(|own| Some((own.perplexity?, own.perplexity_ci95)));
        let perplexity = of_point.or(of_diagnosis);
        let ends = perplexity.and_then(|(_, ends)| ends);
        let perplexity = [perplexity.map(|(value, _)| value), ends.map(|ends| ends[0]), ends.map(|ends| ends[1])];
        [
            model(point),
            perplexity.map(|value| json!(value)).to_vec(),
            speed(point),
            healing(point.healed.as_ref()),
            diagnosis(own),
        ]
        .concat()
    };
    let columns = named(&[&MODEL, &["perplexity", "perplexity_low", "perplexity_high"], &SPEED, &HEALING, &DIAGNOSIS]);
    Table { name: "models", columns, rows: all_models(record).map(row).collect() }
}
