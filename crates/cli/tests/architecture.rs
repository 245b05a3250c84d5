//! The picture in `design/architecture.md` is that of the `Cargo.toml`s: every arrow is a dependency, and every
//! dependency can be reached along the arrows. What the libraries' public functions return is typed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Which crates each crate depends on, development dependencies left out.
fn dependencies() -> Graph {
    let mut graph = Graph::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let directory = entry.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        let own = lines.take_while(|line| !line.starts_with('['));
        let crates = own.filter_map(|line| Some(line.strip_prefix("lopper-")?.split_whitespace().next()?.to_owned()));
        graph.insert(name, crates.collect());
    }
    graph.remove("testkit");
    graph
}

/// The arrows of the picture, from each crate to those it points from.
fn picture() -> Graph {
    let page = fs::read_to_string(root().join("design/architecture.md")).unwrap();
    let picture = page.split("```mermaid").nth(1).unwrap().split("```").next().unwrap();
    let mut graph = Graph::new();
    for (from, to) in picture.lines().filter_map(|line| line.trim().split_once(" --> ")) {
        graph.entry(to.to_owned()).or_default().insert(from.to_owned());
    }
    graph
}

fn reachable<'a>(graph: &'a Graph, from: &str, seen: &mut BTreeSet<&'a str>) {
    for next in graph.get(from).into_iter().flatten() {
        if seen.insert(next) {
            reachable(graph, next, seen);
        }
    }
}

#[test]
fn the_picture_is_that_of_the_manifests() {
    let (dependencies, picture) = (dependencies(), picture());
    for (name, arrows) in &picture {
        let stray: Vec<_> = arrows.difference(&dependencies[name]).collect();
        assert!(stray.is_empty(), "{name} does not depend on {stray:?}");
    }
    for (name, own) in &dependencies {
        let mut seen = BTreeSet::new();
        reachable(&picture, name, &mut seen);
        assert!(!seen.contains(name.as_str()), "the picture leads from {name} back to it");
        let missing: Vec<_> = own.iter().filter(|other| !seen.contains(other.as_str())).collect();
        assert!(missing.is_empty(), "no way in the picture from {missing:?} to {name}");
    }
}

/// The Rust files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The signatures of public functions and of public traits' methods in which an error is `anyhow`'s.
fn untyped(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let imports = source.split("use anyhow::").skip(1).map(|rest| rest.split(';').next().unwrap());
    let anyhow_result = imports.flat_map(|names| names.split(['{', ',', '}'])).any(|name| name.trim() == "Result");
    let (mut found, mut in_trait) = (Vec::new(), false);
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        in_trait = line.starts_with("pub trait ") || in_trait && line != "}";
        let item = line.trim_start();
        let public = item.starts_with("pub ") && item.contains("fn ") || in_trait && item.starts_with("fn ");
        if !public {
            continue;
        }
        let mut signature = item.to_owned();
        while !signature.ends_with(['{', ';', '}']) {
            signature += lines.next().expect("a signature ends").trim();
        }
        let aliased = signature.match_indices("Result<").any(|(at, _)| !signature[..at].ends_with("::"));
        if signature.contains("anyhow::") || anyhow_result && aliased {
            found.push(signature);
        }
    }
    found
}

#[test]
fn public_functions_return_typed_errors() {
    let sample = "use anyhow::{Context, Result};\npub trait Reads {\n    fn read(\n        &self,\n    ) -> Result<u8>;\n}\n\
                  pub fn typed() -> lopper_record::Result<()> {\n}\npub(crate) fn own() -> Result<()> {\n}\n\
                  pub fn run(then: impl Fn() -> anyhow::Result<()>) {\n}\n#[cfg(test)]\nmod tests {}";
    let names = ["fn read(&self,) -> Result<u8>;", "pub fn run(then: impl Fn() -> anyhow::Result<()>) {"];
    assert_eq!(untyped(sample), names);

    for name in dependencies().keys().filter(|name| *name != "cli") {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let found = untyped(&fs::read_to_string(&path).unwrap());
            assert!(found.is_empty(), "{}: return lopper_record::Result from {found:#?}", path.display());
        }
    }
}
