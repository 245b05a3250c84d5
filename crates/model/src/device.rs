//! `--device cpu|cuda[:i]|metal`: from the user's word to a candle device.
//!
//! CUDA and Metal are compiled in by the features `cuda` (which needs nvcc when building) and
//! `metal`; without them the words are known, but refused with the way to get them.

use anyhow::Result;
use candle_core::Device;
use lopper_record::Fault;

const EXPECTED: &str = "`cpu`, `cuda`, `cuda:1` (the second CUDA device) or `metal`";

/// The device named by `text`.
pub fn parse_device(text: &str) -> Result<Device> {
    if text == "cpu" {
        return Ok(Device::Cpu);
    }
    if text == "metal" {
        let available = candle_core::utils::metal_is_available();
        return open(text, "metal", available, || Device::new_metal(0));
    }
    let index = match text.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|index| index.parse().ok()),
        None => None,
    };
    let Some(index) = index else {
        return Err(Fault::new("unknown device")
            .expected(EXPECTED)
            .got(format!("`{text}`"))
            .hint("`cpu` is always there")
            .into());
    };
    open(text, "cuda", candle_core::utils::cuda_is_available(), || Device::new_cuda(index))
}

fn open(
    text: &str,
    feature: &str,
    available: bool,
    device: impl FnOnce() -> candle_core::Result<Device>,
) -> Result<Device> {
    if !available {
        return Err(Fault::new(format!("this build cannot use the device `{text}`"))
            .expected("`cpu`, the only device of an ordinary build")
            .got(format!("`{text}`"))
            .hint(format!("build again with `--features {feature}`, or leave the option out"))
            .into());
    }
    device().map_err(|error| {
        Fault::new(format!("the device `{text}` cannot be opened"))
            .expected("a device that is there and whose driver is loaded")
            .got(error.to_string())
            .hint("count devices from 0; `--device cpu` always works")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        parse_device(text).unwrap_err().downcast::<Fault>().unwrap()
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(parse_device("cpu").unwrap().is_cpu());
    }

    #[test]
    fn words_that_name_no_device_are_the_users_fault() {
        for text in ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda1", "cudas", "metal:0", "cpu:0"] {
            assert_eq!(fault(text).expected.as_deref(), Some(EXPECTED), "{text}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_needs_its_feature() {
        for text in ["cuda", "cuda:3"] {
            assert!(fault(text).hint.unwrap().contains("--features cuda"), "{text}");
        }
    }

    #[cfg(not(feature = "metal"))]
    #[test]
    fn metal_needs_its_feature() {
        assert!(fault("metal").hint.unwrap().contains("--features metal"));
    }
}
