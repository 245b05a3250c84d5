//! The texts of the items that tasks evaluate, without a model: to find them in what a model learns from.

use lopper_pocket::{Split, examples};
use lopper_record::Result;

use crate::benchmark::items::items;
use crate::policy::{GenerationPolicy, ItemSelection, Resources, RowChoice};
use crate::registry::{Task, resolve};

/// The texts that give away each item of `tasks`, with the name of its task: all rows that a benchmark is scored on,
/// and of a generated task as many items as `generated` says of each of the splits that layers are chosen by and scores
/// are reported on, in the order of `seed`.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) for an unknown task, and for rows that cannot be read.
pub fn evaluated_texts(
    tasks: &[impl AsRef<str>],
    (generated, seed): (usize, u64),
    resources: &Resources,
) -> Result<Vec<(String, Vec<String>)>> {
    let mut found = Vec::new();
    for (_, task) in resolve(tasks)? {
        let name = task.name().to_owned();
        match &task {
            Task::Pocket(_) => {
                for split in [Split::Report, Split::Select] {
                    let items = examples(&name, split, seed).take(generated);
                    found.extend(items.map(|item| (name.clone(), vec![item.prompt.text().to_owned()])));
                }
            }
            Task::Benchmark(spec) => {
                let selection = ItemSelection {
                    rows: RowChoice::All,
                    row_limit: None,
                    ..ItemSelection::new(Split::Report, 0, seed)
                };
                // Few-shot examples are no items.
                let policy = GenerationPolicy { shots: Some(0), ..GenerationPolicy::default() };
                for item in items(spec, &selection, &policy, resources)?.items {
                    let texts = item.identifying_texts(spec).map(str::to_owned).collect();
                    found.push((name.clone(), texts));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataRoot;

    #[test]
    fn texts_are_those_of_the_evaluated_split() {
        let data_root = DataRoot::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data"));
        let resources = Resources { data_root, code: None };
        let found = evaluated_texts(&["arc_easy", "pocket_word"], (7, 0), &resources).unwrap();
        let (arc, word): (Vec<_>, Vec<_>) = found.iter().partition(|(task, _)| task == "arc_easy");
        assert_eq!((arc.len(), word.len()), (12, 14));
        assert!(arc.iter().all(|(_, texts)| texts.iter().any(|text| text.starts_with("Question: "))), "{arc:?}");
        let report = examples("pocket_word", Split::Report, 0).next().unwrap();
        assert_eq!(word[0].1, [report.prompt.text()]);
        assert!(evaluated_texts(&["no_such_task"], (7, 0), &resources).is_err());
    }
}
