//! `--device`.

use lopper_record::{Fault, Result};

/// Refuses every device but the CPU.
pub fn check(device: &str) -> Result<()> {
    if device == "cpu" {
        return Ok(());
    }
    Err(Fault::new("Lopper computes on the CPU")
        .expected("`--device cpu` (`cuda` and `metal` are reached through other servers)")
        .got(format!("--device {device}"))
        .hint("leave --device out")
        .into())
}
