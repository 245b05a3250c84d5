//! Perplexities of texts with intervals. The texts are what was drawn, not their tokens, which depend on each other.

use lopper_record::study::Mean;
use lopper_stats::TokenMean;

/// Of each sequence the sum of −log p over the tokens that have a log-probability, and their number.
fn nll(logprobs: &[Vec<Option<f32>>]) -> impl Iterator<Item = (f64, usize)> {
    logprobs.iter().map(|sequence| {
        let predicted = sequence.iter().flatten();
        predicted.fold((0.0, 0), |(sum, n), logprob| (sum - f64::from(*logprob), n + 1))
    })
}

/// exp(mean of −log p over all predicted tokens) with its 95 % interval, which needs two sequences; `n` is how many
/// there are. None where nothing was predicted or the perplexity is too large for a number.
pub fn perplexity(logprobs: &[Vec<Option<f32>>]) -> Option<Mean> {
    nll(logprobs).collect::<TokenMean>().exp()
}

/// By how much the mean of −log p over all predicted tokens rises from one model to another on the same sequences, in
/// pairs.
pub fn nll_rise(before: &[Vec<Option<f32>>], after: &[Vec<Option<f32>>]) -> Option<Mean> {
    let pairs = nll(before).zip(nll(after));
    pairs.map(|((before, tokens), (after, _))| (after - before, tokens)).collect::<TokenMean>().mean()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_what_was_drawn() {
        let sequences = vec![vec![None, Some(-1.0), Some(-3.0)], vec![None], vec![None, Some(-2.0), Some(-4.0)]];
        let found = perplexity(&sequences).unwrap();
        assert!((found.value - 2.5f64.exp()).abs() < 1e-12 && found.n == 2);
        // Means of 2 and 3 over two tokens each: a standard error of ½, and Student's quantile of one degree.
        let [low, high] = found.ci95.unwrap();
        let half = 0.5 * 12.706_204_736_174_694;
        assert!((low.ln() - (2.5 - half)).abs() < 1e-6 && (high.ln() - (2.5 + half)).abs() < 1e-6);
        // The same tokens in one sequence say nothing of other texts.
        let one: Vec<Option<f32>> = sequences.concat();
        assert_eq!(perplexity(&[one]).unwrap(), Mean { value: found.value, ci95: None, n: 1 });
        assert_eq!((perplexity(&[]), perplexity(&[vec![None]])), (None, None));
        assert_eq!(perplexity(&[vec![Some(-1000.0)]]), None);

        // Each token of both texts loses ½: that is certain, whatever the texts.
        let after: Vec<Vec<Option<f32>>> =
            sequences.iter().map(|sequence| sequence.iter().map(|p| p.map(|p| p - 0.5)).collect()).collect();
        let rise = nll_rise(&sequences, &after).unwrap();
        let [low, high] = rise.ci95.unwrap();
        assert!((rise.value - 0.5).abs() < 1e-12 && high - low < 1e-6);
    }
}
