//! In what studies differ, as far as it keeps their figures from being compared.

use std::collections::{BTreeMap, BTreeSet};

use lopper_record::changed_keys;
use lopper_record::study::TaskMeta;

use super::Compared;
use crate::order::plain;

/// A sentence for each difference; none where figures can be compared.
pub fn differences(studies: &[Compared]) -> Vec<String> {
    let mut out = models(studies);
    out.extend(tasks(studies));
    out.extend(of_tasks(studies));
    out.extend(seeds(studies));
    out.extend(policies(studies));
    out.extend(floors(studies));
    for study in studies.iter().filter(|study| !study.record.complete) {
        out.push(format!("{} has not finished: what is missing there may change its answer.", study.name));
    }
    out
}

/// The studies by what `read` reads of them: "12 in a, b; 24 in c"; nothing where all have the same.
fn apart(studies: &[Compared], read: impl Fn(&Compared) -> Option<String>) -> Option<String> {
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for study in studies {
        if let Some(value) = read(study) {
            values.entry(value).or_default().push(&study.name);
        }
    }
    (values.len() > 1).then(|| {
        let parts: Vec<String> =
            values.iter().map(|(value, names)| format!("{value} in {}", names.join(", "))).collect();
        parts.join("; ")
    })
}

fn models(studies: &[Compared]) -> Vec<String> {
    let models = apart(studies, |study| Some(study.record.model.name.clone()));
    let hashes = apart(studies, |study| Some(study.record.model.hash.clone()).filter(|hash| !hash.is_empty()));
    let mut out = Vec::new();
    match (models, hashes) {
        (Some(models), Some(_)) => out.push(format!(
            "Different models ({models}): what is kept is in per cent of each one’s own uncut score, and the scores \
             themselves are of different models."
        )),
        (None, Some(_)) => out.push("The models have the same name and different weights.".into()),
        _ => {}
    }
    if let Some(layers) = apart(studies, |study| Some(study.record.model.num_layers.to_string())) {
        out.push(format!("Different numbers of layers ({layers}): the same number removed is not the same share."));
    }
    out
}

/// Tasks that not every study has.
fn tasks(studies: &[Compared]) -> Option<String> {
    let all: BTreeSet<&str> =
        studies.iter().flat_map(|study| &study.record.tasks).map(|task| task.name.as_str()).collect();
    let mut missing = Vec::new();
    for task in all {
        let without: Vec<&str> = studies
            .iter()
            .filter(|study| !study.record.tasks.iter().any(|own| own.name == task))
            .map(|study| study.name.as_str())
            .collect();
        if !without.is_empty() {
            missing.push(format!("{} (not in {})", plain(task), without.join(", ")));
        }
    }
    (!missing.is_empty()).then(|| {
        format!(
            "Tasks that not every study has: {}. The mean and the worst task of their groups are over different tasks.",
            missing.join("; ")
        )
    })
}

/// What differs in the tasks that several studies have.
fn of_tasks(studies: &[Compared]) -> Vec<String> {
    let names: BTreeSet<&str> =
        studies.iter().flat_map(|study| &study.record.tasks).map(|task| task.name.as_str()).collect();
    let mut by_difference: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for name in names {
        let read = |read: &dyn Fn(&TaskMeta) -> String| {
            apart(studies, |study| study.record.tasks.iter().find(|task| task.name == name).map(read))
        };
        let kinds = [
            read(&|task| format!("{} items", task.n_report)),
            read(&|task| format!("version {}", task.version)),
            read(&|task| format!("metric {}", task.metric)),
            read(&|task| format!("group {}", task.group)),
        ];
        for (order, difference) in kinds.into_iter().enumerate() {
            if let Some(difference) = difference {
                by_difference.entry((order, difference)).or_default().push(plain(name));
            }
        }
    }
    let what = [
        "Different numbers of items, so intervals of different width",
        "Different versions of a task: its scores are not comparable",
        "Different metrics: the scores are not comparable",
        "Counted in different groups",
    ];
    by_difference
        .into_iter()
        .map(|((order, difference), tasks)| format!("{} ({difference}): {}.", what[order], tasks.join(", ")))
        .collect()
}

/// The items are those of the seed; the record names its use.
fn seeds(studies: &[Compared]) -> Option<String> {
    let seed = |study: &Compared| {
        let own = study.record.seeds.iter().find(|seed| seed.name.starts_with("items"))?;
        Some(format!("seed {}", own.value))
    };
    apart(studies, seed).map(|seeds| format!("Items were drawn with different seeds ({seeds}): they are other items."))
}

fn policies(studies: &[Compared]) -> Vec<String> {
    let Some((first, others)) = studies.split_first() else { return vec![] };
    let mut out = Vec::new();
    for other in others {
        let changes = changed_keys(&first.record.policy, &other.record.policy);
        if !changes.is_empty() {
            out.push(format!("Answers were produced differently in {} and {}: {changes}.", first.name, other.name));
        }
    }
    out
}

fn floors(studies: &[Compared]) -> Option<String> {
    let floors = |study: &Compared| {
        let mut floors: Vec<String> =
            study.record.budget.iter().map(|line| format!("≥ {:.0} %", line.threshold * 100.0)).collect();
        floors.sort();
        floors.dedup();
        (!floors.is_empty()).then(|| floors.join(" and "))
    };
    apart(studies, floors).map(|floors| format!("Budgets for different floors ({floors})."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::StudyRecord;
    use lopper_record::study::Seed;
    use serde_json::json;

    fn study(name: &str, change: impl FnOnce(&mut StudyRecord)) -> Compared {
        let task = |name: &str| TaskMeta {
            name: name.into(),
            group: "generative".into(),
            n_report: 120,
            ..TaskMeta::default()
        };
        let mut record =
            StudyRecord { complete: true, tasks: vec![task("word"), task("code")], ..StudyRecord::default() };
        record.seeds = vec![Seed { name: "items and bootstrap".into(), value: 0 }];
        change(&mut record);
        Compared { name: name.into(), record }
    }

    #[test]
    fn the_same_study_twice_has_no_difference() {
        assert_eq!(differences(&[study("a", |_| ()), study("b", |_| ())]), [""; 0]);
    }

    #[test]
    fn each_difference_is_named_with_the_studies_that_have_it() {
        let other = study("b", |record| {
            record.tasks.remove(1);
            record.tasks[0].n_report = 60;
            record.seeds[0].value = 7;
            record.policy = json!({"temperature": 0.9});
            record.complete = false;
            (record.model.name, record.model.hash, record.model.num_layers) = ("m".into(), "h".into(), 12);
        });
        let first = study("a", |record| {
            record.policy = json!({"temperature": 0.0});
            (record.model.name, record.model.hash) = ("n".into(), "g".into());
        });
        let found = differences(&[first, other]).join("\n");
        for text in [
            "Different models (m in b; n in a)",
            "(0 in a; 12 in b)",
            "code (not in b)",
            "(120 items in a; 60 items in b): word.",
            "(seed 0 in a; seed 7 in b)",
            "`temperature` was 0.0 and is 0.9",
            "b has not finished",
        ] {
            assert!(found.contains(text), "{text}\n{found}");
        }
    }
}
