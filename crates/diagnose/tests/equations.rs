//! The equation checker on 200 worked solutions of GSM8K (Cobbe et al., arXiv 2110.14168), right and with one result
//! corrupted. The rows are not part of the repository: the test needs `../shared`.

#[path = "common/corrupt.rs"]
mod corrupt;

use std::path::Path;

use lopper_testkit::{Feature, skip_unless};

#[test]
fn corrupted_steps_of_gsm8k_are_found_and_right_ones_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let found = root.join("openai/gsm8k").is_dir().then_some(root);
    let Some(root) = skip_unless(Feature::Shared, found) else { return };
    let answers = corrupt::answers(&root, "test", 200).unwrap();
    assert_eq!(answers.len(), 200);
    // Measured: 1.000 and 0.990 with annotations, 1.000 and 0.974 without (design/diagnostics.md).
    for (annotated, recall) in [(true, 0.98), (false, 0.96)] {
        let count = corrupt::measure(&answers, annotated);
        let good = count.corrupted > 180 && count.precision() > 0.99 && count.recall() > recall;
        assert!(good, "annotations kept: {annotated}: {count}\n{:#?}", count.notes);
    }
}

#[test]
fn a_corrupted_copy_differs_in_one_result() {
    let answer = "She sells 3 * 1,000 = $<<3*1000=3000>>3,000.\nThen 2 + 2 = <<2+2=4>>4 more.\n#### 7";
    let (copy, wrong) = corrupt::corrupted(answer, 0).unwrap();
    assert_eq!(wrong, "3001");
    assert!(copy.contains("<<3*1000=3001>>3001.\nThen 2 + 2 = <<2+2=4>>4"), "{copy}");
    assert_eq!(corrupt::stripped(&copy), "She sells 3 * 1,000 = $3001.\nThen 2 + 2 = 4 more.\n#### 7");
    let count = corrupt::measure(&[answer.to_owned()], true);
    assert_eq!((count.right, count.corrupted, count.found, count.false_alarms), (1, 1, 1, 0));
}
