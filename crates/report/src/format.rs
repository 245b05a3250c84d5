//! Numbers for a reader. What is undefined is a dash, never `NaN`.

/// Shown for a number that there is not.
pub const NONE: &str = "–";

/// A share as a percentage with `digits` decimals and no sign: `93.1`.
pub fn percent(share: f64, digits: usize) -> String {
    if share.is_finite() { format!("{:.digits$}", share * 100.0) } else { NONE.into() }
}

/// An interval of shares in whole per cent: `88–96`. Rounded outwards, so that it never looks
/// narrower than it is.
pub fn percent_interval(ci: [f64; 2]) -> String {
    if !ci[0].is_finite() || !ci[1].is_finite() {
        return NONE.into();
    }
    // A hair inwards first: 0.93 × 100 is 93.00000000000001.
    let [low, high] = [(ci[0] * 100.0 + 1e-9).floor(), (ci[1] * 100.0 - 1e-9).ceil()];
    // A hyphen would read as the dash of the interval.
    format!("{low}–{high}").replace('-', "−")
}

/// A number with about three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => NONE.into(),
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{value:.1e}"),
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        a if a >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A value in [`short`] with its interval, if there is one.
pub fn short_with_interval(value: Option<f64>, ci95: Option<[f64; 2]>) -> String {
    let Some(value) = value else { return NONE.into() };
    let ends = ci95.map(|[low, high]| format!(" <span class=\"ci\">[{}–{}]</span>", short(low), short(high)));
    short(value) + &ends.unwrap_or_default()
}

/// A count with a unit letter: `4.2M`.
pub fn count(value: u64) -> String {
    let v = value as f64;
    match value {
        0..=9_999 => value.to_string(),
        10_000..=999_499 => format!("{:.0}k", v / 1e3),
        999_500..=999_499_999 => format!("{:.1}M", v / 1e6),
        _ => format!("{:.1}B", v / 1e9),
    }
}

/// An estimate of a number of items: two digits, rounded up.
pub fn about(items: usize) -> usize {
    let unit = 10usize.pow(items.max(1).ilog10().saturating_sub(1));
    items.div_ceil(unit).saturating_mul(unit)
}

/// Bytes with a unit: `4.2 GB`.
pub fn bytes(value: u64) -> String {
    let v = value as f64;
    match value {
        0..=9_999 => format!("{value} B"),
        10_000..=999_499 => format!("{:.0} kB", v / 1e3),
        999_500..=999_499_999 => format!("{:.1} MB", v / 1e6),
        _ => format!("{:.2} GB", v / 1e9),
    }
}

/// A duration: `3.2 s`, `2 min 5 s`, `1 h 4 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NONE.into();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_and_undefined_ones_are_dashes() {
        assert_eq!(percent(0.931, 1), "93.1");
        assert_eq!(percent(f64::NAN, 1), NONE);
        assert_eq!(percent_interval([0.881, 0.952]), "88–96");
        assert_eq!(percent_interval([0.93, 1.0]), "93–100");
        assert_eq!(percent_interval([f64::NAN, 1.0]), NONE);
        assert_eq!(percent_interval([-0.051, 0.21]), "−6–21");
        let with = short_with_interval(Some(2.1), Some([1.98, 12.0]));
        assert_eq!(with, "2.10 <span class=\"ci\">[1.98–12.0]</span>");
        assert_eq!([short_with_interval(Some(2.1), None), short_with_interval(None, None)], ["2.10", NONE]);
        assert_eq!([short(0.01234), short(1.5), short(f64::INFINITY), short(1e-5)], ["0.012", "1.50", NONE, "1.0e-5"]);
        assert_eq!([count(999), count(12_345), count(999_600), count(7_600_000_000)], ["999", "12k", "1.0M", "7.6B"]);
        assert_eq!(
            [duration(3.21), duration(59.96), duration(125.0), duration(3840.0)],
            ["3.2 s", "1 min 0 s", "2 min 5 s", "1 h 4 min"]
        );
        assert_eq!(duration(f64::NAN), NONE);
        assert_eq!([about(7), about(412), about(0), about(usize::MAX)], [7, 420, 0, usize::MAX]);
        assert_eq!([bytes(720), bytes(8_400_000), bytes(15_230_000_000)], ["720 B", "8.4 MB", "15.23 GB"]);
    }
}
