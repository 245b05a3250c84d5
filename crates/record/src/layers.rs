//! Decoder layers as types: three ways of counting them, and sets of each.
//!
//! - [`OriginalLayer`]: the number in the uncut source model, from 0. What users write (`21-28`) and what every record
//!   holds; a layer keeps it whatever else has been removed.
//! - [`LayerPosition`]: the place in a loaded checkpoint, from 0. The same number in an uncut model; in a cut one,
//!   `model.layers.5` of the checkpoint may be layer 9 of the original. [`LayerNumbering`] converts between the two.
//! - [`LayerSlot`]: the place in an engine's list of layers. A model's own layers come first, at the slot of their
//!   position; behind them stand copies that carry an adapter, if there are any. [`LayerSet::slots`] converts.
//!
//! This module is the only place that converts. A list from a user is checked against the number of layers before any
//! range is expanded, so that a slip such as `1-99999999999` is a message and not an allocation.

use std::fmt;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::{Fault, Result};

/// One of the three ways of counting layers.
pub trait LayerIndex: Copy + Ord + Hash + fmt::Debug + fmt::Display + From<usize> + Into<usize> {
    /// The plain number.
    fn index(self) -> usize {
        self.into()
    }
}

macro_rules! layer_index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub usize);

        impl LayerIndex for $name {}

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                Self(index)
            }
        }

        impl From<$name> for usize {
            fn from(layer: $name) -> Self {
                layer.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

layer_index! {
    /// A layer's number in the uncut source model, from 0.
    OriginalLayer
}
layer_index! {
    /// A layer's place in a loaded checkpoint, from 0.
    LayerPosition
}
layer_index! {
    /// A layer's place in an engine's list of layers: a model's own layers, then copies with an adapter.
    LayerSlot
}

/// A set of layers, in ascending order; all counted in one way. In JSON a list of numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<usize>", into = "Vec<usize>")]
pub struct LayerSet<L: LayerIndex = OriginalLayer>(Vec<L>);

impl LayerSet<OriginalLayer> {
    /// Parses a list of layers to drop, such as `21-28` or `3, 8, 19-21`, for a model of `num_layers`.
    ///
    /// # Errors
    /// A [`Fault`] when the list is empty or malformed, names a layer twice or one that the model does not have, holds
    /// a range written backwards, or would drop every layer.
    pub fn parse(spec: &str, num_layers: usize) -> Result<Self> {
        let fault = |message: String| {
            Fault::new(message)
                .expected("layers such as `3,8,19` or `5-7`")
                .got(format!("`{}`", shorten(spec)))
                .hint(range_hint(num_layers))
        };
        if spec.trim().is_empty() {
            return Err(fault("the list of layers is empty".into()).into());
        }
        let mut layers: Vec<usize> = Vec::new();
        for part in spec.split(',') {
            let part = part.trim();
            if part.is_empty() {
                return Err(fault("the list of layers has an empty entry".into()).into());
            }
            let number = |text: &str| -> std::result::Result<usize, Fault> {
                let text = text.trim();
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(fault(format!("`{}` is not a layer or a range of layers", shorten(part))));
                }
                match text.parse::<usize>() {
                    Ok(layer) if layer < num_layers => Ok(layer),
                    _ => Err(fault(format!("the model has no layer {}", shorten(text)))),
                }
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => {
                    let layer = number(part)?;
                    (layer, layer)
                }
            };
            if first > last {
                return Err(fault(format!("the range `{part}` runs backwards"))
                    .hint(format!("write `{last}-{first}`; {}", range_hint(num_layers)))
                    .into());
            }
            layers.extend(first..=last);
            // A model has at most `num_layers` distinct layers, so a longer list repeats one.
            if layers.len() > num_layers {
                break;
            }
        }
        layers.sort_unstable();
        check_dropped(&layers, num_layers)?;
        Ok(layers.into())
    }
}

impl LayerSet<LayerPosition> {
    /// The same layers as an engine over their model counts them: a model's own layers come first.
    pub fn slots(&self) -> LayerSet<LayerSlot> {
        self.indices().collect()
    }
}

impl<L: LayerIndex> LayerSet<L> {
    /// All layers below `num_layers`: the uncut model.
    pub fn all(num_layers: usize) -> Self {
        (0..num_layers).collect()
    }

    /// The layers in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = L> + ExactSizeIterator + '_ {
        self.0.iter().copied()
    }

    /// The layers in ascending order, as a slice: prefixes of it tell which sets begin alike.
    pub fn as_slice(&self) -> &[L] {
        &self.0
    }

    /// The plain numbers in ascending order.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + '_ {
        self.0.iter().map(|layer| layer.index())
    }

    /// How many layers the set holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set holds no layer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The layer at `place` of the set, from 0.
    pub fn get(&self, place: usize) -> Option<L> {
        self.0.get(place).copied()
    }

    /// Whether `layer` is in the set.
    pub fn contains(&self, layer: L) -> bool {
        self.place(layer).is_some()
    }

    /// Where `layer` stands in the set, from 0.
    pub fn place(&self, layer: L) -> Option<usize> {
        self.0.binary_search(&layer).ok()
    }

    /// The layers that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.iter().filter(|layer| !other.contains(*layer)).collect())
    }

    /// The layers of a model with `num_layers` that are not in the set: what is kept when these are dropped, and the
    /// other way round.
    pub fn complement(&self, num_layers: usize) -> Self {
        Self::all(num_layers).without(self)
    }
}

impl<L: LayerIndex> Default for LayerSet<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: LayerIndex> From<Vec<usize>> for LayerSet<L> {
    fn from(layers: Vec<usize>) -> Self {
        layers.into_iter().collect()
    }
}

impl<L: LayerIndex, const N: usize> From<[usize; N]> for LayerSet<L> {
    fn from(layers: [usize; N]) -> Self {
        layers.into_iter().collect()
    }
}

impl<L: LayerIndex> From<LayerSet<L>> for Vec<usize> {
    fn from(set: LayerSet<L>) -> Self {
        set.indices().collect()
    }
}

impl<L: LayerIndex> FromIterator<usize> for LayerSet<L> {
    fn from_iter<I: IntoIterator<Item = usize>>(layers: I) -> Self {
        layers.into_iter().map(L::from).collect()
    }
}

impl<L: LayerIndex> FromIterator<L> for LayerSet<L> {
    fn from_iter<I: IntoIterator<Item = L>>(layers: I) -> Self {
        let mut layers: Vec<L> = layers.into_iter().collect();
        layers.sort_unstable();
        layers.dedup();
        Self(layers)
    }
}

impl<L: LayerIndex> fmt::Debug for LayerSet<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// Writes layers the way users write them: runs of three and more as ranges, `3,8,19-21`.
impl<L: LayerIndex> fmt::Display for LayerSet<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_ranges(&self.indices().collect::<Vec<_>>()))
    }
}

/// Which layer of the uncut model stands at each position of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerNumbering {
    present: LayerSet<OriginalLayer>,
    original_layers: usize,
}

impl LayerNumbering {
    /// A model that keeps the layers `present` of an original with `original_layers` layers.
    pub fn new(present: LayerSet<OriginalLayer>, original_layers: usize) -> Self {
        Self { present, original_layers }
    }

    /// An uncut model: every layer is its own original.
    pub fn uncut(num_layers: usize) -> Self {
        Self::new(LayerSet::all(num_layers), num_layers)
    }

    /// Layers of the original, uncut model: layer numbers are below it.
    pub fn original_layers(&self) -> usize {
        self.original_layers
    }

    /// The original number of each layer of the checkpoint, in order.
    pub fn present(&self) -> &LayerSet<OriginalLayer> {
        &self.present
    }

    /// Where these layers stand in the checkpoint.
    ///
    /// # Errors
    /// A [`Fault`] for a layer that was removed before, and for one that never existed.
    pub fn positions(&self, originals: &LayerSet<OriginalLayer>) -> Result<LayerSet<LayerPosition>> {
        let position = |layer: OriginalLayer| match self.present.place(layer) {
            Some(position) => Ok(LayerPosition(position)),
            None if layer.index() < self.original_layers => {
                Err(Fault::new(format!("layer {layer} has been removed from this model already"))
                    .expected(format!("layers among {}", self.present))
                    .got(layer.to_string())
                    .hint("layers are counted in the original model's numbering; cut.json lists those left")
                    .into())
            }
            None => Err(Fault::new(format!("there is no layer {layer}"))
                .expected(format!("layers 0 to {}", self.original_layers - 1))
                .got(layer.to_string())
                .into()),
        };
        originals.iter().map(position).collect()
    }

    /// The positions of the layers that are left when `dropped` are removed.
    ///
    /// # Errors
    /// A [`Fault`] for a layer that was removed before or never existed, and when no layer would be left.
    pub fn kept(&self, dropped: &LayerSet<OriginalLayer>) -> Result<LayerSet<LayerPosition>> {
        let positions = self.positions(dropped)?;
        check_dropped(&Vec::from(positions.clone()), self.present.len())?;
        Ok(positions.complement(self.present.len()))
    }

    /// The original numbers of the layers at these positions of the checkpoint.
    ///
    /// # Errors
    /// A [`Fault`] for a position that the checkpoint does not have.
    pub fn originals(&self, positions: &LayerSet<LayerPosition>) -> Result<LayerSet<OriginalLayer>> {
        let original = |position: LayerPosition| {
            self.present.get(position.index()).ok_or_else(|| {
                Fault::new(format!("there is no layer at position {position}"))
                    .expected(format!("positions below {}", self.present.len()))
                    .into()
            })
        };
        positions.iter().map(original).collect()
    }
}

/// Checks layers to drop, in ascending order: none is named twice, at least one is left.
fn check_dropped(dropped: &[usize], num_layers: usize) -> Result<()> {
    if let Some(pair) = dropped.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::new(format!("layer {} is named twice", pair[0]))
            .expected("each layer at most once")
            .got(format!("`{}`", shorten(&dropped.iter().map(usize::to_string).collect::<Vec<_>>().join(","))))
            .hint(range_hint(num_layers))
            .into());
    }
    if !dropped.is_empty() && dropped.len() == num_layers {
        return Err(Fault::new("every layer would be dropped")
            .expected(format!("at most {} of the {num_layers} layers", num_layers - 1))
            .got(format!("`{}`", format_ranges(dropped)))
            .hint("leave at least one layer")
            .into());
    }
    Ok(())
}

/// Numbers of layers, in ascending order and with runs of three and more as ranges: `3,8,19-21`.
pub fn format_ranges(layers: &[usize]) -> String {
    let mut sorted = layers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, _, .., last] => format!("{first}-{last}"),
            _ => run.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn range_hint(num_layers: usize) -> String {
    match num_layers {
        0 => "the model has no layers".into(),
        1 => "the model has one layer, 0, which has to stay".into(),
        n => format!("the model has {n} layers, numbered 0-{}", n - 1),
    }
}

/// Keeps a message short when the text it quotes is not.
fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault_of(spec: &str, num_layers: usize) -> Fault {
        match LayerSet::parse(spec, num_layers) {
            Err(crate::Error::Input(fault)) => fault,
            other => panic!("not the user's fault: {other:?}"),
        }
    }

    #[test]
    fn reads_the_documented_spellings() {
        assert_eq!(LayerSet::parse("21-28", 32).unwrap(), (21..=28).collect());
        assert_eq!(LayerSet::parse("3,8,19", 32).unwrap(), LayerSet::from([3, 8, 19]));
        assert_eq!(LayerSet::parse(" 19 , 3, 5 - 6 ", 32).unwrap(), LayerSet::from([3, 5, 6, 19]));
        assert_eq!(LayerSet::parse("0", 2).unwrap(), LayerSet::from([0]));
        assert_eq!(LayerSet::parse("4-4", 5).unwrap(), LayerSet::from([4]));
    }

    #[test]
    fn refuses_bad_lists_and_names_the_valid_range() {
        for (spec, message) in [
            ("", "empty"),
            ("3,,4", "empty entry"),
            ("3,", "empty entry"),
            ("x", "not a layer"),
            ("-3", "not a layer"),
            ("3-", "not a layer"),
            ("+3", "not a layer"),
            ("1-2-3", "not a layer"),
            ("12", "no layer 12"),
            ("5-12", "no layer 12"),
            ("1-99999999999999999999999", "no layer 9999"),
            ("8-5", "backwards"),
            ("3,3", "layer 3 is named twice"),
            ("2-5,4", "layer 4 is named twice"),
            ("0-11,0-11,0-11", "named twice"),
        ] {
            let fault = fault_of(spec, 12);
            assert!(fault.message.contains(message), "{spec}: {fault}");
            assert!(fault.hint.as_deref().unwrap().contains("0-11"), "{spec}: {fault}");
        }
        assert!(fault_of("0-11", 12).message.contains("every layer"));
        assert!(fault_of("0", 1).message.contains("every layer"));
        assert!(fault_of("0", 0).message.contains("no layer"));
        assert!(fault_of("8-5", 12).hint.unwrap().contains("`5-8`"));
    }

    #[test]
    fn writes_runs_as_ranges() {
        assert_eq!(format_ranges(&[3, 8, 19, 20, 21]), "3,8,19-21");
        assert_eq!(format_ranges(&[6, 5]), "5,6");
        assert_eq!(format_ranges(&[]), "");
    }

    #[test]
    fn kept_is_the_complement() {
        let set = LayerSet::parse("1,3", 5).unwrap();
        assert_eq!(set.complement(5), LayerSet::from([0, 2, 4]));
        assert_eq!(set.complement(5).to_string(), "0,2,4");
        assert!(set.contains(OriginalLayer(3)) && !set.contains(OriginalLayer(2)));
    }

    #[test]
    fn positions_and_originals_convert_both_ways() {
        let numbering = LayerNumbering::new(LayerSet::from([0, 2, 5]), 6);
        let originals = LayerSet::from([2, 5]);
        let positions = numbering.positions(&originals).unwrap();
        assert_eq!(positions, LayerSet::from([1, 2]));
        assert_eq!(numbering.originals(&positions).unwrap(), originals);
        assert_eq!(positions.slots(), LayerSet::from([1, 2]));
        assert_eq!(numbering.kept(&originals).unwrap(), LayerSet::from([0]));
        assert_eq!(numbering.kept(&LayerSet::default()).unwrap(), LayerSet::all(3));
        assert!(numbering.kept(&LayerSet::from([0, 2, 5])).unwrap_err().to_string().contains("every layer"));
        assert!(numbering.positions(&LayerSet::from([1])).unwrap_err().to_string().contains("removed"));
        assert!(numbering.positions(&LayerSet::from([6])).unwrap_err().to_string().contains("no layer 6"));
        assert!(numbering.originals(&LayerSet::from([3])).is_err());
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_are_inverse(layers in proptest::collection::btree_set(0usize..40, 1..39)) {
            let layers: LayerSet = layers.into_iter().collect();
            prop_assert_eq!(LayerSet::parse(&layers.to_string(), 40).unwrap(), layers);
        }

        #[test]
        fn any_text_is_parsed_or_refused(spec in "[0-9, xé-]{0,40}") {
            if let Err(error) = LayerSet::parse(&spec, 12) {
                prop_assert!(matches!(error, crate::Error::Input(_)));
            }
        }
    }
}
