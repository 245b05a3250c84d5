//! The task files that come with Lopper, and those that a user names by their path.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use lopper_record::Fault;

use super::spec::Spec;

const FILES: [&str; 24] = [
    include_str!("../definitions/mmlu.toml"),
    include_str!("../definitions/arc_easy.toml"),
    include_str!("../definitions/arc_challenge.toml"),
    include_str!("../definitions/hellaswag.toml"),
    include_str!("../definitions/winogrande.toml"),
    include_str!("../definitions/piqa.toml"),
    include_str!("../definitions/openbookqa.toml"),
    include_str!("../definitions/boolq.toml"),
    include_str!("../definitions/gsm8k.toml"),
    include_str!("../definitions/gsm8k_chat.toml"),
    include_str!("../definitions/gsm8k_python.toml"),
    include_str!("../definitions/math_500.toml"),
    include_str!("../definitions/aime24.toml"),
    include_str!("../definitions/aime25.toml"),
    include_str!("../definitions/mmlu_pro.toml"),
    include_str!("../definitions/gpqa_diamond_zeroshot.toml"),
    include_str!("../definitions/gpqa_diamond_cot_zeroshot.toml"),
    include_str!("../definitions/ifeval.toml"),
    include_str!("../definitions/humaneval.toml"),
    include_str!("../definitions/humaneval_plus.toml"),
    include_str!("../definitions/humaneval_plus_chat.toml"),
    include_str!("../definitions/mbpp.toml"),
    include_str!("../definitions/mbpp_plus.toml"),
    include_str!("../definitions/xsum.toml"),
];

/// The tasks that come with Lopper, members spelt out.
pub(crate) fn builtin() -> &'static [Arc<Spec>] {
    static BUILTIN: OnceLock<Vec<Arc<Spec>>> = OnceLock::new();
    BUILTIN.get_or_init(|| {
        // A test parses every file, so none is lost here.
        FILES.iter().filter_map(|source| Spec::parse(source, None).ok()).flatten().map(Arc::new).collect()
    })
}

/// Whether an argument is meant as a file rather than as a name.
pub(crate) fn is_file(name: &str) -> bool {
    name.ends_with(".toml") || name.contains('/') || name.contains('\\')
}

/// The tasks of a user's file.
pub(crate) fn file(path: &str) -> Result<Vec<Arc<Spec>>, Fault> {
    let path = Path::new(path);
    let source = std::fs::read_to_string(path).map_err(|error| {
        Fault::new("the task's file cannot be read").file(path).got(error.to_string()).hint("check the path")
    })?;
    Ok(Spec::parse(&source, Some(path))?.into_iter().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_file_is_read_and_no_name_comes_twice() {
        for source in FILES {
            Spec::parse(source, None).unwrap();
        }
        assert_eq!(builtin().len(), FILES.len() - 2 + 57 + 14);
        let names: HashSet<&str> = builtin().iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names.len(), builtin().len());
        let tagged = |tag: &str| builtin().iter().filter(|spec| spec.tags.iter().any(|own| own == tag)).count();
        assert_eq!((tagged("mmlu"), tagged("mmlu_stem"), tagged("mmlu_other"), tagged("ai2_arc")), (57, 19, 13, 2));
        let pro = builtin().iter().find(|spec| spec.name == "mmlu_pro_computer_science").unwrap();
        assert_eq!((pro.families(), pro.rows.config.as_str()), (vec!["mmlu_pro".to_owned()], "default"));
        assert!(builtin().iter().all(|spec| !names.contains("mmlu") && !spec.metrics().is_empty()));
    }

    #[test]
    fn files_at_fault_are_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("own.toml");
        let good = FILES[1];
        for (from, to, word) in [
            ("version = 1", "version = 0", "versions"),
            ("name = \"arc_easy\"", "name = \"a b\"", "name"),
            ("label = ", "labels = ", "labels"),
            ("chance = 0.25", "chance = 2", "share"),
            ("splits = [\"test\", \"validation\"]", "splits = []", "splits"),
            ("identity = [\"question\"]", "identity = [\"query\"]", "query"),
        ] {
            std::fs::write(&path, good.replace(from, to)).unwrap();
            let fault = file(path.to_str().unwrap()).unwrap_err();
            assert_eq!(fault.file.as_deref(), Some(path.as_path()));
            assert!(fault.to_string().contains(word), "{to}: {fault}");
        }
        assert!(is_file("x/y") && is_file("t.toml") && !is_file("arc_easy"));
        assert!(file("nowhere.toml").is_err());
    }
}
