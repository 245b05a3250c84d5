//! In the program that users run, no vector instruction of the kernels is a call of a function.
//!
//! An intrinsic is inlined only into a function compiled for its instructions. In a closure that goes through
//! `std::array::from_fn` it may remain a call, with its operands passed through memory: decoding with bf16 weights once
//! took seven times as long for that.

use std::path::Path;

use object::{Object, ObjectSymbol};

#[test]
fn vector_instructions_are_inlined() {
    let bytes = std::fs::read(Path::new(env!("CARGO_BIN_EXE_lopper"))).unwrap();
    let program = object::File::parse(&*bytes).unwrap();
    let names: Vec<&str> = program.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(names.iter().any(|name| name.contains("lopper_model")), "the program's symbols are not there to look at");
    // Searches for bytes in text, in crates that are optimised a little, call this one.
    let is_ours = |name: &str| name.contains("_mm512_") || name.contains("_mm256_") && !name.contains("_loadu_si256");
    let calls: Vec<_> = names.iter().filter(|name| name.contains("core_arch") && is_ours(name)).collect();
    assert!(calls.is_empty(), "not inlined, so a kernel calls them one by one: {calls:#?}");
}
