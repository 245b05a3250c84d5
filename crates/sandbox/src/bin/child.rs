//! The helper as a program of its own, for the tests of this crate; `lopper` executes itself.

fn main() {
    lopper_sandbox::child_main();
}
