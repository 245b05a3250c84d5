//! A made-up study, so that every part of the report has something to show. Its numbers follow a
//! formula and mean nothing.

use lopper_record::study::*;
use lopper_record::{Retention, Score};

const TASKS: [(&str, &str); 6] = [
    ("facts_choice", CLASSIFICATION),
    ("parity_choice", CLASSIFICATION),
    ("order_choice", CLASSIFICATION),
    ("word_problems", GENERATIVE),
    ("code", GENERATIVE),
    ("brackets", GENERATIVE),
];

fn score(value: f64, n: usize) -> Score {
    let stderr = (value * (1.0 - value) / n as f64).sqrt();
    Score { value, stderr, ci95: [(value - 2.0 * stderr).max(0.0), (value + 2.0 * stderr).min(1.0)], n }
}

fn retention(value: f64, n: usize) -> Retention {
    let half = 0.02 + 0.9 * (value * (1.0 - value).max(0.0) / n as f64).sqrt();
    Retention {
        value,
        ci95: [(value - half).max(0.0), value + half],
        lower95: (value - 0.84 * half).max(0.0),
        upper95: value + 0.84 * half,
        n,
    }
}

fn kept(group: &str, removed: f64, healed: bool) -> f64 {
    let fall = if group == CLASSIFICATION { 0.03 } else { 0.11 };
    let fall = if healed { fall * 0.45 } else { fall };
    (1.0 - fall * removed.powf(1.35)).max(0.02)
}

fn point(strategy: &str, removed: usize, healed: bool, slope: f64) -> Point {
    let tasks = TASKS.iter().enumerate().map(|(i, (task, group))| {
        let value = kept(group, removed as f64 * slope * (0.85 + 0.1 * (i % 3) as f64), healed);
        TaskResult {
            task: (*task).into(),
            score: score(0.93 * value, 100),
            chance: (*group == CLASSIFICATION).then_some(0.25),
            retention: (removed > 0).then(|| retention(value, 100)),
            corrected: (removed > 0).then(|| retention(value * 0.9, 100)),
        }
    });
    let groups = [CLASSIFICATION, GENERATIVE].map(|group| {
        let value = kept(group, removed as f64 * slope * 0.95, healed);
        GroupResult {
            group: group.into(),
            score: score(0.93 * value, 300),
            retention: (removed > 0).then(|| retention(value, 300)),
            corrected: (removed > 0).then(|| retention(value * 0.95, 300)),
        }
    });
    Point {
        strategy: strategy.into(),
        removed,
        dropped: (0..removed).map(|i| 10 - i).rev().collect(),
        healed: healed.then(|| HealInfo {
            method: "lora".into(),
            examples: 800,
            tokens: 61_234,
            steps: 100,
            seconds: 7.4,
            train_loss_first: 1.31,
            train_loss_last: 0.42,
            held_out: 64,
            held_out_loss_first: Some(1.33),
            held_out_loss_last: Some(if removed > 4 { 1.4 } else { 0.51 }),
            data: "800 self-generated answers to the tasks’ training splits".into(),
            in_distribution: true,
            answers: Some(AnswerCounts {
                answers: 2000,
                used: 864,
                cut_off: 1100,
                repetitive: 36,
                ..Default::default()
            }),
            recipe:
                "LoRA r = 16, alpha = 32 on all seven projections; AdamW, learning rate 2e-4, 10 warm-up steps, batch 8"
                    .into(),
            ..HealInfo::default()
        }),
        speed: Some(speed(removed, healed)),
        tasks: tasks.collect(),
        groups: groups.into(),
        perplexity: Some(2.1 + removed as f64 * slope),
        perplexity_ci95: Some([2.0, 2.2 + removed as f64 * slope]),
        parameters: Some(4_200_000 - 330_000 * removed as u64),
        diagnosis: Some(diagnosis(removed as f64 * slope, healed, removed > 0)),
        gap: (removed > 3 && !healed).then_some(GapAlarm {
            classification: 0.9,
            generative: 0.3,
            threshold: 0.2,
            certain: removed > 4,
        }),
    }
}

/// Each token is faster with fewer layers; long answers make the deepest cut slower all the same.
fn speed(removed: usize, healed: bool) -> Speed {
    let left = 12 - removed as u64;
    let rate = |batch: usize| SpeedAtBatch {
        batch,
        prefill: 9000.0 / left as f64 * (batch as f64).sqrt(),
        decode: 1200.0 / left as f64 * (batch as f64).sqrt(),
        repetitions: 3,
        decode_range: None,
    };
    Speed {
        parameters: 240_000 + 330_000 * left,
        weight_bytes: 2 * (240_000 + 330_000 * left),
        kv_bytes_per_token: 640 * left,
        processor: "a processor".into(),
        threads: 2,
        prompt_tokens: 128,
        rates: vec![rate(1), rate(8)],
        tokens_per_answer: Some(40.0 + if removed > 4 && !healed { 60.0 } else { 0.0 }),
    }
}

fn mean(value: f64, half: f64) -> Option<Mean> {
    Some(Mean { value, ci95: Some([value - half, value + half]), n: 100 })
}

fn diagnosis(hurt: f64, healed: bool, cut: bool) -> Diagnosis {
    let hurt = if healed { hurt * 0.5 } else { hurt };
    let lost = (hurt * 9.0) as usize;
    Diagnosis {
        reasoning: None,
        degeneration: Some(Degeneration {
            source: String::new(),
            responses: 300,
            empty: lost / 8,
            rep_2: mean(9.0 + hurt, 0.8),
            rep_3: mean(6.0 + hurt, 0.7),
            rep_4: mean(4.0 + hurt, 0.6),
            self_bleu_4: mean(0.2 + 0.02 * hurt, 0.02),
            words: mean(31.0 + hurt, 1.0),
            tokens: None,
            loops: lost / 5,
            finish: [("stop".to_owned(), 290 - lost), ("length".to_owned(), 10 + lost)].into(),
            mean_logprob: None,
            own_perplexity: None,
            own_perplexity_ci95: None,
        }),
        arithmetic: Some(Arithmetic {
            source: "arithmetic".into(),
            numbers: "one digit a token".into(),
            accuracy: mean((0.96 - 0.15 * hurt).max(0.1), 0.06),
            logprob: mean(-0.1 - hurt, 0.2),
            logprob_change: if cut { mean(-hurt, 0.2) } else { None },
            constant: 0.2,
        }),
        brackets: None,
        programs: Some(Programs {
            passed: 80 - lost.min(70),
            assertion_error: 10 + lost / 3,
            bracket_syntax: 2 + lost / 3,
            other_syntax: 3 + lost.div_ceil(3),
            name_not_defined: 2,
            timeout_or_recursion: 1,
            other: 2,
        }),
        programs_by_task: Default::default(),
        ledger: cut.then(|| Ledger {
            compared: 300,
            lost,
            gained: 4,
            causes: [
                (Cause::ArithmeticSlip, lost / 2),
                (Cause::BracketOrSyntax, lost / 4),
                (Cause::Other, lost - lost / 2 - lost / 4),
            ]
            .into(),
        }),
        perplexity: Some(2.1 + hurt),
        perplexity_ci95: Some([2.0, 2.2 + hurt]),
    }
}

fn ledger_entry(cause: Option<Cause>, detail: &str, base: &str, cut: &str) -> LedgerEntry {
    LedgerEntry {
        strategy: "bi".into(),
        dropped: [8, 9, 10].into(),
        healed: false,
        task: "word_problems".into(),
        doc_id: 7,
        gained: cause.is_none(),
        cause,
        detail: detail.into(),
        prompt: "Ann has 8 pens. Ben has 3 times as many. How many have both?".into(),
        target: "32".into(),
        base: base.into(),
        cut: cut.into(),
        ..LedgerEntry::default()
    }
}

fn ablation() -> Vec<AblatedLayer> {
    let row = |layer: usize| AblatedLayer {
        layer,
        group_mean_retention: None,
        tasks: TASKS
            .iter()
            .enumerate()
            .map(|(i, (task, group))| {
                let depth = (layer as f64 - 7.0).abs() / 7.0;
                let value = if layer == 0 {
                    0.03
                } else {
                    kept(group, 2.4 * depth * depth + 0.2 * ((layer + i) % 3) as f64, false)
                };
                TaskResult {
                    task: (*task).into(),
                    score: score(0.93 * value, 100),
                    retention: Some(retention(value, 100)),
                    ..TaskResult::default()
                }
            })
            .collect(),
        diagnosis: Some(diagnosis(0.4 + 0.08 * (layer as f64 - 6.0).abs(), false, true)),
    };
    (0..12).map(row).collect()
}

fn sample(task: &str, prompt: &str, target: &str, answers: [(&str, bool); 3]) -> Sample {
    let answer = |i: usize, removed| {
        Some(Answer { removed, text: answers[i].0.into(), correct: answers[i].1, ..Answer::default() })
    };
    Sample {
        task: task.into(),
        prompt: prompt.into(),
        target: target.into(),
        base: answer(0, 0),
        cut: answer(1, 3),
        healed: answer(2, 3),
    }
}

fn budget(points: &[Point]) -> Vec<BudgetLine> {
    let mut lines = Vec::new();
    for healed in [false, true] {
        for group in [CLASSIFICATION, GENERATIVE] {
            let depths: Vec<BudgetDepth> = points
                .iter()
                .filter(|point| point.strategy == "bi" && point.healed.is_some() == healed)
                .map(|point| {
                    let retention = point.group(group).and_then(|result| result.retention);
                    BudgetDepth {
                        removed: point.removed,
                        retention,
                        holds: retention.is_some_and(|r| r.lower95 >= 0.9),
                        worst: Some(if group == CLASSIFICATION { "order_choice" } else { "brackets" }.into()),
                        verdict: retention.map_or(Verdict::Undecided, |r| Verdict::of(&r, 0.9)),
                        ..BudgetDepth::default()
                    }
                })
                .collect();
            let holding = depths.iter().take_while(|depth| depth.holds).last().map(|depth| depth.removed);
            let fails = depths.first().is_some_and(|depth| depth.verdict == Verdict::Fails);
            let max_layers = holding.or(fails.then_some(0));
            let mut line = BudgetLine {
                scope: Scope::Worst,
                headline: true,
                tasks: TASKS.iter().filter(|(_, of)| *of == group).map(|(task, _)| (*task).into()).collect(),
                group: group.into(),
                threshold: 0.9,
                healed,
                strategy: "bi".into(),
                max_layers,
                depths,
                ..Default::default()
            };
            line.statement = line.sentence(Some(12));
            lines.push(line);
        }
    }
    lines
}

/// A finished study with everything in it.
pub fn study() -> StudyRecord {
    let mut points = Vec::new();
    for removed in 1..=5 {
        points.push(point("bi", removed, false, 1.0));
        points.push(point("bi", removed, true, 1.0));
    }
    for removed in 1..=4 {
        points.push(point("reverse", removed, false, 1.4));
        points.push(point("random", removed, false, 2.0));
    }
    let seed = |name: &str, value| Seed { name: name.into(), value };
    let timing = |stage: &str, seconds, cells| Timing { stage: stage.into(), seconds, cells, cached: 0 };
    let values =
        |scale: f64| (0..12).map(|l: i32| scale * (0.04 + 0.012 * f64::from((l - 7).pow(2)))).collect::<Vec<f64>>();
    let mut angular = values(0.4);
    angular[11] = f64::NAN;
    StudyRecord {
        schema: SCHEMA,
        lopper_version: "0.1.0".into(),
        complete: true,
        command: "lopper study --out lopper-study".into(),
        model: ModelCard {
            name: "pocket".into(),
            hash: "3f1c9a77e2".repeat(6),
            family: "llama".into(),
            num_layers: 12,
            parameters: 4_200_000,
            parameters_per_layer: vec![330_000; 12],
            hidden_size: 160,
            vocab_size: 137,
            dtype: "bf16".into(),
        },
        policy: serde_json::Value::Null,
        recipe: serde_json::json!({"model": "pocket", "remove": [1, 2, 3, 4, 5], "heal": {"method": "lora", "rank": 16}}),
        seeds: vec![seed("items", 1), seed("sampling", 2), seed("bootstrap", 3)],
        splits: vec![
            "Items for reporting, choosing and healing are disjoint by construction: a hash of the item decides."
                .into(),
        ],
        tasks: TASKS
            .iter()
            .map(|(name, group)| TaskMeta {
                name: (*name).into(),
                group: (*group).into(),
                description: "One sentence that says what is asked.".into(),
                metric: if *group == CLASSIFICATION { "acc".into() } else { "exact_match".into() },
                version: "1".into(),
                n_report: 100,
                n_select: 60,
                chance: (*group == CLASSIFICATION).then_some(0.25),
            })
            .collect(),
        base: Some(point("uncut", 0, false, 1.0)),
        objective: None,
        searches: vec![],
        main_strategy: "bi".into(),
        criteria: vec![
            Criterion {
                name: "bi".into(),
                title: "Block Influence".into(),
                values: values(1.0),
                note: "1 − mean cosine between a layer’s input and output; small means replaceable.".into(),
            },
            Criterion {
                name: "angular".into(),
                title: "Angular distance".into(),
                values: angular,
                note: "Angle between a layer’s input and output at the last token, in units of π.".into(),
            },
        ],
        ablation_base: Some(diagnosis(0.0, false, false)),
        ablation: ablation(),
        ledger: vec![
            ledger_entry(
                Some(Cause::ArithmeticSlip),
                "8 * 3 = 21 (is 24)",
                "8 * 3 = 24. 8 + 24 = 32.\n#### 32",
                "8 * 3 = 21. 8 + 21 = 29.\n#### 29",
            ),
            ledger_entry(None, "", "#### 31", "8 * 3 = 24. 8 + 24 = 32.\n#### 32"),
        ],
        better_buys: vec!["4 layers removed is the better buy than 5 layers removed, but for its size".into()],
        stopped: vec![StoppedBranch {
            strategy: "random".into(),
            removed: 4,
            reason: "arithmetic 96 → 4 %, brackets 100 → 0 %, perplexity 2.10 → 55.0".into(),
            skipped: vec![5],
            ..StoppedBranch::default()
        }],
        budget: budget(&points),
        points,
        samples: vec![
            sample(
                "word_problems",
                "Question: Ann has 8 pens. Ben has 3 times as many. They give away 12. How many are left?\nAnswer:",
                "20",
                [
                    ("Ben has 8 * 3 = 24 pens.\nTogether 8 + 24 = 32.\nLeft: 32 - 12 = 20.\n#### 20", true),
                    ("Ben has 8 * 3 = 21 pens.\nTogether 8 + 21 = 28.\nLeft: 28 - 12 = 16.\n#### 16", false),
                    ("Ben has 8 * 3 = 24 pens.\nTogether 8 + 24 = 32.\nLeft: 32 - 12 = 20.\n#### 20", true),
                ],
            ),
            sample(
                "code",
                "def f(x):\n    # add 3, then double\n",
                "    return (x + 3) * 2",
                [("    return (x + 3) * 2\n", true), ("    return (x + 3 * 2\n", false), ("", false)],
            ),
        ],
        timings: vec![
            timing("base scores", 11.2, 6),
            timing("ablation", 38.0, 12),
            timing("healing", 74.5, 5),
            timing("evaluation", 41.3, 18),
        ],
        warnings: vec!["greedy search was not run".into()],
    }
}
