use super::*;
use lopper_record::NoProgress;
use proptest::{prop_assert_eq, proptest};
use std::cell::Cell;

/// A model whose layers each cost something to remove, with neighbours costing extra together, and
/// items of differing difficulty.
struct Made {
    cost: Vec<f64>,
    items: usize,
    evaluated: Cell<usize>,
}

impl Made {
    fn new(cost: &[f64], items: usize) -> Self {
        Self { cost: cost.to_vec(), items, evaluated: Cell::new(0) }
    }

    fn loss(&self, kept: &LayerSet<LayerPosition>) -> f64 {
        let gone: Vec<usize> = kept.complement(self.cost.len()).indices().collect();
        let alone: f64 = gone.iter().map(|layer| self.cost[*layer]).sum();
        alone + 0.02 * gone.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as f64
    }
}

impl Evaluator for Made {
    fn tasks(&self) -> Vec<(Group, usize)> {
        vec![(Group::Generative, self.items), (Group::Generative, self.items / 2)]
    }

    fn evaluate(
        &self,
        candidates: &[LayerSet<LayerPosition>],
        range: Range<usize>,
        _: &dyn Progress,
    ) -> Result<Vec<ItemScores>> {
        let task = |kept: &LayerSet<LayerPosition>, items: usize, salt: usize| -> Vec<f64> {
            (range.start..range.end.min(items))
                .map(|item| {
                    self.evaluated.set(self.evaluated.get() + 1);
                    // Difficulties spread evenly over 0 to 1, in an order of no meaning.
                    let difficulty = ((item * 7919 + salt * 31) % 997) as f64 / 997.0;
                    f64::from(u8::from(difficulty > self.loss(kept)))
                })
                .collect()
        };
        Ok(candidates.iter().map(|kept| vec![task(kept, self.items, 0), task(kept, self.items / 2, 5)]).collect())
    }
}

const COSTS: [f64; 8] = [0.01, 0.5, 0.08, 0.2, 0.05, 0.12, 0.3, 0.6];

fn run(made: &Made, remove: usize, strategy: Strategy) -> State {
    let problem = Problem::new(made.cost.len(), remove).unwrap();
    search(&problem, strategy, made, State::default(), &NoProgress, &mut |_| Ok(ControlFlow::Continue(()))).unwrap()
}

fn gone(state: &State, layers: usize) -> LayerSet<LayerPosition> {
    let set: LayerSet<LayerPosition> = state.rounds.iter().flat_map(|round| round.removed.iter()).collect();
    assert!(set.indices().all(|layer| layer < layers));
    set
}

fn set(layers: &[usize]) -> LayerSet<LayerPosition> {
    layers.iter().copied().collect()
}

#[test]
fn every_strategy_finds_the_cheap_layers() {
    let made = Made::new(&COSTS, 400);
    // Layer 0 is cheapest and stays; 4 and 2 are next, then 5, next to 4.
    assert_eq!(gone(&run(&made, 2, Strategy::Greedy), 8), set(&[2, 4]));
    assert_eq!(gone(&run(&made, 3, Strategy::Greedy), 8), set(&[2, 4, 5]));
    assert_eq!(gone(&run(&made, 3, Strategy::OneShot), 8), set(&[2, 4, 5]));
    assert_eq!(gone(&run(&made, 2, Strategy::Block), 8), set(&[4, 5]));
    let evolved = run(&made, 3, Strategy::Evolution { population: 12, generations: 6, seed: 1 });
    assert_eq!(evolved.rounds.last().unwrap().removed, set(&[2, 4, 5]));
    assert!(evolved.rounds.is_sorted_by(|a, b| a.score <= b.score), "the best set never gets lost");
    // A round's item scores are those of what it removes.
    for strategy in [
        Strategy::Greedy,
        Strategy::OneShot,
        Strategy::Block,
        Strategy::Racing(Racing::default()),
        Strategy::Evolution { population: 3, generations: 5, seed: 2 },
    ] {
        let state = run(&made, 2, strategy);
        for round in &state.rounds {
            let objective = Objective::new(&[Group::Generative; 2], state.base.as_ref().unwrap());
            assert_eq!(objective.value(&round.scores), round.score, "{strategy:?}");
            let kept = round.kept.without(&round.removed);
            let evaluated = made.evaluate(&[kept], 0..round.scores[0].len(), &NoProgress).unwrap().remove(0);
            assert_eq!(evaluated, round.scores);
        }
    }
}

#[test]
fn racing_finds_what_greedy_finds_for_less() {
    for salt in 0..5 {
        let mut costs = COSTS;
        costs.rotate_left(salt);
        let (greedy, raced) = (Made::new(&costs, 512), Made::new(&costs, 512));
        let expected = run(&greedy, 3, Strategy::Greedy);
        let state = run(&raced, 3, Strategy::Racing(Racing::default()));
        assert_eq!(gone(&state, 8), gone(&expected, 8));
        assert_eq!(state.evaluations, raced.evaluated.get());
        assert!(
            3 * raced.evaluated.get() < 2 * greedy.evaluated.get(),
            "{} of {}",
            raced.evaluated.get(),
            greedy.evaluated.get()
        );
    }
}

#[test]
fn a_race_between_equals_ends_early() {
    let made = Made::new(&[0.9, 0.0, 0.0, 0.0, 0.9, 0.0], 4096);
    let state = run(&made, 1, Strategy::Racing(Racing::default()));
    assert_eq!((&state.rounds[0].removed, state.rounds[0].ties.len()), (&set(&[5]), 3));
    // The uncut model is evaluated on everything, the candidates hardly a tenth of it.
    assert!(made.evaluated.get() < 6144 + 5 * 6144 / 10, "{}", made.evaluated.get());
}

#[test]
fn equal_candidates_are_reported_and_the_later_layer_goes() {
    let made = Made::new(&[0.0, 0.3, 0.1, 0.1, 0.9], 200);
    let state = run(&made, 1, Strategy::Greedy);
    assert_eq!((&state.rounds[0].removed, &state.rounds[0].ties), (&set(&[3]), &vec![set(&[2])]));
}

#[test]
fn a_resumed_search_gives_the_same_answer() {
    let made = Made::new(&COSTS, 128);
    let problem = Problem::new(8, 3).unwrap();
    let strategies = [
        Strategy::Greedy,
        Strategy::Racing(Racing::default()),
        Strategy::Evolution { population: 5, generations: 3, seed: 9 },
    ];
    for strategy in strategies {
        let mut states = Vec::new();
        let whole = search(&problem, strategy, &made, State::default(), &NoProgress, &mut |s| {
            states.push(s.clone());
            Ok(ControlFlow::Continue(()))
        });
        for state in states {
            assert_eq!(
                search(&problem, strategy, &made, state, &NoProgress, &mut |_| Ok(ControlFlow::Continue(()))).unwrap(),
                *whole.as_ref().unwrap()
            );
        }
    }
}

#[test]
fn what_evolution_calls_a_tie_is_decided_by_the_paired_test() {
    let strategy = Strategy::Evolution { population: 10, generations: 4, seed: 3 };
    let objective = |state: &State| Objective::new(&[Group::Generative; 2], state.base.as_ref().unwrap());
    let scores = |made: &Made, removes: &LayerSet<LayerPosition>| {
        made.evaluate(&[removes.complement(8)], 0..made.items, &NoProgress).unwrap().remove(0)
    };
    for (items, close) in [(24, true), (2000, false)] {
        let made = Made::new(&COSTS, items);
        let state = run(&made, 2, strategy);
        for round in &state.rounds {
            let tied = |candidate: &Scored| {
                let own = scores(&made, &candidate.removes);
                let (difference, error) = objective(&state).difference(&round.scores, &own);
                candidate.removes != round.removed && difference <= 1.96 * error
            };
            let expected: Vec<_> =
                round.candidates.iter().filter(|candidate| tied(candidate)).map(|c| c.removes.clone()).collect();
            assert_eq!(round.ties, expected);
        }
        // Few items cannot tell candidates apart whose scores differ; many can.
        let last = state.rounds.last().unwrap();
        let score_of = |removes: &LayerSet<LayerPosition>| {
            last.candidates.iter().find(|candidate| candidate.removes == *removes).unwrap().score
        };
        let differ = last.ties.iter().any(|removes| score_of(removes) < last.score);
        assert_eq!(differ, close, "{items} items: {:?}", last.ties);
    }
    // A record without the population's item scores goes on alike.
    let made = Made::new(&COSTS, 64);
    let problem = Problem::new(8, 2).unwrap();
    let mut halted = State::default();
    let go_on = |_: &State| Ok(ControlFlow::Continue(()));
    search(&problem, strategy, &made, State::default(), &NoProgress, &mut |state| {
        halted = state.clone();
        Ok(if state.rounds.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .unwrap();
    assert_eq!(halted.population.len(), halted.rounds[1].candidates.len());
    let whole = search(&problem, strategy, &made, halted.clone(), &NoProgress, &mut { go_on }).unwrap();
    halted.population.clear();
    let again = search(&problem, strategy, &made, halted, &NoProgress, &mut { go_on }).unwrap();
    assert_eq!((again.rounds, again.population), (whole.rounds, vec![]));
}

#[test]
fn a_race_of_a_weak_model_waits_for_items() {
    // The uncut model has one item in ten right, and the first sample of 16 items shows two of them: one is lost by
    // each removal, or none. The added item is worth as much as those, so nobody is out before there are more.
    let objective = Objective::new(&[Group::Generative], &vec![[vec![1.0; 4], vec![0.0; 36]].concat()]);
    let sample = |right: usize| vec![[vec![1.0; right], vec![0.0; 16 - right]].concat()];
    let scores = [sample(2), sample(1), sample(2)];
    let (left, tied) = Racing::default().survivors(&[0, 1, 2], &scores, &objective);
    assert_eq!((left, tied), (vec![0, 1, 2], false));
    let (_, error) = objective.difference(&scores[0], &scores[2]);
    // As much as one item of 16 in retention: 1 ÷ 0.1 ÷ √(16 · 17).
    assert!((error - 10.0 / f64::sqrt(272.0)).abs() < 1e-12, "{error}");
}

#[test]
fn a_model_that_can_do_nothing_and_impossible_removals_are_faults() {
    let made = Made::new(&[2.0; 4], 10);
    let problem = Problem { layers: 4, remove: 1, protected: set(&[0]) };
    let nothing = Made { cost: vec![], items: 0, ..made };
    let mut record = |_: &State| Ok(ControlFlow::Continue(()));
    assert!(search(&problem, Strategy::Greedy, &nothing, State::default(), &NoProgress, &mut record).is_err());
    assert!(Problem::new(4, 0).is_err() && Problem::new(4, 4).is_err());
}

#[test]
fn a_recorder_can_end_the_search() {
    let made = Made::new(&COSTS, 64);
    let problem = Problem::new(8, 5).unwrap();
    let state = search(&problem, Strategy::Greedy, &made, State::default(), &NoProgress, &mut |state| {
        Ok(if state.rounds.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!(state.unwrap().rounds.len(), 2);
}

proptest! {
    #[test]
    fn greedy_never_removes_a_protected_layer_and_ends(costs in proptest::collection::vec(0.0..0.4f64, 3..7)) {
        let made = Made::new(&costs, 60);
        let state = run(&made, costs.len() - 1, Strategy::Greedy);
        prop_assert_eq!(state.rounds.len(), costs.len() - 1);
        prop_assert_eq!(state.kept(&Problem::new(costs.len(), costs.len() - 1).unwrap()), set(&[0]));
    }
}
