//! Tests which mechanisms work on this machine: the helper runs once, tries all of them, and reports which fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use lopper_record::{Fault, Result, bail};

use crate::job::{Answer, Job, Step};
use crate::launch;
use crate::policy::Limits;
use crate::protection::{Mechanism, Protection, State};
use crate::report::Keys;
use crate::supervise::supervise;

/// The state of each mechanism except control groups.
///
/// A failed step may cause later ones to fail, so the probe is repeated without it until nothing fails.
pub(crate) fn probe(helper: &Path, job: &Job, off: &BTreeSet<Mechanism>) -> Result<Vec<Protection>> {
    let mut failed: Vec<Step> = Vec::new();
    loop {
        let wanted: Vec<Mechanism> = Mechanism::ALL
            .into_iter()
            .filter(|m| *m != Mechanism::Cgroup && !off.contains(m) && failed.iter().all(|s| s.mechanism != *m))
            .collect();
        let steps = probe_once(helper, &Job { probe: true, mechanisms: wanted.clone(), ..job.clone() })?;
        let before = failed.len();
        failed.extend(steps.iter().filter(|s| s.result.is_err()).cloned());
        if failed.len() > before {
            continue;
        }
        let protection = |mechanism: Mechanism| {
            let found = steps.iter().chain(&failed).find(|s| s.mechanism == mechanism);
            let state = match found.map(|s| &s.result) {
                Some(Ok(note)) => State::Active(note.clone()),
                Some(Err(why)) => State::Unavailable(why.clone()),
                None if off.contains(&mechanism) => State::SwitchedOff,
                None => State::Unavailable("not tried".into()),
            };
            Protection { mechanism, state }
        };
        return Ok(Mechanism::ALL.into_iter().filter(|m| *m != Mechanism::Cgroup).map(protection).collect());
    }
}

/// Runs the helper once and returns its results.
fn probe_once(helper: &Path, job: &Job) -> Result<Vec<Step>> {
    let keys = Keys::new()?;
    let running = launch::with_helper(helper, job, |_| Ok(()))?;
    let run = supervise(running, &[], &keys, &Limits::default(), &AtomicBool::new(false))?;
    for answer in &run.answers {
        match answer {
            Answer::Probed(steps) => return Ok(steps.clone()),
            Answer::Failed(why) => bail!("the sandbox cannot be set up: {why}"),
            _ => {}
        }
    }
    if !run.answers.contains(&Answer::Hello) {
        let hint = "it must call lopper_sandbox::child_main() at the start of main";
        return Err(Fault::new("the sandbox's helper does not answer").file(helper).hint(hint).into());
    }
    bail!("the sandbox's helper ended during the probe: {}", run.stderr.text)
}
