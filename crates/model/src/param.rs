//! Parameters: named, shared arrays of `f32`, matrices that stay in their file or are quantised, and the gradients
//! of those that are trained.

use crate::kernels::nf4::{Nf4, Nf4Rows};
use crate::kernels::weight::{Operand, Weight};
use crate::mapped::MappedWeight;
use std::borrow::Cow;
use std::sync::Arc;

/// One weight array. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Param {
    /// Row-major values; empty where the matrix stays in its file or is quantised.
    pub data: Arc<Vec<f32>>,
    /// Where the values are, if they stay in their file.
    pub mapped: Option<MappedWeight>,
    /// The values, if they are quantised; such a matrix is never trained.
    pub nf4: Option<Arc<Nf4>>,
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
        Self { data: Arc::new(data), mapped: None, nf4: None, rows, cols, slot: None }
    }

    /// A matrix that stays in its file.
    pub(crate) fn mapped(mapped: MappedWeight, rows: usize, cols: usize) -> Self {
        Self { data: Arc::default(), mapped: Some(mapped), nf4: None, rows, cols, slot: None }
    }

    /// The matrix as it is stored.
    pub(crate) fn operand(&self) -> Operand<'_> {
        match &self.nf4 {
            None => Operand::Stored(self.weight()),
            Some(nf4) => Operand::Nf4(Nf4Rows::new(nf4, self.cols)),
        }
    }

    /// The matrix as it is stored, of parameters that are never quantised: embedding, head and adapters.
    pub(crate) fn weight(&self) -> Weight<'_> {
        assert!(self.nf4.is_none(), "a quantised matrix has no numbers of 16 or 32 bits");
        match &self.mapped {
            None => Weight::of_f32(&self.data, self.cols),
            Some(mapped) => mapped.weight(),
        }
    }

    /// Quantises the matrix to NF4, in memory. Nothing of it stays in `f32`, and pages of its file are given back.
    pub fn quantize_nf4(&mut self) {
        if self.nf4.is_none() {
            self.nf4 = Some(Arc::new(Nf4::quantize(self.weight())));
            self.data = Arc::default();
            if let Some(mapped) = self.mapped.take() {
                mapped.release_all();
            }
        }
    }

    /// Whether both are one array: clones of each other, or the same tensor of one checkpoint.
    pub fn shares_values_with(&self, other: &Self) -> bool {
        match (&self.mapped, &other.mapped, &self.nf4, &other.nf4) {
            (None, None, None, None) => Arc::ptr_eq(&self.data, &other.data),
            (Some(own), Some(other), None, None) => own.is_same(other),
            (None, None, Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// All values as `f32`; a copy only where they stay in their file or are quantised.
    pub fn values(&self) -> Cow<'_, [f32]> {
        if self.mapped.is_none() && self.nf4.is_none() {
            return Cow::Borrowed(&self.data);
        }
        let mut values = vec![0f32; self.len()];
        self.operand().read(0, &mut values);
        Cow::Owned(values)
    }

    /// Brings a matrix that stays in its file, or is quantised, into memory as `f32`.
    pub fn load(&mut self) {
        if self.mapped.is_some() || self.nf4.is_some() {
            self.data = Arc::new(self.values().into_owned());
            (self.mapped, self.nf4) = (None, None);
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
        let before = out.len();
        out.resize(before + self.cols, 0.0);
        self.operand().read(row * self.cols, &mut out[before..]);
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
