//! Parameters: named, shared arrays of `f32`, and the gradients of those that are trained.

use std::sync::Arc;

/// One weight array. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Param {
    /// Row-major values.
    pub data: Arc<Vec<f32>>,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Columns: the inner dimension.
    pub cols: usize,
    /// Which gradient buffer belongs to it, when it is trained.
    pub slot: Option<usize>,
}

impl Param {
    /// A matrix `[rows, cols]`.
    pub fn matrix(data: Vec<f32>, rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "parameter: shape and values disagree");
        Self { data: Arc::new(data), rows, cols, slot: None }
    }

    /// A vector.
    pub fn vector(data: Vec<f32>) -> Self {
        let cols = data.len();
        Self::matrix(data, 1, cols)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// Gradient buffers, one per trained parameter, indexed by [`Param::slot`].
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    /// `slots[i]` has as many values as the parameter whose slot is `i`.
    pub slots: Vec<Vec<f32>>,
}

impl Gradients {
    /// The buffer of `param`, unless it is frozen.
    pub fn of(&mut self, param: &Param) -> Option<&mut [f32]> {
        param.slot.map(|slot| self.slots[slot].as_mut_slice())
    }

    /// Sets every value to zero.
    pub fn zero(&mut self) {
        for slot in &mut self.slots {
            slot.fill(0.0);
        }
    }

    /// Adds another set of gradients of the same model.
    pub fn add(&mut self, other: &Gradients) {
        for (a, b) in self.slots.iter_mut().zip(&other.slots) {
            crate::kernels::add_assign(a, b);
        }
    }

    /// Euclidean norm over all values.
    pub fn norm(&self) -> f64 {
        let sum: f64 =
            self.slots.iter().map(|s| f64::from(crate::kernels::vectorised(|| crate::kernels::dot(s, s)))).sum();
        sum.sqrt()
    }
}
