//! Prints a few items of every task, and what the training stream consists of.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::collections::BTreeMap;

use lopper_pocket::{Mixture, Split, Stream, examples, tasks, tokenizer};

fn main() {
    for task in tasks() {
        println!("== {} ({})", task.name, task.description);
        let mut longest = (0, 0);
        for (i, example) in examples(task.name, Split::Report, 0).take(2000).enumerate() {
            if i < 4 {
                println!("{}\n  ->{}\n  {:?}", example.prompt.text(), example.answer, example.check);
            }
            longest.0 = longest.0.max(tokenizer::encode(example.prompt.text()).len());
            longest.1 = longest.1.max(tokenizer::encode(&example.answer).len());
        }
        println!("longest of 2000: prompt {} tokens, answer {} tokens\n", longest.0, longest.1);
    }
    println!("vocabulary: {} tokens", tokenizer::vocabulary_size());
    let mut counts: BTreeMap<&str, (usize, usize, usize, f64)> = BTreeMap::new();
    for document in Stream::at(0, 0, &Mixture::default()).take(20_000) {
        let count = counts.entry(document.task).or_default();
        count.0 += 1;
        count.1 += document.tokens.len();
        count.2 = count.2.max(document.tokens.len());
        count.3 += document.weights.iter().map(|w| f64::from(*w)).sum::<f64>();
    }
    let tokens: usize = counts.values().map(|c| c.1).sum();
    let weight: f64 = counts.values().map(|c| c.3).sum();
    println!("task: documents, mean tokens, longest, fraction of tokens, fraction of loss weight");
    for (task, (documents, n, longest, w)) in counts {
        println!(
            "{task}: {documents}, {:.1}, {longest}, {:.3}, {:.3}",
            n as f64 / documents as f64,
            n as f64 / tokens as f64,
            w / weight
        );
    }
}
