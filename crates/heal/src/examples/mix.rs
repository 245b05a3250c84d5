//! Examples of several files together: all of them, or drawn in given proportions.

use super::{ExampleReport, Examples};
use crate::self_generated::response_seed;
use lopper_record::{Fault, Result};
use std::collections::BTreeSet;

impl Examples {
    /// The examples of all `parts`, one after the other; rows are numbered on from part to part. With `weights` as many
    /// of each, drawn by `seed`, as make these proportions, and as many in all as there are without repeating any.
    ///
    /// # Errors
    /// A [`Fault`] for weights that are no proportions of these parts.
    pub fn joined(parts: Vec<Examples>, weights: Option<&[f64]>, seed: u64) -> Result<Examples> {
        let counts: Vec<usize> = parts.iter().map(|part| part.report.used).collect();
        let wanted = match weights {
            None => counts,
            Some(weights) => in_proportion(weights, &counts)?,
        };
        let mut all = Examples::default();
        for (number, (part, wanted)) in parts.into_iter().zip(wanted).enumerate() {
            let drawn = part.draw(wanted, seed ^ ((number as u64) << 32))?;
            let before = all.report.rows;
            for (document, text) in part.documents.into_iter().zip(part.texts) {
                if drawn.contains(&text) {
                    all.documents.push(document);
                    all.texts.push(before + text);
                }
            }
            let not_drawn = part.report.used - drawn.len();
            all.report.add(part.report, not_drawn);
            all.left_out.add(part.left_out);
        }
        Ok(all)
    }

    /// The numbers of `wanted` texts.
    fn draw(&self, wanted: usize, seed: u64) -> Result<BTreeSet<usize>> {
        let texts: BTreeSet<usize> = self.texts.iter().copied().collect();
        let mut keyed =
            texts.into_iter().map(|text| Ok((response_seed(seed, text)?, text))).collect::<Result<Vec<_>>>()?;
        keyed.sort_unstable();
        Ok(keyed.into_iter().take(wanted).map(|(_, text)| text).collect())
    }
}

/// How many of each `counts` there are in the largest set with these proportions.
fn in_proportion(weights: &[f64], counts: &[usize]) -> Result<Vec<usize>> {
    let sum: f64 = weights.iter().sum();
    let usable = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && sum > 0.0;
    if weights.len() != counts.len() || !usable {
        let got: Vec<String> = weights.iter().map(f64::to_string).collect();
        return Err(Fault::new("--mix does not fit the files of examples")
            .expected(format!("{} numbers, one for each --data, none below 0 and not all of them 0", counts.len()))
            .got(got.join(","))
            .hint("`--data a.jsonl --data b.jsonl --mix 0.7,0.3` takes seven examples of the first for three of the second")
            .into());
    }
    let most = weights.iter().zip(counts).filter(|(weight, _)| **weight > 0.0);
    let total = most.map(|(weight, count)| *count as f64 * sum / weight).fold(f64::INFINITY, f64::min);
    let share = |(weight, count): (&f64, &usize)| ((total * weight / sum + 1e-9) as usize).min(*count);
    Ok(weights.iter().zip(counts).map(share).collect())
}

impl ExampleReport {
    /// Takes in the report of further rows, of which `not_drawn` usable ones were left out.
    fn add(&mut self, other: Self, not_drawn: usize) {
        let Self {
            rows,
            used,
            too_long,
            cut_off,
            used_cut_off,
            context_full,
            repetitive,
            short_answer,
            long_answer,
            overlap,
            overlap_with,
            duplicate,
            near_duplicate,
            same_answer,
            commonest_answer,
            unusable,
            as_generated,
            tokens_differ,
            without_end,
            not_drawn: before,
            complaints,
        } = other;
        let offset = self.rows;
        self.rows += rows;
        self.used += used - not_drawn;
        self.too_long += too_long;
        self.cut_off += cut_off;
        self.used_cut_off += used_cut_off;
        self.context_full += context_full;
        self.repetitive += repetitive;
        self.short_answer += short_answer;
        self.long_answer += long_answer;
        self.overlap += overlap;
        for (name, count) in overlap_with {
            *self.overlap_with.entry(name).or_default() += count;
        }
        self.duplicate += duplicate;
        self.near_duplicate += near_duplicate;
        self.same_answer += same_answer;
        self.commonest_answer = self.commonest_answer.max(commonest_answer);
        self.unusable += unusable;
        self.as_generated += as_generated;
        self.tokens_differ += tokens_differ;
        self.without_end += without_end;
        self.not_drawn += before + not_drawn;
        self.complaints.extend(complaints.into_iter().map(|(row, what)| (offset + row, what)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::Document;

    fn part(count: usize, token: u32) -> Examples {
        let document = |i: usize| Document { tokens: vec![token, i as u32], weights: vec![1.0; 2] };
        Examples {
            documents: (0..count).map(document).collect(),
            texts: (1..=count).collect(),
            report: ExampleReport { rows: count + 1, used: count, unusable: 1, ..ExampleReport::default() },
            ..Examples::default()
        }
    }

    #[test]
    fn parts_follow_one_another_or_are_drawn_in_proportion() {
        let parts = || vec![part(10, 7), part(40, 8)];
        let all = Examples::joined(parts(), None, 0).unwrap();
        assert_eq!((all.documents.len(), all.report.used, all.report.rows), (50, 50, 52));
        assert_eq!((all.texts[9], all.texts[10]), (10, 12), "rows are counted on");

        let of = |weights: &[f64], seed| {
            let mixed = Examples::joined(parts(), Some(weights), seed).unwrap();
            let count = |token| mixed.documents.iter().filter(|d| d.tokens[0] == token).count();
            ((count(7), count(8)), mixed)
        };
        let (counts, mixed) = of(&[0.25, 0.75], 1);
        assert_eq!(counts, (10, 30));
        assert_eq!((mixed.report.used, mixed.report.not_drawn, mixed.report.unusable), (40, 10, 2));
        assert_eq!(of(&[3.0, 1.0], 1).0, (10, 3));
        assert_eq!(of(&[0.0, 2.0], 1).0, (0, 40));
        assert_eq!(of(&[0.25, 0.75], 1).1, mixed);
        assert_ne!(of(&[0.25, 0.75], 2).1, mixed);
        for wrong in [&[1.0][..], &[1.0, -1.0], &[0.0, 0.0], &[f64::NAN, 1.0]] {
            assert!(
                Examples::joined(parts(), Some(wrong), 0).unwrap_err().fault().unwrap().hint.is_some(),
                "{wrong:?}"
            );
        }
    }
}
