//! Ctrl-C: the first stops the work at the next safe point, the second ends the process.
//!
//! Outputs are written under a temporary name and renamed when they are whole, so ending at once loses no finished
//! work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lopper_record::{Context, Result};

use crate::errors::INTERRUPTED;

/// Installs the handler (also for termination and hang-up) and returns the flag that it sets.
pub fn install() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(flag)
}
