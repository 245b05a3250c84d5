//! The modules of this crate form layers: each uses only modules that come before it in [`ORDER`].

use std::fs;
use std::path::{Path, PathBuf};

/// Every module of `src`, the ones that know least first.
const ORDER: [&str; 21] = [
    // Computation on slices.
    "kernels",
    "batch",
    "cache",
    // Files.
    "hf",
    "dtype",
    "config",
    "tensors",
    "sizes",
    "families",
    "checkpoint",
    "tokenizer",
    "generation",
    "chat",
    // Weights.
    "mapped",
    "param",
    "linear",
    "projections",
    "layer",
    // The decoder, and what is done with it.
    "model",
    "forward",
    "train",
];

/// The files of `directory` and below that are not tests.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.filter(|path| path.file_stem().is_some_and(|stem| stem != "tests"));
    nested.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The code of a file: without comments, and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first name after each `prefix` in `code`.
fn names<'a>(code: &'a str, prefix: &'static str) -> impl Iterator<Item = &'a str> {
    let word = |rest: &'a str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    code.split(prefix).skip(1).map(word)
}

#[test]
fn each_module_uses_only_those_before_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut seen = [false; ORDER.len()];
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let (file, code) = (inside.display(), code(&path));
        let own = place(module).unwrap_or_else(|| panic!("{file}: `{module}` is missing in the order"));
        seen[own] = true;
        for used in names(&code, "crate::") {
            let Some(used_place) = place(used) else { panic!("{file} uses `crate::{used}`, which names no module") };
            assert!(used_place <= own, "{file} uses `crate::{used}`, which comes after `{module}`");
        }
        // At the top of a module's tree `super` is the crate itself.
        let depth = inside.components().count();
        assert!(!code.contains(&"super::".repeat(depth)), "{file} reaches the crate's root by `super`");
    }
    assert_eq!(seen, [true; ORDER.len()], "the order names a module that does not exist");
}
