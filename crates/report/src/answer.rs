//! The one answer of a study: which cut to make, found among its budgets. Nothing is decided here that the budgets do
//! not say; a cut is recommended where it holds for every group of tasks.

use lopper_record::StudyRecord;
use lopper_record::study::{BudgetDepth, BudgetLine, Point, Verdict};

/// What a study recommends.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The budget that limits the cut: that of the group that can spare least.
    pub line: &'a BudgetLine,
    /// The cut; none where nothing may go, or nothing is decided.
    pub cut: Option<&'a Point>,
}

/// The answer, or nothing before a budget was decided: the deepest cut that holds for every group, as cut or healed;
/// as cut where healing allows no more.
pub fn answer(record: &StudyRecord) -> Option<Answer<'_>> {
    let as_cut = limit(record, false);
    let healed = limit(record, true);
    let line = match (as_cut, healed) {
        (Some(cut), Some(healed)) if rank(healed) > rank(cut) => healed,
        (Some(line), _) | (None, Some(line)) => line,
        (None, None) => return None,
    };
    Some(Answer { line, cut: cut_of(record, line) })
}

/// The floor that answers are about: the first of several.
pub fn floor(record: &StudyRecord) -> Option<f64> {
    record.headlines().first().map(|line| line.threshold)
}

/// The first answer of each group at the first floor, as cut or healed.
pub fn headlines(record: &StudyRecord, healed: bool) -> Vec<&BudgetLine> {
    let mut found: Vec<&BudgetLine> = Vec::new();
    for line in record.headlines() {
        let same_floor = Some(line.threshold.to_bits()) == floor(record).map(f64::to_bits);
        if line.healed == healed && same_floor && !found.iter().any(|other| other.group == line.group) {
            found.push(line);
        }
    }
    found
}

/// The group that can spare least. Groups that cannot be judged limit nothing, unless all are such.
pub fn limit(record: &StudyRecord, healed: bool) -> Option<&BudgetLine> {
    let lines = headlines(record, healed);
    // Groups that were not healed are not known to hold.
    if healed && lines.len() < headlines(record, false).len() {
        return None;
    }
    let judged = lines.iter().copied().filter(|line| is_judged(line)).min_by_key(|line| rank(line));
    judged.or(lines.first().copied())
}

/// Whether any of its tasks is good enough to be judged. Records of before do not name the tasks.
fn is_judged(line: &BudgetLine) -> bool {
    !line.tasks.is_empty() || line.left_out.is_empty()
}

/// Nothing may go, then not decided, then the number of layers.
fn rank(line: &BudgetLine) -> usize {
    match line.max_layers {
        Some(0) => 0,
        None => 1,
        Some(most) => most.saturating_add(1),
    }
}

/// What the other groups would let go, each by itself, where that is more than the answer: the deepest cut of each, as
/// cut or healed.
pub fn others<'a>(record: &'a StudyRecord, answer: &Answer<'a>) -> Vec<Answer<'a>> {
    let mut found: Vec<Answer<'a>> = Vec::new();
    let lines = headlines(record, false).into_iter().chain(headlines(record, true));
    for line in lines.filter(|line| line.group != answer.line.group && rank(line) > rank(answer.line).max(1)) {
        let Some(cut) = cut_of(record, line) else { continue };
        let own = Answer { line, cut: Some(cut) };
        match found.iter_mut().find(|other| other.line.group == line.group) {
            Some(other) if rank(line) > rank(other.line) => *other = own,
            Some(_) => {}
            None => found.push(own),
        }
    }
    found
}

/// The measured cut of a budget.
fn cut_of<'a>(record: &'a StudyRecord, line: &BudgetLine) -> Option<&'a Point> {
    let most = line.max_layers.filter(|most| *most > 0)?;
    record.points.iter().find(|point| {
        (point.strategy.as_str(), point.removed) == (line.strategy.as_str(), most)
            && point.healed.is_some() == line.healed
            && point.is_main_healing()
    })
}

/// The first depth beyond the budget, if it is the items that do not decide it.
pub fn undecided(line: &BudgetLine) -> Option<&BudgetDepth> {
    let next = line.depths.iter().find(|depth| depth.removed > line.max_layers.unwrap_or(0))?;
    (next.verdict == Verdict::Undecided && !next.holds).then_some(next)
}

/// Depths without a measurement between the deepest that holds and the next that was measured.
pub fn skipped(line: &BudgetLine) -> Vec<usize> {
    let most = line.max_layers.unwrap_or(0);
    let next = line.depths.iter().map(|depth| depth.removed).find(|removed| *removed > most);
    next.map_or_else(Vec::new, |next| (most.saturating_add(1)..next).take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(group: &str, healed: bool, max_layers: Option<usize>) -> BudgetLine {
        BudgetLine {
            group: group.into(),
            tasks: vec!["task".into()],
            threshold: 0.9,
            strategy: "bi".into(),
            healed,
            headline: true,
            max_layers,
            ..BudgetLine::default()
        }
    }

    fn record(budget: Vec<BudgetLine>) -> StudyRecord {
        let point = |removed| Point { strategy: "bi".into(), removed, ..Point::default() };
        StudyRecord { main_strategy: "bi".into(), budget, points: vec![point(3), point(7)], ..StudyRecord::default() }
    }

    #[test]
    fn the_group_that_can_spare_least_decides() {
        let record = record(vec![line("a", false, Some(7)), line("b", false, Some(3)), line("a", true, Some(9))]);
        let answer = answer(&record).unwrap();
        assert_eq!((answer.line.group.as_str(), answer.cut.unwrap().removed), ("b", 3));
        // No healed cut was measured, so the other group's answer is that of its cut without healing.
        let others = others(&record, &answer);
        assert_eq!(others.len(), 1);
        assert_eq!((others[0].line.group.as_str(), others[0].cut.unwrap().removed), ("a", 7));
    }

    #[test]
    fn a_failure_goes_before_an_undecided_group_and_healing_counts_where_it_allows_more() {
        let lines = |healed: Option<usize>| {
            record(vec![
                line("a", false, None),
                line("b", false, Some(0)),
                line("a", true, healed),
                line("b", true, healed),
            ])
        };
        let chosen = |record: &StudyRecord| answer(record).map(|answer| (answer.line.healed, answer.line.max_layers));
        assert_eq!(chosen(&lines(Some(0))), Some((false, Some(0))));
        assert_eq!(chosen(&lines(None)), Some((true, None)));
        assert_eq!(chosen(&lines(Some(5))), Some((true, Some(5))));
        assert!(answer(&lines(Some(5))).unwrap().cut.is_none(), "no healed point was measured");
    }

    #[test]
    fn a_group_that_cannot_be_judged_limits_nothing() {
        let mut weak = line("weak", false, None);
        (weak.tasks, weak.left_out) = (vec![], vec!["task".into()]);
        assert_eq!(answer(&record(vec![weak.clone(), line("a", false, Some(3))])).unwrap().line.group, "a");
        assert_eq!(answer(&record(vec![weak])).unwrap().line.group, "weak");
        assert!(answer(&StudyRecord::default()).is_none());
    }
}
