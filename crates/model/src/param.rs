//! Parameters: named, shared arrays of `f32`, or matrices that stay in their file, and the gradients
//! of those that are trained.

use crate::kernels::weight::{Weight, convert};
use crate::mapped::MappedWeight;
use std::borrow::Cow;
use std::sync::Arc;

/// One weight array. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Param {
    /// Row-major values; empty where the matrix stays in its file.
    pub data: Arc<Vec<f32>>,
    /// Where the values are, if they stay in their file.
    pub mapped: Option<MappedWeight>,
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
        Self { data: Arc::new(data), mapped: None, rows, cols, slot: None }
    }

    /// A matrix that stays in its file.
    pub(crate) fn mapped(mapped: MappedWeight, rows: usize, cols: usize) -> Self {
        Self { data: Arc::default(), mapped: Some(mapped), rows, cols, slot: None }
    }

    /// The matrix as it is stored.
    pub(crate) fn weight(&self) -> Weight<'_> {
        match &self.mapped {
            None => Weight::of_f32(&self.data, self.cols),
            Some(mapped) => mapped.weight(),
        }
    }

    /// Whether both are one array: clones of each other, or the same tensor of one checkpoint.
    pub fn shares_values_with(&self, other: &Self) -> bool {
        match (&self.mapped, &other.mapped) {
            (None, None) => Arc::ptr_eq(&self.data, &other.data),
            (Some(own), Some(other)) => own.is_same(other),
            _ => false,
        }
    }

    /// All values as `f32`; a copy only where they stay in their file.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match &self.mapped {
            None => Cow::Borrowed(&self.data),
            Some(mapped) => {
                let mut values = Vec::with_capacity(self.len());
                let weight = mapped.weight();
                convert(weight.format, weight.bytes, &mut values);
                Cow::Owned(values)
            }
        }
    }

    /// Brings a matrix that stays in its file into memory.
    pub fn load(&mut self) {
        if self.mapped.is_some() {
            self.data = Arc::new(self.values().into_owned());
            self.mapped = None;
        }
    }

    /// Gives the pages of a streamed matrix back.
    pub(crate) fn release(&self) {
        if let Some(mapped) = &self.mapped {
            mapped.release();
        }
    }

    /// Appends one row to `out`.
    pub(crate) fn append_row(&self, row: usize, out: &mut Vec<f32>) {
        match &self.mapped {
            None => out.extend_from_slice(&self.data[row * self.cols..][..self.cols]),
            Some(mapped) => {
                let weight = mapped.weight();
                let width = self.cols * weight.format.bytes();
                convert(weight.format, &weight.bytes[row * width..][..width], out);
            }
        }
    }

    /// A vector.
    pub fn vector(data: Vec<f32>) -> Self {
        let cols = data.len();
        Self::matrix(data, 1, cols)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
