//! A thinking budget at work in one sequence.

use crate::generate::Request;
use crate::reasoning::ThinkingBudget;

/// How far a sequence has used its budget.
pub(crate) struct Thinking<'a> {
    budget: Option<&'a ThinkingBudget>,
    /// Tokens of the end marker that are still to be put, once the thought is to end.
    left: &'a [u32],
    ended: bool,
}

impl<'a> Thinking<'a> {
    /// At the beginning of a response, which a budget of nothing ends at once.
    pub fn new(request: &'a Request) -> Self {
        let mut thinking = Self { budget: request.thinking.as_ref(), left: &[], ended: false };
        thinking.ends(&[], false);
        thinking
    }

    /// Ends the thought if its budget is used up by `generated`, or if it `loops`. Whether it does.
    pub fn ends(&mut self, generated: &[u32], loops: bool) -> bool {
        let Some(budget) = self.budget else { return false };
        let due = !self.ended && (loops || generated.len() == budget.after);
        if due && budget.thought.is_thinking(generated) {
            (self.ended, self.left) = (true, &budget.end);
            return true;
        }
        false
    }

    /// The next token of the end marker.
    pub fn take_next(&mut self) -> Option<u32> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(*first)
    }

    /// Whether the next token is one of the end marker.
    pub fn is_ending(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether the budget ended the thought.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// How many tokens may follow the `generated` ones before the next of them might not be the model's choice.
    pub fn room(&self, generated: usize) -> usize {
        match self.budget {
            _ if self.is_ending() => 1,
            Some(budget) if generated < budget.after => budget.after - generated,
            _ => usize::MAX,
        }
    }
}
