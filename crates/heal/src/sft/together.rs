//! The loop of one or several trainings on the same examples: each does what it would do alone, and steps that several
//! of them have to do are done together, so that what they have in common is computed once.
//!
//! A training whose state was saved at an earlier step than another's is trained on alone until it has caught up.

use super::stats::Stopped;
use super::training::{Training, Turn};
use crate::divergence::Divergence;
use crate::trainer::{StepStats, Trainer};
use lopper_record::{Error, Progress, Result};
use std::time::{Duration, Instant};

/// Times the duration of writing the states that pass before they are written again: a twentieth of the time at most.
const SAVE_PAUSE: u32 = 20;

/// A training, and whether it has ended.
pub(super) struct Member<'a> {
    pub(super) training: Training<'a>,
    pub(super) end: End,
}

/// How a training ended.
pub(super) enum End {
    /// It has not.
    None,
    /// With a result; why before its last step, if it did.
    Done(Option<Stopped>),
    /// Without one.
    Failed(Error),
}

impl Member<'_> {
    fn goes_on(&self) -> bool {
        matches!(self.end, End::None)
    }

    /// Ends it. Without space for its state the result, which takes less, may still fit.
    fn end(&mut self, stopped: Option<Stopped>) {
        self.end = End::Done(stopped);
        // What follows (writing, measuring what was written) may take long, too.
        if let Err(error) = self.training.save() {
            tracing::warn!(%error, "the finished training could not be saved");
        }
    }

    /// Goes on after a step in which it may have diverged or failed.
    fn after_step(&mut self, diverged: Result<Option<Divergence>>) {
        match diverged {
            Ok(None) => {}
            Ok(Some(divergence)) => self.end(Some(Stopped::Diverged(divergence))),
            Err(error) => self.end = End::Failed(error),
        }
    }
}

/// Trains all of `members` to their ends. `apart` says that they learn from different texts.
pub(super) fn run(members: &mut [Member<'_>], apart: bool, progress: &dyn Progress) -> Result<()> {
    for member in &*members {
        member.training.begin_logs()?;
    }
    let (mut saved, mut pause) = (Instant::now(), Duration::ZERO);
    while let Some(step) = members.iter().filter(|member| member.goes_on()).map(|member| member.training.step()).min() {
        let turn = turn(members, step, apart, progress);
        if turn.as_ref().is_err_and(Error::is_interrupted) {
            save(members)?;
        }
        turn?;
        let losses = members.iter().filter(|member| member.goes_on()).map(|member| member.training.last_loss());
        let losses: Vec<String> = losses.map(|loss| format!("{loss:.3}")).collect();
        if !losses.is_empty() {
            progress.message(&format!("loss {}", losses.join(", ")));
        }
        progress.set(members.iter().map(|member| member.training.tokens_so_far()).sum());
        let interrupted = progress.check();
        let every = members.iter().filter_map(|member| member.training.state_file()).map(|file| file.save_every).min();
        if every.is_some_and(|every| interrupted.is_err() || saved.elapsed() >= pause.max(every)) {
            let began = Instant::now();
            // Without space the training ends here: to go on would cost all that follows.
            save(members)?;
            (saved, pause) = (Instant::now(), SAVE_PAUSE * began.elapsed());
        }
        interrupted?;
    }
    Ok(())
}

/// Saves those that go on; the others have been saved when they ended.
fn save(members: &[Member<'_>]) -> Result<()> {
    members.iter().filter(|member| member.goes_on()).try_for_each(|member| member.training.save())
}

/// What follows the step `step` of those that are there, and their next one.
fn turn(members: &mut [Member<'_>], step: usize, apart: bool, progress: &dyn Progress) -> Result<()> {
    let mut there: Vec<&mut Member<'_>> =
        members.iter_mut().filter(|member| member.goes_on() && member.training.step() == step).collect();
    for member in &mut there {
        match member.training.follow_up(progress) {
            Ok(Turn::GoOn) => {}
            Ok(Turn::End(stopped)) => member.end(stopped),
            Err(error) if error.is_interrupted() => return Err(error),
            Err(error) => member.end = End::Failed(error),
        }
    }
    there.retain(|member| member.goes_on());
    if apart {
        return there.iter_mut().try_for_each(|member| train(std::slice::from_mut(member), progress));
    }
    train(&mut there, progress)
}

/// One optimiser step of each of `members`, which learn from the same texts.
fn train(members: &mut [&mut Member<'_>], progress: &dyn Progress) -> Result<()> {
    let Some(first) = members.first_mut() else { return Ok(()) };
    let began = Instant::now();
    let batch = first.training.batch(progress)?;
    let mut trainers: Vec<&mut Trainer> = members.iter_mut().map(|member| &mut member.training.trainer).collect();
    let stats: Vec<StepStats> = Trainer::gradients_of_all(&mut trainers, &batch)?;
    for (member, stats) in members.iter_mut().zip(&stats) {
        let diverged = member.training.update(&batch, stats);
        member.after_step(diverged);
    }
    let time = began.elapsed() / members.len() as u32;
    members.iter_mut().for_each(|member| member.training.count(time));
    Ok(())
}
