//! The picture in `design/architecture.md` is that of the `Cargo.toml`s: every arrow is a dependency, and every
//! dependency can be reached along the arrows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

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
