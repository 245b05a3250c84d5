//! Threads that help with one kernel after another, and wait for the next by spinning: a step of decoding has hundreds
//! of kernels of some microseconds, and to wake a thread takes longer than that. Threads that find nothing for a while
//! sleep.
//!
//! One caller at a time has the team; others go through rayon's pool meanwhile.

use rayon::prelude::*;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: longer than what a caller does alone between two kernels.
const SPIN: Duration = Duration::from_micros(200);
/// Rounds of spinning between two looks at the clock, and before a caller lets other threads run.
const ROUNDS: usize = 256;
/// Most helpers of a team.
const MOST: usize = (1 << 15) - 1;

/// Calls `f` with every number below `pieces`, each once, on up to `threads` threads.
pub(super) fn for_each(threads: usize, pieces: usize, f: &(dyn Fn(usize) + Sync)) {
    thread_local! {
        /// Whether this thread runs a piece already.
        static WITHIN: Cell<bool> = const { Cell::new(false) };
    }
    static TEAM: Mutex<Option<Team>> = Mutex::new(None);
    let helpers = threads.min(pieces).saturating_sub(1).min(MOST);
    if helpers == 0 || WITHIN.get() {
        return (0..pieces).for_each(f);
    }
    let mut team = match TEAM.try_lock() {
        Ok(team) => team,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return (0..pieces).into_par_iter().for_each(f),
    };
    let run = |next: &AtomicUsize| {
        let before = WITHIN.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let piece = next.fetch_add(1, SeqCst);
                if piece >= pieces {
                    return;
                }
                f(piece);
            }
        }));
        WITHIN.set(before);
        result
    };
    let result = team.get_or_insert_with(Team::default).run(helpers, &run);
    drop(team);
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// What a thread does in a call: takes pieces until none is left.
type Run<'a> = dyn Fn(&AtomicUsize) -> std::thread::Result<()> + Sync + 'a;

/// Helpers, of which some take part in each call.
#[derive(Default)]
struct Team {
    helpers: Vec<(Thread, Arc<AtomicBool>)>,
    shared: Arc<Shared>,
}

/// What caller and helpers have in common.
#[derive(Default)]
struct Shared {
    /// The current call: see [`State`].
    state: AtomicU64,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    /// Valid for those who have entered the current call.
    run: UnsafeCell<Option<&'static Run<'static>>>,
}

// SAFETY: `run` is written by the one caller while nobody is within a call, and read by those who have entered one.
unsafe impl Sync for Shared {}
// SAFETY: as above; the rest can be sent.
unsafe impl Send for Shared {}

/// A call in one word: its number, whether it can be entered, by how many helpers, and how many are within.
#[derive(Clone, Copy)]
struct State(u64);

impl State {
    const OPEN: u64 = 1 << 31;

    fn new(number: u32, helpers: usize) -> Self {
        Self(u64::from(number) << 32 | Self::OPEN | (helpers as u64) << 16)
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn is_open_for(self, helper: usize) -> bool {
        self.0 & Self::OPEN != 0 && helper < (self.0 >> 16) as usize & MOST
    }

    fn within(self) -> u64 {
        self.0 & 0xffff
    }
}

impl Team {
    /// Lets `helpers` threads and this one run `run`; returns when none runs it any more.
    fn run(&mut self, helpers: usize, run: &Run<'_>) -> std::thread::Result<()> {
        while self.helpers.len() < helpers {
            let Some(helper) = self.spawn() else { break };
            self.helpers.push(helper);
        }
        let shared = &*self.shared;
        shared.next.store(0, SeqCst);
        // SAFETY: nobody is within a call, and before this function returns nobody is within this one.
        unsafe { *shared.run.get() = Some(std::mem::transmute::<&Run<'_>, &'static Run<'static>>(run)) };
        let number = State(shared.state.load(SeqCst)).number().wrapping_add(1);
        shared.state.store(State::new(number, helpers).0, SeqCst);
        for (thread, asleep) in self.helpers.iter().take(helpers) {
            if asleep.swap(false, SeqCst) {
                thread.unpark();
            }
        }
        let mut result = run(&shared.next);
        shared.state.fetch_and(!State::OPEN, SeqCst);
        let mut rounds = 0;
        while State(shared.state.load(SeqCst)).within() > 0 {
            rounds += 1;
            if rounds % ROUNDS == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let mut panic = shared.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(panic) = panic.take() {
            result = result.and(Err(panic));
        }
        result
    }

    /// A thread more; none where the system gives none, so that the work is done by fewer.
    fn spawn(&self) -> Option<(Thread, Arc<AtomicBool>)> {
        let (shared, asleep, number) = (self.shared.clone(), Arc::new(AtomicBool::new(false)), self.helpers.len());
        let own = asleep.clone();
        let thread = std::thread::Builder::new().name(format!("kernel-{}", number + 1));
        let handle = thread.spawn(move || shared.help(number, &own)).ok()?;
        Some((handle.thread().clone(), asleep))
    }
}

impl Shared {
    /// The life of helper number `helper`.
    fn help(&self, helper: usize, asleep: &AtomicBool) -> ! {
        let mut seen = 0;
        loop {
            let state = self.wait(seen, asleep);
            seen = state.number();
            if !state.is_open_for(helper) {
                continue;
            }
            // Enters, unless the caller has closed the call.
            let enter = |state| State(state).is_open_for(helper).then_some(state + 1);
            if self.state.fetch_update(SeqCst, SeqCst, enter).is_err() {
                continue;
            }
            seen = State(self.state.load(SeqCst)).number();
            // SAFETY: this thread is within the call, so the caller waits for it.
            let result = unsafe { *self.run.get() }.map_or(Ok(()), |run| run(&self.next));
            if let Err(panic) = result {
                *self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(panic);
            }
            self.state.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for another call than that of number `seen`.
    fn wait(&self, seen: u32, asleep: &AtomicBool) -> State {
        let state = || Some(State(self.state.load(SeqCst))).filter(|state| state.number() != seen);
        let begun = Instant::now();
        loop {
            for _ in 0..ROUNDS {
                if let Some(state) = state() {
                    return state;
                }
                std::hint::spin_loop();
            }
            if begun.elapsed() < SPIN {
                continue;
            }
            asleep.store(true, SeqCst);
            while state().is_none() && asleep.load(SeqCst) {
                std::thread::park();
            }
            asleep.store(false, SeqCst);
            if let Some(state) = state() {
                return state;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever takes them, pieces are taken once each: by several callers at once, by more helpers and by fewer, and
    /// after pauses in which helpers fall asleep.
    #[test]
    fn every_piece_is_taken_once() {
        std::thread::scope(|scope| {
            for threads in [2, 5, 3] {
                scope.spawn(move || {
                    for round in 0..300 {
                        let pieces = round % 23;
                        let taken: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                        for_each(threads, pieces, &|piece| {
                            taken[piece].fetch_add(1, SeqCst);
                        });
                        assert!(
                            taken.iter().all(|count| count.load(SeqCst) == 1),
                            "{threads} threads, {pieces} pieces"
                        );
                        if round % 100 == 0 {
                            std::thread::sleep(3 * SPIN);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_in_a_piece_comes_out_and_the_team_goes_on() {
        for _ in 0..20 {
            let caught = catch_unwind(|| for_each(3, 10, &|piece| assert!(piece != 7, "piece seven")));
            let message = *caught.unwrap_err().downcast::<&str>().unwrap();
            assert_eq!(message, "piece seven");
            let sum = AtomicUsize::new(0);
            for_each(3, 5, &|n| {
                sum.fetch_add(n, SeqCst);
            });
            assert_eq!(sum.into_inner(), 10);
        }
    }

    #[test]
    fn calls_within_a_piece_stay_on_its_thread() {
        let count = AtomicUsize::new(0);
        for_each(4, 6, &|_| {
            let thread = std::thread::current().id();
            for_each(4, 5, &|_| {
                assert_eq!(std::thread::current().id(), thread);
                count.fetch_add(1, SeqCst);
            });
        });
        assert_eq!(count.into_inner(), 30);
    }
}
