//! `--device`.

use anyhow::Result;
use lopper_model::device::parse_device;
use lopper_record::Fault;

/// Refuses a device that is not there, and those that the commands do not compute on yet.
pub fn check(device: &str) -> Result<()> {
    if parse_device(device)?.is_cpu() {
        return Ok(());
    }
    Err(Fault::new("the commands of this version compute on the CPU")
        .expected("--device cpu")
        .got(format!("--device {device}"))
        .hint("leave --device out")
        .into())
}
